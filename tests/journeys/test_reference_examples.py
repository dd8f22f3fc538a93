"""Each documented example of the API, sent as it is printed, to a whole installation with workers (C-PLUS-4).

Examples whose pictures or recordings lie on example.com are left out: nothing is there to fetch, and the checks of
references have tests of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from core.money import MICROCREDITS_PER_CREDIT as CREDIT
from jobs.models import Job
from keys.models import ApiKey
from orgs.models import Workspace
from tests import factories
from tests.journeys.installation import Installation
from tests.support import http
from tests.support.gateway import wait_for
from tests.support.http import Reply
from tests.support.money import Payer
from tests.webhooks.receivers import receiver
from usage.models import RequestLog
from webhooks import default_secret, signing

SECONDS = 120.0


class Reader:
    """Somebody who copies examples, with their own key in them."""

    def __init__(self, installation: Installation) -> None:
        self.port = urlsplit(installation.url).port or 0
        user = factories.user()
        self.workspace: Workspace = user.personal_workspace
        issued = factories.api_key(self.workspace, created_by=user)
        self.secret = issued.secret
        self.payer = Payer(user, self.workspace, ApiKey.objects.get(pk=issued.key.pk))
        self.payer.give(100_000 * CREDIT)

    def send(self, method: str, path: str, body: Any = None, *, header: str = "authorization") -> Reply:
        value = f"Bearer {self.secret}" if header == "authorization" else self.secret
        return http.send(self.port, method, path, body, {header: value}, timeout=SECONDS)

    def charged(self, reply: Reply) -> int:
        """Microcredits of the log's row of an answer, once it is there."""
        rows = RequestLog.objects.filter(request_id=reply.headers["x-request-id"])
        wait_for(rows.exists, SECONDS)
        return int(rows.get().charged_microcredits)

    def until_ready(self, path: str) -> None:
        """Wait for a deployment."""
        wait_for(lambda: self.send("GET", path).json["status"] == "ready", SECONDS)

    def until_over(self, path: str, finals: tuple[str, ...] = ("succeeded", "failed", "expired")) -> Any:
        """What a poll tells at the end."""
        told: dict[str, Any] = {}

        def over() -> bool:
            told.update(self.send("GET", path).json)
            return told["status"] in finals

        wait_for(over, SECONDS)
        return told


@pytest.fixture(scope="module")
def _workers(_installation: Installation) -> Iterator[None]:
    with _installation.workers():
        yield


@pytest.fixture
def reader(installation: Installation, _workers: None) -> Reader:
    return Reader(installation)


def test_chat(reader: Reader) -> None:
    body = {"model": "gpt-5.5", "messages": [{"role": "user", "content": "Say hi in one word."}]}
    reply = reader.send("POST", "/api/v1/chat/completions", body)
    assert reply.status == 200
    assert reply.json["choices"][0]["message"]["content"]
    assert reader.charged(reply) > 0


def test_chat_streamed(reader: Reader) -> None:
    system = {"role": "system", "content": "You are a terse assistant."}
    user = {"role": "user", "content": "Two-line haiku about caches."}
    body = {"model": "gpt-5.5", "messages": [system, user], "stream": True, "max_tokens": 256}
    reply = reader.send("POST", "/api/v1/chat/completions", body)
    *_, last, done = reply.events
    assert (reply.status, done) == (200, "[DONE]")
    assert last["usage"]["completion_tokens"] > 0
    assert reader.charged(reply) > 0


def test_messages(reader: Reader) -> None:
    body = {
        "model": "claude-sonnet-4-6",
        "max_tokens": 1024,
        "system": [
            {
                "type": "text",
                "text": "You are a senior TypeScript refactoring assistant.",
                "cache_control": {"type": "ephemeral"},
            }
        ],
        "messages": [{"role": "user", "content": "Plan a 3-step refactor of a Next.js app."}],
        "hypereal": {"cache": "auto"},
    }
    reply = reader.send("POST", "/v1/messages", body, header="x-api-key")
    assert (reply.status, reply.json["type"]) == (200, "message")
    assert reply.json["content"][0]["text"]
    assert reader.charged(reply) > 0


def test_responses(reader: Reader) -> None:
    text = "Write a TypeScript function that debounces a callback."
    reply = reader.send("POST", "/api/v1/responses", {"model": "gpt-5.1-codex", "input": text, "stream": True})
    assert (reply.status, reply.events[-1]["type"]) == (200, "response.completed")
    assert reader.charged(reply) > 0


@pytest.mark.parametrize(
    "body",
    [
        {
            "model": "gemini-3.5-thinking",
            "contents": [{"role": "user", "parts": [{"text": "Outline a launch plan."}]}],
            "generationConfig": {"temperature": 0.6, "maxOutputTokens": 2048},
        },
        {"model": "gemini-3.5-fast", "contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
    ],
    ids=["thinking", "fast"],
)
def test_gemini(reader: Reader, body: Any) -> None:
    reply = reader.send("POST", "/api/v1/gemini", body, header="x-goog-api-key")
    assert reply.status == 200
    assert reply.json["candidates"][0]["content"]["parts"]
    assert reader.charged(reply) > 0


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "/api/v1/images/generations",
            {
                "model": "nano_banana_pro",
                "prompt": "isometric studio shot of a tiny cyberpunk apartment, neon rim light",
                "n": 1,
                "size": "1024x1024",
            },
        ),
        (
            "/api/v1/images/generations",
            {
                "model": "gemini-3-pro-image-preview",
                "prompt": "a chrome teapot floating over the ocean at sunset",
                "n": 1,
            },
        ),
        (
            "/api/v1/images/generations",
            {
                "model": "gpt-image-2",
                "prompt": "a chrome teapot floating over the ocean at sunset",
                "size": "1536x1024",
            },
        ),
        (
            "/api/v1/images/generations",
            {
                "model": "gemini-3-1-flash-t2i",
                "prompt": "A cinematic portrait in neon light",
                "aspect_ratio": "16:9",
            },
        ),
        ("/v1/images/generate", {"intent": "text-to-image-fast", "prompt": "a quiet sunrise over Mt Fuji"}),
        ("/v1/images/generate", {"model": "nano-banana-t2i", "prompt": "a quiet sunrise over Mt Fuji"}),
    ],
    ids=["nano_banana_pro", "gemini-3-pro", "gpt-image-2", "gemini-3-1-flash", "intent", "pinned"],
)
def test_pictures(reader: Reader, path: str, body: Any) -> None:
    reply = reader.send("POST", path, body)
    assert reply.status == 200, reply.body
    [picture] = reply.json["data"]
    assert picture.get("url") or picture.get("b64_json")
    assert reader.charged(reply) > 0
    if "url" in picture:
        split = urlsplit(picture["url"])
        fetched = http.send(split.port or 0, "GET", f"{split.path}?{split.query}")
        assert (fetched.status, fetched.headers["content-type"]) == (200, "image/png")


@pytest.mark.parametrize("model", ["gemini_omni_flash", "seedance-2-0-turbo-t2v", "seedance-2-0-t2v", "seedance-2-0"])
def test_clips(reader: Reader, model: str) -> None:
    body = {
        "model": model,
        "prompt": "a white cube rotating on a black background, clean product demo",
        "duration": 6,
        "aspect_ratio": "16:9",
        "resolution": "720P",
    }
    reply = reader.send("POST", "/api/v1/videos/generate", body)
    assert (reply.status, reply.json["status"]) == (202, "queued"), reply.body
    assert reply.json["pollUrl"].startswith("/")
    told = reader.until_over(f"/v1/jobs/{reply.json['jobId']}")
    assert (told["status"], told["error"]) == ("succeeded", None)
    assert told["data"][0]["url"].startswith("http")
    assert told["costCredits"] * CREDIT == reader.charged(reply) > 0


def test_speech(reader: Reader) -> None:
    text = "Welcome to Hypereal. One key, every model."
    body = {"model": "audio-tts", "text": text, "voice_id": "en_male_calm"}
    reply = reader.send("POST", "/api/v1/audio/generations", body)
    assert reply.status == 200, reply.body
    assert reply.json["data"][0]["url"].startswith("http")
    assert reader.charged(reply) > 0


def test_a_deployment_of_the_sample_and_a_run_on_it(reader: Reader) -> None:
    """As the example of a ComfyUI worker, with the image that this machine can run."""
    body = {
        "slug": "my-comfy-workflow",
        "name": "My Comfy",
        "dockerImage": "hypereal/sample",
        "gpuTypes": "ADA_48_PRO,AMPERE_80",
    }
    made = reader.send("POST", "/v1/deployments", body)
    assert (made.status, made.json["slug"], made.json["gpuTypes"]) == (201, body["slug"], body["gpuTypes"]), made.body
    reader.until_ready("/v1/deployments/my-comfy-workflow")
    asked = {
        "input": {
            "prompt": "a cinematic portrait of an astronaut",
            "seed": 42,
            "workflow_overrides": {"Sampler.steps": 30},
        }
    }
    run = reader.send("POST", "/v1/gpu/run/my-comfy-workflow", asked)
    assert (run.status, set(run.json) >= {"job_id", "status", "provider_job_id"}) == (202, True), run.body
    told = reader.until_over(f"/v1/gpu/jobs/{run.json['job_id']}")
    assert (told["status"], told["creditsCharged"] * CREDIT) == ("succeeded", reader.charged(run))
    inline = reader.send("POST", "/v1/gpu/run/my-comfy-workflow", {**asked, "sync": True})
    assert (inline.status, inline.json["status"]) == (200, "succeeded")
    assert reader.send("DELETE", "/v1/deployments/my-comfy-workflow").status in (200, 204)


def test_a_deployments_server_is_told_what_became_of_its_runs(reader: Reader) -> None:
    """Signed, and verified by a library that no one here wrote; what failed is told too and costs nothing."""
    with receiver() as server:
        body = {
            "slug": "told",
            "name": "Told",
            "dockerImage": "hypereal/sample",
            "gpuTypes": ["AMPERE_16"],
            "webhookUrl": server.url,
        }
        assert reader.send("POST", "/v1/deployments", body).status == 201
        reader.until_ready("/v1/deployments/told")
        good = reader.send("POST", "/v1/gpu/run/told", {"input": {"prompt": "well"}})
        bad = reader.send("POST", "/v1/gpu/run/told", {"input": {"mode": "fail"}})
        for run in (good, bad):
            reader.until_over(f"/v1/gpu/jobs/{run.json['job_id']}")
        wanted = {good.json["job_id"]: "job.succeeded", bad.json["job_id"]: "job.failed"}
        secret = signing.current(default_secret.of(reader.workspace.pk))

        def told() -> dict[str, str]:
            messages = [request.verified(secret) for request in server.requests]
            return {message["data"]["jobId"]: message["type"] for message in messages if "jobId" in message["data"]}

        wait_for(lambda: told() == wanted, SECONDS)
    assert (reader.charged(good) > 0, reader.charged(bad)) == (True, 0)
    assert reader.send("DELETE", "/v1/deployments/told").status in (200, 204)


def test_hosted_models(reader: Reader) -> None:
    inline = reader.send("POST", "/v1/gpu/sdxl", {"input": {"prompt": "a tabby cat astronaut"}})
    assert (inline.status, inline.json["status"]) == (200, "succeeded"), inline.body
    assert inline.json["outputs"][0].startswith("http")
    assert inline.json["costCredits"] * CREDIT == reader.charged(inline) > 0
    queued = reader.send("POST", "/v1/gpu/wan-video", {"input": {"prompt": "drone over Tokyo", "seconds": 5}})
    assert (queued.status, queued.json.get("status")) == (202, "queued"), queued.body
    assert queued.json["pollUrl"].startswith("/v1/gpu/jobs/")
    told = reader.until_over(queued.json["pollUrl"])
    assert (told["status"], bool(told["outputs"]), told["durationMs"] > 0) == ("succeeded", True, True)


def test_the_retired_address_names_the_new_one(reader: Reader) -> None:
    reply = reader.send("POST", "/v1/comfy/run", {})
    assert reply.status == 410
    assert "/v1/gpu/run/{slug}" in reply.error["message"]


def test_nothing_is_left_open(reader: Reader) -> None:
    """Last of the file: whatever these examples began has ended."""
    assert not Job.objects.filter(workspace=reader.workspace, finished_at__isnull=True).exists()
    still = Job.objects.filter(finished_at__isnull=True, stop_due=False, kind__in=("videos", "gpu"))
    wait_for(lambda: not still.exists(), SECONDS)

"""Every recorded chat completion, through the relay, the JSON reader and the collector, to the billed tokens."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.upstreams.exchanges import objects
from upstreams import chat_collect, classify, openai
from upstreams.chat_relay import Relay
from upstreams.errors import AccountRefused, UpstreamError, UpstreamRefusal
from upstreams.wire import Usage

FOLDER = Path(os.environ.get("HYPEREAL_RECORDINGS") or Path(__file__).parents[3] / "shared" / "fixtures" / "upstream")
INDEX = FOLDER / "index.json"

pytestmark = [
    pytest.mark.recordings,
    pytest.mark.skipif(not INDEX.exists(), reason=f"no recordings at {FOLDER} (set HYPEREAL_RECORDINGS)"),
]


def entries(*, stream: bool | None = None, failed: bool = False) -> list[Any]:
    if not INDEX.exists():
        return []
    index = json.loads(INDEX.read_text(encoding="utf-8"))
    found = [entry for entry in index["fixtures"] if entry["endpoint"] == "chat.completions"]
    found = [entry for entry in found if (entry["status"] != 200) is failed]
    return [pytest.param(e, id=e["id"]) for e in found if stream is None or ("sse" in response_of(e)) is stream]


def response_of(entry: dict[str, Any]) -> dict[str, Any]:
    recording: dict[str, Any] = json.loads((FOLDER / f"{entry['id']}.json").read_text(encoding="utf-8"))
    response: dict[str, Any] = recording["response"]
    return response


def body_of(response: dict[str, Any]) -> bytes:
    return json.dumps(response["body"]).encode() if "body" in response else response["text"].encode()


def check(usage: Usage | None, billed: dict[str, Any] | None) -> None:
    """Without usage upstream nothing is expected but that nobody invents any."""
    if billed is None:
        assert usage is None or usage.estimated
        return
    assert usage is not None and not usage.estimated
    assert {
        "input_tokens": usage.input_tokens,
        "input_uncached": usage.uncached_input_tokens,
        "cache_read": usage.cached_input_tokens,
        "output_tokens": usage.output_tokens,
    } == {name: billed[name] for name in ("input_tokens", "input_uncached", "cache_read", "output_tokens")}
    assert usage.cache_write_5m_tokens == billed.get("cache_write", 0)
    assert usage.reasoning_tokens == billed.get("reasoning_in_output", 0)


@pytest.mark.parametrize("entry", entries(stream=False))
def test_json_answers(entry: dict[str, Any]) -> None:
    check(openai.complete(body_of(response_of(entry))), entry["billed"])


@pytest.mark.parametrize("wants_usage", [True, False], ids=["asked", "not-asked"])
@pytest.mark.parametrize("step", [1, 37, 10**6])
@pytest.mark.parametrize("entry", entries(stream=True))
def test_streams(entry: dict[str, Any], step: int, wants_usage: bool) -> None:
    stream = "".join(response_of(entry)["sse"]).encode()
    relay = Relay(client_wants_usage=wants_usage)
    sent = b"".join(b"".join(relay.feed(stream[i : i + step])) for i in range(0, len(stream), step))
    sent += b"".join(relay.end_of_stream())
    check(relay.usage, entry["billed"])
    assert stream.startswith(sent), "what goes through goes through unchanged"
    if "error_in_stream" in entry["tags"] or entry["id"].endswith("stream-error"):
        assert isinstance(relay.error, UpstreamError)
        return
    assert relay.error is None
    if "cut" in entry["tags"]:
        assert not relay.finished
        return
    assert relay.finished
    check_end(objects(sent + b"".join(relay.close(relay.billable_usage(5)))), wants_usage)


def check_end(values: list[Any], wants_usage: bool) -> None:
    assert values[-1] == "[DONE]"
    shown = [value for value in values[:-1] if isinstance(value.get("usage"), dict)]
    if wants_usage:
        assert len([value for value in shown if not value["choices"]]) == 1
    else:
        assert shown and all(value["choices"] for value in shown)


@pytest.mark.parametrize("entry", entries(stream=True))
def test_streams_collected_into_json(entry: dict[str, Any]) -> None:
    stream = "".join(response_of(entry)["sse"]).encode()
    if "cut" in entry["tags"] or "error_in_stream" in entry["tags"] or entry["id"].endswith("stream-error"):
        with pytest.raises(UpstreamError):
            chat_collect.collect(stream)
        return
    answer = chat_collect.collect(stream)
    check(openai.complete(answer), entry["billed"])
    message = json.loads(answer)["choices"][0]["message"]
    assert any(value for name, value in message.items() if name != "role")


@pytest.mark.parametrize("entry", entries(failed=True))
def test_failures(entry: dict[str, Any]) -> None:
    response = response_of(entry)
    failure = classify.refuse(entry["status"], response["headers"], body_of(response))
    if "retryable" in entry["tags"]:
        assert failure.retry_same_target
    if "not_retryable_same_upstream" in entry["tags"] or entry["status"] == 401:
        assert isinstance(failure, AccountRefused)
    if entry["status"] in (400, 404):
        assert isinstance(failure, UpstreamRefusal) and failure.status == entry["status"]
    if wait := response["headers"].get("retry-after"):
        assert failure.retry_after == float(wait)

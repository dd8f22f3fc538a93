"""The sandbox's sounds, and the reference's own examples against a gateway that has nobody else."""

from __future__ import annotations

import io
import sys
import wave
from collections.abc import Iterator

import pytest
from django.db import transaction
from openai import OpenAI
from tinytag import TinyTag

from catalog import prices
from catalog.models import Model, Provider
from hypereal_site import processes
from storage import objects
from storage.models import StoredObject
from tests.audio.conftest import CLONES, FLAT, PRICE, SPEAKS, WRITES
from tests.support import ports
from tests.support.gateway import ROOT, Caller, Gateway
from upstreams.audio import WAV, Recording
from upstreams.sandbox import audio as sandbox

#: Body by body as the reference prints them.
EXAMPLES = {
    "audio-tts": {
        "model": "audio-tts", "text": "Welcome to Hypereal. One key, every model.", "voice_id": "en_male_calm",
    },
    "audio-clone": {
        "model": "audio-clone", "text": "This is my cloned voice.", "audio": "https://example.com/reference-30s.mp3",
    },
    "audio-asr": {"model": "audio-asr", "audio": "https://example.com/recording.mp3"},
}  # fmt: skip


def length_of(file: bytes) -> float:
    with wave.open(io.BytesIO(file)) as reader:
        return reader.getnframes() / reader.getframerate()


def test_the_same_text_is_the_same_melody() -> None:
    text = "One key, every model"
    assert sandbox.melody(text, "nova") == sandbox.melody(text, "nova")
    assert sandbox.melody(text, "nova") != sandbox.melody("Another text altogether", "nova")
    assert 0.5 < length_of(sandbox.wav(sandbox.melody(text, "nova"))) < 2.0


@pytest.mark.parametrize("text", ["x", "…", "好的", "word " * 5000], ids=["letter", "sign", "Chinese", "long"])
def test_any_text_sounds_and_none_for_ever(text: str) -> None:
    assert 0.05 < length_of(sandbox.wav(sandbox.melody(text, ""))) < 60


def test_the_sample_lasts_half_a_minute() -> None:
    assert length_of(sandbox.sample()) == 30.0


def test_a_transcript_says_how_long_it_was() -> None:
    told = sandbox.transcript(sandbox.sample(), {"response_format": "verbose_json"})
    assert (told["duration"], len(told["segments"]), told["segments"][-1]["end"]) == (30.0, 6, 30.0)
    assert sandbox.transcript(b"RIFF no file", {})["usage"]["seconds"] == 1


@pytest.fixture(scope="module")
def sandbox_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The sandbox as the demo starts it."""
    port = ports.free_port()
    log = tmp_path_factory.mktemp("sandbox") / "log"
    command = [sys.executable, "-m", "upstreams.sandbox", "--speed", "0", "--port", str(port)]
    process = processes.spawn(command, log=log, directory=ROOT)
    assert processes.wait_until(lambda: processes.answers(port), 120.0, every=0.05)
    yield port
    process.terminate()
    process.wait(60)


@pytest.fixture
def demo(gateway: Gateway, sandbox_port: int) -> Caller:
    """Somebody on an installation where the reference's audio models have only the sandbox."""
    server = gateway.with_settings(SANDBOX_BASE_URL=f"http://127.0.0.1:{sandbox_port}/v1")
    provider, _ = Provider.objects.get_or_create(
        slug="sandbox",
        defaults={"name": "Sandbox", "adapter": "openai", "kinds": ["chat", "audio"], "options": {"auth": "none"}},
    )
    if "audio" not in provider.kinds:
        provider.kinds = [*provider.kinds, "audio"]
        provider.save()
    for slug, can in (("audio-tts", SPEAKS), ("audio-clone", CLONES), ("audio-asr", WRITES)):
        if not Model.objects.filter(slug=slug).exists():
            with transaction.atomic():  # no gateway may see it without its price
                model = Model.objects.create(slug=slug, name=slug, vendor=provider, endpoints=["audio"], **can)
                prices.publish(model, FLAT, list_rates=FLAT, factor_basis_points=10_000)
        gateway.until_known(slug)
    return gateway.caller(server=server)


def test_the_references_example_speaks(demo: Caller) -> None:
    reply = demo.send("POST", "/api/v1/audio/generations", EXAMPLES["audio-tts"])
    assert reply.status == 200, reply.body
    assert reply.json["data"][0]["content_type"] == "audio/wav"
    row = StoredObject.objects.get(workspace_id=demo.workspace.pk)
    with objects.open_bytes(row) as file:
        assert length_of(file.read()) > 1.0
    assert demo.settled_books().transfers == [PRICE]


def test_the_references_example_clones(demo: Caller) -> None:
    reply = demo.send("POST", "/api/v1/audio/generations", EXAMPLES["audio-clone"])
    assert reply.status == 200, reply.body
    assert reply.headers["x-hypereal-sandbox"] == "1"
    assert demo.settled_books().transfers == [PRICE]


def test_the_references_example_writes(demo: Caller) -> None:
    reply = demo.send("POST", "/api/v1/audio/generations", EXAMPLES["audio-asr"])
    assert reply.status == 200, reply.body
    assert reply.json["duration"] == 30.0
    assert reply.json["text"].startswith("The sandbox heard part 1")
    assert demo.settled_books().transfers == [PRICE]


def test_other_addresses_are_fetched_by_the_sandbox_too(demo: Caller) -> None:
    """Only what is kept for examples stands for a recording."""
    for url in ("https://example.com.attacker.test/a.mp3", "https://127.0.0.1/example.com/a.mp3"):
        reply = demo.send("POST", "/api/v1/audio/generations", {"model": "audio-asr", "audio": url})
        assert (reply.status, reply.error["param"]) == (400, "audio")


def test_the_official_sdk_hears_the_sandbox(demo: Caller) -> None:
    sdk = OpenAI(api_key=demo.secret, base_url=f"http://127.0.0.1:{demo.port}/v1", max_retries=0)
    spoken = sdk.audio.speech.create(model="audio-tts", voice="alloy", input="Hello there").read()
    written = sdk.audio.transcriptions.create(model="audio-asr", file=("a.wav", spoken))
    assert written.text.startswith("The sandbox heard part 1")
    assert demo.settled_books(2).transfers == [PRICE, PRICE]


def test_samples_are_whole_files() -> None:
    """Other libraries read them, and so does what measures recordings here."""
    tag = TinyTag.get(filename="a.wav", file_obj=io.BytesIO(sandbox.sample()))
    assert (tag.duration, tag.samplerate, tag.channels) == (30.0, sandbox.HERTZ, 1)
    assert Recording(sandbox.sample(), WAV, 30.0).filename == "audio.wav"

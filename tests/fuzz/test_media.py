"""Pictures and sound, asked for in bodies that nobody would write: no failure of our own, and no hold left open."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.pricing import Rates
from tests.audio.conftest import BY_CHARACTER, BY_SECOND, CLONES, SPEAKS, WRITES
from tests.fakes import fish
from tests.fuzz import bodies, media_bodies
from tests.fuzz.test_gateway import BOUNDED
from tests.images.provider import MEDIA, RATES, draws
from tests.support.gateway import CREDIT, Gateway
from upstreams.sandbox import audio as sandbox
from upstreams.sandbox.server import Bytes, Whole

#: A refusal by the provider has whatever status the provider gave it.
EXPECTED = {200, 400, 402, 413, 422}
#: By a name: the path, whether the body is a form, what the model can do, its price and who serves it.
CASES: dict[str, tuple[str, bool, dict[str, Any], Rates, Callable[[], Any]]] = {
    "speech": ("audio/speech", False, SPEAKS, BY_CHARACTER, fish.answers),
    "spoken text": ("audio/generations", False, SPEAKS, BY_CHARACTER, fish.answers),
    "a cloned voice": ("audio/generations", False, CLONES, BY_CHARACTER, fish.answers),
    "a cloned voice, as a form": ("audio/generations", True, CLONES, BY_CHARACTER, fish.answers),
    "a recording": ("audio/generations", False, WRITES, BY_SECOND, fish.answers),
    "a recording, as JSON": ("audio/transcriptions", False, WRITES, BY_SECOND, fish.answers),
    "a recording, as a form": ("audio/transcriptions", True, WRITES, BY_SECOND, fish.answers),
    "pictures": ("images/generations", False, {"media": MEDIA}, RATES, draws),
    "edited pictures": ("images/edits", False, {"media": MEDIA}, RATES, draws),
    "edited pictures, as a form": ("images/edits", True, {"media": MEDIA}, RATES, draws),
}


@pytest.mark.parametrize("name", CASES)
def test_any_body_gets_an_answer_and_its_hold_ends(gateway: Gateway, name: str, figures: Callable[[str], None]) -> None:
    path, as_form, can, rates, served = CASES[name]
    kind, adapter = ("audio", "fish") if path.startswith("audio") else ("images", "openai")
    columns = {"max_output_tokens": None, "default_max_output_tokens": None, **can}
    model = gateway.model(served(), kind=kind, adapter=adapter, rates=rates, **columns)
    caller = gateway.caller(credits=100_000, server=gateway.with_settings(RATE_LIMIT_PER_MINUTE="1000000"))
    content_type = f"multipart/form-data; boundary={media_bodies.BOUNDARY}" if as_form else "application/json"
    statuses: list[int] = []

    @BOUNDED
    @given(media_bodies.forms(path) if as_form else media_bodies.json_bodies(path, ("audio",) if can is SPEAKS else ()))
    def ask(body: bytes) -> None:
        reply = caller.send(
            "POST", f"/v1/{path}", body.replace(bodies.MODEL.encode(), model.encode()), content_type=content_type
        )
        statuses.append(reply.status)
        assert reply.status in EXPECTED, (reply.status, reply.body, body)
        if reply.status != 200:
            error = json.loads(reply.body)["error"]
            assert error["message"] and error["type"]

    ask()
    books = caller.settled_books(rows=0)
    assert (books.held, books.meter_held) == (0, 0)
    assert "pending" not in books.holds
    assert books.balance == 100_000 * CREDIT - books.charged
    figures(f"fuzzed {name}: " + ", ".join(f"{statuses.count(each)} × {each}" for each in sorted(set(statuses))))
    assert 400 in statuses and 200 in statuses


async def test_the_sandbox_of_sound_answers_any_body() -> None:
    """An exception here would be a provider that hangs up."""
    spoken: list[bytes] = []
    heard: list[bytes] = []

    @BOUNDED
    @given(
        media_bodies.json_bodies("audio/speech"), media_bodies.forms("audio/transcriptions") | st.binary(max_size=80)
    )
    def make(body: bytes, form: bytes) -> None:
        spoken.append(body)
        heard.append(form)

    make()
    for body in spoken:
        answer = await sandbox.Speech().answer(body)
        assert isinstance(answer, Bytes) or (isinstance(answer, Whole) and answer.status == 400), body
    for form in heard:
        written = await sandbox.Transcriptions().answer(form)
        assert isinstance(written, Whole) and written.status in (200, 400), form

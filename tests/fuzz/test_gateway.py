"""Bodies that nobody would write: the real gateway answers each in its format, with no failure of its own, and no hold
of any of them stays open. ``FUZZ_EXAMPLES=5000 make test ARGS=tests/fuzz`` takes longer and other bodies.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.fakes.upstream import Conversation
from tests.faults.formats import CHAT, EMBEDDINGS, MESSAGES, RESPONSES
from tests.fuzz import bodies
from tests.support.gateway import CREDIT, Gateway
from tests.support.http import Reply
from upstreams.sandbox import chat, embeddings, gemini, messages, responses
from upstreams.sandbox.plans import Planner

ENDPOINTS = {
    "chat/completions": CHAT,
    "messages": MESSAGES,
    "messages/count_tokens": MESSAGES,
    "responses": RESPONSES,
    "embeddings": EMBEDDINGS,
}
#: The suite's share; a night of fuzzing sets more.
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))
#: Bodies that change from run to run belong to nights: in the suite the same ones come every time.
BOUNDED = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="FUZZ_EXAMPLES" not in os.environ,
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
#: What a body can get: an answer, its own fault, or more than the wallet has.
EXPECTED = {200, 400, 402, 413}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_any_body_gets_an_answer_of_its_format(gateway: Gateway, endpoint: str, figures: Callable[[str], None]) -> None:
    spoken = ENDPOINTS[endpoint]

    async def well(talk: Conversation) -> None:
        if "count_tokens" in talk.seen.path:
            await talk.json({"input_tokens": 5})
        elif isinstance(talk.body, dict):
            await spoken.well(talk)

    limits: dict[str, Any] = {} if spoken.streams else {"max_output_tokens": None, "default_max_output_tokens": None}
    model = gateway.model(well, kind=spoken.kind, adapter=spoken.adapter, rates=spoken.rates, **limits)
    caller = gateway.caller(credits=100_000, server=gateway.with_settings(RATE_LIMIT_PER_MINUTE="1000000"))
    statuses: list[int] = []

    @BOUNDED
    @given(bodies.bodies(endpoint))
    def ask(body: bytes) -> None:
        body = body.replace(bodies.MODEL.encode(), model.encode())
        reply = caller.send("POST", f"/v1/{endpoint}", body)
        statuses.append(reply.status)
        assert reply.status in EXPECTED, (reply.status, reply.body, body)
        check_form(reply, messages=endpoint.startswith("messages"))

    ask()
    books = caller.settled_books(rows=0)
    assert (books.held, books.meter_held) == (0, 0)
    assert "pending" not in books.holds
    assert books.balance == 100_000 * CREDIT - books.charged
    told = ", ".join(f"{statuses.count(status)} × {status}" for status in sorted(set(statuses)))
    figures(f"fuzzed {endpoint}: {told}")
    assert 400 in statuses and 200 in statuses


def check_form(reply: Reply, *, messages: bool) -> None:
    """JSON or a stream for a success, the format's error otherwise."""
    kind = reply.headers["content-type"].partition(";")[0]
    if reply.status == 200 and kind == "text/event-stream":
        assert reply.body.endswith(b"\n\n")
        return
    assert kind == "application/json"
    answer = json.loads(reply.body)
    if reply.status != 200:
        assert isinstance(answer["error"]["message"], str) and answer["error"]["message"]
        assert isinstance(answer["error"]["type"], str)
        assert (answer.get("type") == "error") == messages


SANDBOX: dict[str, Callable[[], Any]] = {
    "chat/completions": lambda: chat.Endpoint(Planner(), speed=0),
    "messages": lambda: messages.Endpoint(Planner(), speed=0),
    "messages/count_tokens": messages.Count,
    "responses": lambda: responses.Endpoint(Planner(), speed=0),
    "embeddings": embeddings.Endpoint,
    "generateContent": lambda: gemini.Endpoint(Planner(), speed=0),
}


@pytest.mark.parametrize("endpoint", SANDBOX)
async def test_the_sandbox_answers_any_body(endpoint: str) -> None:
    """An exception here would be a provider that hangs up."""
    answering = SANDBOX[endpoint]()
    made: list[bytes] = []

    @settings(BOUNDED, max_examples=EXAMPLES * 3)
    @given(bodies.bodies(endpoint))
    def make(body: bytes) -> None:
        made.append(body)

    make()
    for body in made:
        if endpoint == "generateContent":  # the one whose path says the model
            answer = await answering.answer_at("/v1beta/models/gemini-x:generateContent", body)
        else:
            answer = await answering.answer(body)
        if hasattr(answer, "events"):
            sent = b"".join([event async for event in answer.events])
            assert sent.endswith(b"\n\n")
        else:
            assert answer.status in (200, 400), body

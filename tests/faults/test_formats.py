"""Format × fault: what the caller is told, whether the next target is asked, and what wallet, log and ledger show."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_django

from tests.fakes.upstream import Behaviour, Conversation, Route
from tests.faults.formats import FORMATS, PRIVATE, Format
from tests.support import http
from tests.support.gateway import CREDIT, QUICK, Caller, Gateway
from tests.support.http import Reply

CREDITS = 400
HTML = b"<html><body>Bad gateway</body></html>"
#: What gateways know of a provider that falls silent.
SILENT: dict[str, Any] = {"first_byte_seconds": 2, "idle_seconds": 3}


@dataclass(frozen=True)
class Fault:
    """What a provider does to every call, and what comes of it.

    ``attempts``: how often a target is asked before the next one is. ``status`` and ``type`` are what the caller of a
    model with this target alone is told.
    """

    name: str
    behaviour: Callable[[Format], Behaviour]
    status: int
    type: str
    attempts: int = 2
    streams: tuple[bool, ...] = (False, True)

    @property
    def options(self) -> dict[str, Any]:
        """What gateways know of the provider."""
        return SILENT if self.behaviour is hangs else {}

    def __str__(self) -> str:
        return self.name


# ── what a provider may do ───────────────────────────────────────────────────────────────────────────────────────────
def answers(status: int, kind: str, **headers: str) -> Callable[[Format], Behaviour]:
    """An error in the format's own shape."""

    def of(spoken: Format) -> Behaviour:
        async def behave(talk: Conversation) -> None:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            await talk.json(spoken.error(kind), status, named)

        return behave

    return of


def sends(body: bytes, status: int = 200, content_type: str = "application/json") -> Callable[[Format], Behaviour]:
    """The same bytes, whatever the format."""

    async def behave(talk: Conversation) -> None:
        await talk.json(body, status, {"content-type": content_type})

    return lambda spoken: behave


def hangs(spoken: Format) -> Behaviour:
    async def behave(talk: Conversation) -> None:
        await talk.gone()

    return behave


def cuts(spoken: Format) -> Behaviour:
    async def behave(talk: Conversation) -> None:
        await talk.start("text/event-stream" if talk.body.get("stream") else "application/json")
        talk.cut()

    return behave


def ends_empty(spoken: Format) -> Behaviour:
    async def behave(talk: Conversation) -> None:
        await talk.start()
        await talk.end()

    return behave


def error_event_first(spoken: Format) -> Behaviour:
    async def behave(talk: Conversation) -> None:
        await talk.start()
        await talk.send(b": PROCESSING\n\n" + spoken.error_event("server_error"))
        await talk.end()

    return behave


ACCOUNT: dict[str, Any] = {"status": 502, "type": "upstream_error", "attempts": 1}
BROKEN: dict[str, Any] = {"status": 502, "type": "upstream_error"}
BUSY: dict[str, Any] = {"status": 503, "type": "overloaded_error"}

FAULTS = (
    Fault("401", answers(401, "authentication_error"), **ACCOUNT),
    Fault("402", answers(402, "billing_error"), **ACCOUNT),
    Fault("403", answers(403, "permission_error"), **ACCOUNT),
    Fault("429 that means our quota", answers(429, "insufficient_quota"), **ACCOUNT),
    Fault("429 bare", answers(429, "rate_limit_error"), **BUSY),
    Fault("429 with a short wait", answers(429, "rate_limit_error", retry_after="1"), **BUSY),
    Fault("429 with a long wait", answers(429, "rate_limit_error", retry_after="60"), 503, "overloaded_error", 1),
    Fault("500", answers(500, "api_error"), **BROKEN),
    Fault("503", answers(503, "api_error"), **BUSY),
    Fault("529", answers(529, "overloaded_error"), **BUSY),
    Fault("502 with a page", sends(HTML, 502, "text/html"), **BROKEN),
    Fault("cut", cuts, **BROKEN),
    Fault("hang before the first byte", hangs, 504, "timeout_error", 1),
    Fault("200 with an error", answers(200, "server_error"), **BROKEN),
    Fault("200 with our quota", answers(200, "insufficient_quota"), **ACCOUNT),
    Fault("200 with something else", sends(b'{"object": "list", "data": null}'), **BROKEN),
    Fault("malformed JSON", sends(b'{"id": "x", "choices": [{"mess'), **BROKEN),
    Fault("wrong content type", sends(HTML, 200, "text/html"), **BROKEN),
    Fault("empty stream", ends_empty, **BROKEN, streams=(True,)),
    Fault("error event first", error_event_first, **BROKEN, streams=(True,)),
)  # fmt: skip
CASES = [
    (spoken, fault, stream)
    for spoken in FORMATS
    for fault in FAULTS
    for stream in fault.streams
    if spoken.streams or not stream
]

alone: set[tuple[str, str, bool]] = set()
served_by_next: set[tuple[str, str, bool]] = set()


def name_of(value: Any) -> str:
    if isinstance(value, Format):
        return value.kind
    return ("stream" if value else "whole") if isinstance(value, bool) else str(value)


@dataclass(frozen=True)
class Served:
    """A model of the table, and the targets behind it."""

    model: str
    bad: Route
    good: Route | None = None


def made(gateway: Gateway, spoken: Format, bad: Behaviour, options: dict[str, Any], *, with_another: bool) -> Served:
    routes = [gateway.upstream.serve(bad, **options)]
    if with_another:
        routes.append(gateway.upstream.serve(spoken.well))
    limits = {} if spoken.streams else {"max_output_tokens": None, "default_max_output_tokens": None}
    model = gateway.new_model(
        *routes, kind=spoken.kind, adapter=spoken.adapter, rates=spoken.rates, **limits  # type: ignore[arg-type]
    )  # fmt: skip
    return Served(model, routes[0], routes[1] if with_another else None)


@pytest.fixture(scope="module")
def served(
    _gateway_session: Gateway, django_db_blocker: pytest_django.DjangoDbBlocker
) -> dict[tuple[Any, ...], Served]:
    """A model for each case of all tests here: a gateway takes its time to hear of one, and hears of all at once."""
    with _gateway_session.connected(django_db_blocker):
        models = {
            name: made(_gateway_session, spoken, bad, options, with_another=another)
            for name, spoken, bad, options, another in all_models()
        }
        _gateway_session.with_settings(**QUICK)
        _gateway_session.until_known([*models.values()][-1].model)
    return models


def all_models() -> Iterator[tuple[tuple[Any, ...], Format, Behaviour, dict[str, Any], bool]]:
    """By its name in the tests: the format, the failing target, its options, and whether a good one stands behind."""
    for spoken, fault, stream in CASES:
        for another in (False, True):
            yield (spoken.kind, fault.name, stream, another), spoken, fault.behaviour(spoken), fault.options, another
    for spoken in FORMATS:
        for kind, _, _ in BREAKS if spoken.streams else ():
            yield (spoken.kind, kind), spoken, breaks(spoken, kind), SILENT if kind == "hang" else {}, True
        for label in LABELS:
            yield (spoken.kind, label), spoken, mislabels(spoken, label), {}, False
        if spoken.keepalive:
            yield (spoken.kind, late), spoken, late(spoken), {}, False


@pytest.fixture
def caller(gateway: Gateway) -> Caller:
    return gateway.caller(credits=CREDITS)


def ask(caller: Caller, spoken: Format, model: str, *, stream: bool) -> Reply:
    streaming = {"stream": True} if stream else {}
    return caller.send("POST", spoken.path, {"model": model, **spoken.asked, **streaming})


def nothing_private(reply: Reply) -> None:
    told = reply.body.decode() + str(reply.headers)
    assert "internal.example" not in told
    assert "sk-" not in told
    assert PRIVATE not in told


# ── before the first content ─────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(("spoken", "fault", "stream"), CASES, ids=name_of)
def test_alone_it_is_one_clean_error_that_costs_nothing(
    served: Any, caller: Caller, spoken: Format, fault: Fault, stream: bool
) -> None:
    case: Served = served[spoken.kind, fault.name, stream, False]
    reply = ask(caller, spoken, case.model, stream=stream)
    assert reply.status == fault.status, reply.body
    told = spoken.told(reply)
    assert told["type"] == fault.type
    assert case.model not in told["message"]
    nothing_private(reply)
    assert ("retry-after" in reply.headers) == (fault.status == 503)
    assert case.bad.calls == fault.attempts
    books = caller.settled_books()
    assert (books.balance, books.held, books.meter_held) == (CREDITS * CREDIT, 0, 0)
    assert (books.holds, books.transfers, books.rolled_up) == (["voided"], [], 0)
    [row] = books.log
    assert str(row["request_id"]) == reply.headers["x-request-id"]
    assert (row["status"], row["error_type"], row["attempts"]) == (fault.status, fault.type, fault.attempts)
    assert (row["endpoint"], row["charged_microcredits"]) == (spoken.kind, 0)
    alone.add((spoken.kind, fault.name, stream))


@pytest.mark.parametrize(("spoken", "fault", "stream"), CASES, ids=name_of)
def test_the_next_target_serves(served: Any, caller: Caller, spoken: Format, fault: Fault, stream: bool) -> None:
    case: Served = served[spoken.kind, fault.name, stream, True]
    reply = ask(caller, spoken, case.model, stream=stream)
    assert reply.status == 200, reply.body
    assert case.good is not None
    assert (case.bad.calls, case.good.calls) == (fault.attempts, 1)
    assert reply.headers["x-hypereal-provider"] == f"{case.model}-p1"
    assert reply.headers["x-hypereal-attempts"] == str(fault.attempts + 1)
    nothing_private(reply)
    books = caller.settled_books()
    [row] = books.log
    assert (row["status"], row["error_type"], row["attempts"]) == (200, "", fault.attempts + 1)
    assert (row["estimated"], row["stream"], row["endpoint"]) == (False, stream, spoken.kind)
    assert books.charged == spoken.charge == row["charged_microcredits"]
    assert (books.balance, books.held, books.holds) == (CREDITS * CREDIT - spoken.charge, 0, ["posted"])
    assert books.transfers == [spoken.charge]
    served_by_next.add((spoken.kind, fault.name, stream))


# ── behind the first content ─────────────────────────────────────────────────────────────────────────────────────────
def breaks(spoken: Format, kind: str) -> Behaviour:
    """A stream that comes to its content and then breaks."""

    async def behave(talk: Conversation) -> None:
        await talk.start()
        for piece in spoken.half:
            await talk.send(piece)
        await talk.taken(0.3)  # the gateway has passed the content on by then
        if kind == "cut":
            talk.cut()
        elif kind == "end":
            await talk.end()
        elif kind == "hang":
            await talk.gone()
        elif kind == "malformed":
            await talk.send(b"data: {broken\n\n" + spoken.half[-1])  # and goes on as if nothing were
            await talk.end()
        else:
            await talk.send(spoken.error_event(kind))
            await talk.end()

    return behave


#: What breaks it, and what the caller is told.
BREAKS = (
    ("cut", 502, "upstream_error"),
    ("end", 502, "upstream_error"),
    ("malformed", 502, "upstream_error"),
    ("server_error", 502, "upstream_error"),
    ("insufficient_quota", 502, "upstream_error"),
    ("overloaded_error", 503, "overloaded_error"),
    ("hang", 504, "timeout_error"),
)


@pytest.mark.parametrize(("kind", "status", "error_type"), BREAKS)
@pytest.mark.parametrize("spoken", [spoken for spoken in FORMATS if spoken.streams], ids=name_of)
def test_a_break_in_mid_stream_is_told_inside_and_what_came_is_billed(
    served: Any, caller: Caller, spoken: Format, kind: str, status: int, error_type: str
) -> None:
    case: Served = served[spoken.kind, kind]
    reply = ask(caller, spoken, case.model, stream=True)
    assert reply.status == 200
    assert reply.body.startswith(b"".join(spoken.half))
    assert b"broken" not in reply.body  # what no client could read
    assert reply.body.count(spoken.half[-1]) == 1
    assert spoken.told_inside(reply) == error_type
    nothing_private(reply)
    assert case.good is not None
    assert (case.bad.calls, case.good.calls) == (1, 0)
    books = caller.settled_books()
    [row] = books.log
    assert (row["status"], row["error_type"], row["estimated"], row["attempts"]) == (status, error_type, True, 1)
    assert (row["output_tokens"], books.holds) == (4, ["posted"])
    assert books.charged == spoken.price_of(row["input_tokens"], 4) > 0
    assert books.transfers == [books.charged]
    assert (books.balance, books.held) == (CREDITS * CREDIT - books.charged, 0)


# ── behind a keep-alive ──────────────────────────────────────────────────────────────────────────────────────────────
#: By format: set once its caller has seen that nothing comes.
waited: defaultdict[str, threading.Event] = defaultdict(threading.Event)


def late(spoken: Format) -> Behaviour:
    async def behave(talk: Conversation) -> None:
        await talk.until(waited[spoken.kind])
        await talk.json(spoken.error("api_error"), 500)

    return behave


@pytest.mark.parametrize("spoken", [spoken for spoken in FORMATS if spoken.keepalive], ids=name_of)
def test_behind_a_keep_alive_the_failure_is_told_inside(served: Any, gateway: Gateway, spoken: Format) -> None:
    case = served[spoken.kind, late]
    caller = gateway.caller(credits=CREDITS, server=gateway.with_settings(**QUICK))
    body = {"model": case.model, **spoken.asked, "stream": True}
    with http.opened(caller.port, "POST", spoken.path, body, caller.headers({})) as stream:
        silence = stream.response.read(2 * len(spoken.keepalive))
        waited[spoken.kind].set()
        reply = Reply(stream.status, stream.headers, silence + stream.rest())
    assert reply.status == 200
    assert silence == spoken.keepalive * 2
    assert spoken.told_inside(reply) == "upstream_error"
    nothing_private(reply)
    books = caller.settled_books()
    assert (books.balance, books.held, books.holds) == (CREDITS * CREDIT, 0, ["voided"])
    assert (books.log[0]["status"], books.log[0]["attempts"]) == (502, case.bad.calls)


# ── labels ───────────────────────────────────────────────────────────────────────────────────────────────────────────
LABELS = ("text/plain", "text/html", "application/octet-stream")


def mislabels(spoken: Format, label: str) -> Behaviour:
    """A provider that does well, under a wrong name."""

    async def behave(talk: Conversation) -> None:
        start, json = talk.start, talk.json

        async def started(content_type: str = "") -> None:
            await start(label)

        async def whole(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
            await json(value, status, {"content-type": label})

        talk.start, talk.json = started, whole  # type: ignore[method-assign]
        await spoken.well(talk)

    return behave


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("spoken", FORMATS, ids=name_of)
def test_a_good_answer_under_a_wrong_name_is_a_good_answer(
    served: Any, caller: Caller, spoken: Format, label: str
) -> None:
    case: Served = served[spoken.kind, label]
    asked = (False, True) if spoken.streams else (False,)
    for stream in asked:
        reply = ask(caller, spoken, case.model, stream=stream)
        assert reply.status == 200, reply.body
        assert reply.headers["content-type"].startswith("text/event-stream" if stream else "application/json")
    assert caller.settled_books(len(asked)).charged == spoken.charge * len(asked)


def test_every_case_ran(request: pytest.FixtureRequest, figures: Callable[[str], None]) -> None:
    """Last of the file. A run that was narrowed to single cases proves nothing here."""
    collected = sum(item.path == request.node.path for item in request.session.items)
    if collected <= 2 * len(CASES):
        pytest.skip("the run is narrowed")
    figures(f"format × fault: {len(alone)} cases told cleanly, {len(served_by_next)} served by the next target")
    assert alone == served_by_next == {(spoken.kind, fault.name, stream) for spoken, fault, stream in CASES}

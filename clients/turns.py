"""What every client has to finish, and what must be true afterwards."""

from __future__ import annotations

import enum
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from clients.site import Site

#: The sandbox introduces itself with this, and names what it heard of a tool.
OPENING: Final = "This is the Hypereal sandbox speaking"
HEARD: Final = "Your tool's result has arrived"
QUESTION: Final = "Say hello to the harbour master in 40 words"
#: A text in fewer pieces than this was not streamed.
LEAST_PIECES: Final = 5
_SETTLED_SECONDS: Final = 10.0


class Kind(enum.Enum):
    """The three turns."""

    PLAIN = "plain"
    STREAM = "stream"
    TOOL = "tool"


class TurnFailed(Exception):
    """A client did not do what it should; the message is one line."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn that a client is asked for. ``proof``: words that only the tool's own run can bring about."""

    kind: Kind
    proof: str

    @classmethod
    def of(cls, kind: Kind) -> Turn:
        """A new one."""
        return cls(kind, f"made-by-a-tool-{secrets.token_hex(4)}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client made of its turn. ``streamed``: whether it showed a stream; ``ran``: what its tool did."""

    text: str
    streamed: bool = False
    ran: str = ""


def gathered(pieces: Iterable[str | None]) -> Answer:
    """A text that came piece by piece."""
    texts = [piece for piece in pieces if piece]
    return Answer("".join(texts), streamed=len(texts) >= LEAST_PIECES)


@dataclass(frozen=True, slots=True)
class Client:
    """One client, how it is asked, and what the log must say of it."""

    name: str
    version: str
    endpoint: str
    setting: str
    ask: Callable[[Site, Turn], Answer]


@dataclass(frozen=True, slots=True)
class Result:
    """A turn that was tried. ``trouble`` is empty where all is well."""

    kind: Kind
    trouble: str
    calls: int = 0
    credits: Decimal = Decimal(0)
    seconds: float = 0.0


def attempt(site: Site, client: Client, kind: Kind) -> Result:
    """Let ``client`` finish one turn and hold its answer, its log rows and its charge against what they must be."""
    before, turn, started = site.calls().keys(), Turn.of(kind), time.monotonic()
    try:
        answer = client.ask(site, turn)
    except TurnFailed as error:
        return Result(kind, str(error))
    except Exception as error:
        return Result(kind, f"{type(error).__name__}: {error}".splitlines()[0][:300])
    seconds = time.monotonic() - started
    calls = _new_calls(site, before, at_least=2 if kind is Kind.TOOL else 1)
    trouble = (
        _wrong_with_answer(turn, answer) or _wrong_with_log(client, turn, calls) or _wrong_with_charge(site, calls)
    )
    credits = sum((Decimal(call["costCredits"]) for call in calls), Decimal(0))
    return Result(kind, trouble, len(calls), credits, seconds)


def _new_calls(site: Site, before: Any, at_least: int) -> list[dict[str, Any]]:
    """The rows that came since; some clients make a second call, such as for a title, that ends a moment later."""
    end, known = time.monotonic() + _SETTLED_SECONDS, -1
    while True:
        calls = [call for name, call in site.calls().items() if name not in before]
        if (len(calls) >= at_least and len(calls) == known) or time.monotonic() > end:
            return calls
        known = len(calls)
        time.sleep(0.7)


def _wrong_with_answer(turn: Turn, answer: Answer) -> str:
    if OPENING not in answer.text:
        return f"the answer is not the model's: {answer.text[:80]!r}"
    if turn.kind is Kind.STREAM and not answer.streamed:
        return "the answer did not come as a stream"
    if turn.kind is Kind.TOOL:
        if turn.proof not in answer.ran:
            return "the tool did not run"
        if HEARD not in answer.text:
            return "the model did not hear of the tool's result"
    return ""


def _wrong_with_log(client: Client, turn: Turn, calls: list[dict[str, Any]]) -> str:
    if len(calls) < (2 if turn.kind is Kind.TOOL else 1):
        return f"the log shows {len(calls)} calls"
    for call in calls:
        if (call["endpoint"], call["status"], call["errorType"]) != (client.endpoint, 200, None):
            return f"the log shows {call['endpoint']} {call['status']} {call['errorType'] or ''}"
        if call["estimated"]:
            return "the usage was estimated"
    return ""


def _wrong_with_charge(site: Site, calls: list[dict[str, Any]]) -> str:
    for call in calls:
        charged, expected = Decimal(call["costCredits"]), site.price_of(call)
        if charged != expected or not charged:
            return f"a call was charged {charged} credits instead of {expected}"
    return ""

"""What the handler must know of a view before it reads a body: methods, key, format of errors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from django.http import HttpResponse

from gateway.dialects.anthropic_messages import DIALECT as MESSAGES
from gateway.dialects.base import Dialect
from gateway.dialects.gemini import DIALECT as GEMINI
from gateway.dialects.openai_chat import DIALECT as OPENAI
from gateway.request import Answer, StreamAnswer

View = Callable[..., Awaitable[Answer | StreamAnswer | HttpResponse]]

_ATTRIBUTE: Final = "gateway_endpoint"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``kind`` is the word in the log for a billable endpoint, empty for a free one."""

    methods: frozenset[str]
    kind: str = ""
    dialect: Dialect = OPENAI
    needs_key: bool = True
    #: Google's clients send the key in the query; nowhere else may one stand there.
    key_in_query: bool = False
    #: Methods that are answered without a key although the others need one.
    keyless_methods: frozenset[str] = frozenset()
    #: A second header that bears the request's id, where a format's clients look for it under another name.
    id_header: bytes = b""
    #: The view reads the body itself as it comes (`request.receive`): the bound on whole bodies does not hold.
    reads_body: bool = False


#: For addresses that nothing answers at.
NOWHERE: Final = Endpoint(frozenset(), needs_key=False)
_NOWHERE_BELOW: Final = {
    "messages": Endpoint(frozenset(), needs_key=False, dialect=MESSAGES, id_header=b"request-id"),
    "gemini": Endpoint(frozenset(), needs_key=False, dialect=GEMINI),
}
#: What other gateways serve and this one does not, with what serves the same end here.
_INSTEAD: Final = {
    "assistants": "Assistants are not served here: use /v1/responses.",
    "batches": "Batches are not served here: send the calls themselves.",
    "completions": "Text completions are not served here: use /v1/chat/completions.",
    "conversations": "Conversations are not served here: go on with previous_response_id on /v1/responses.",
    "files": "Files are kept at /v1/storage; a model takes them inside its request.",
    "threads": "Threads are not served here: use /v1/responses.",
}


def endpoint(
    *methods: str,
    kind: str = "",
    dialect: Dialect = OPENAI,
    needs_key: bool = True,
    key_in_query: bool = False,
    keyless_methods: tuple[str, ...] = (),
    id_header: bytes = b"",
    reads_body: bool = False,
) -> Callable[[View], Callable[..., Any]]:
    """Declares a gateway view."""
    keyless = frozenset(keyless_methods)
    declared = Endpoint(frozenset(methods), kind, dialect, needs_key, key_in_query, keyless, id_header, reads_body)

    def mark(view: View) -> Callable[..., Any]:
        setattr(view, _ATTRIBUTE, declared)
        return view

    return mark


def nowhere(path: str) -> Endpoint:
    """How an address that nothing answers at is refused: in the format of the addresses around it."""
    return _NOWHERE_BELOW.get(path[1:].partition("/")[0], NOWHERE)


def instead_of(path: str) -> str:
    """What to tell who asks at an address that nothing answers at."""
    return _INSTEAD.get(path[1:].partition("/")[0], "There is nothing at this address.")


def of(view: Callable[..., Any]) -> Endpoint:
    """What was declared. Raises LookupError for a view without a declaration: it must not be routed here."""
    declared = getattr(view, _ATTRIBUTE, None)
    if declared is None:
        raise LookupError(f"{view!r} is no gateway endpoint")
    return cast(Endpoint, declared)

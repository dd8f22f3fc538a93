"""Responses that their provider keeps under an id: what the id is, and how one is read or deleted. Pure."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from upstreams import classify, loose_json, openai, sse
from upstreams.wire import Target, UpstreamRequest

_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,200}", re.ASCII)


class _Named(msgspec.Struct):
    id: Any = None


_named_decoder = msgspec.json.Decoder(_Named)


def is_id(value: Any) -> bool:
    """Whether a response may be kept under this id."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def id_of(response: Any) -> str | None:
    """The id of a response object; None where it has none that it can be kept under."""
    found = response.get("id") if isinstance(response, dict) else None
    return found if is_id(found) else None


def id_in(answer: bytes) -> str | None:
    """The id of a whole answer, also of one that came as events; None where it has none that it can be kept under."""
    try:
        return id_of({"id": _named_decoder.decode(answer).id})
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    for event in sse.split(answer):
        try:
            value = loose_json.decode(sse.data_of(event) or b"")
        except ValueError:
            continue
        if isinstance(value, dict) and (found := id_of(value.get("response") or value)):
            return found
    return None


def request_for(target: Target, method: str, path: str, query: str) -> UpstreamRequest:
    """The request that reads or deletes what the provider keeps. Raises ValueError for a base URL that is none."""
    asked = openai.request_to(target, path, {}, stream=False)
    more = f"{'&' if '?' in asked.path else '?'}{query}" if query else ""
    return msgspec.structs.replace(asked, method=method, path=asked.path + more, body=b"")


def check(body: bytes, *, secret: str = "") -> None:
    """Raises UpstreamError unless ``body`` is an object; a response that failed bears its error and is one too."""
    try:
        answer = loose_json.decode(body)
    except ValueError:
        raise classify.not_json(body, "") from None
    if not isinstance(answer, dict) or (answer.get("error") and "object" not in answer):
        raise classify.refuse_inside(classify.error_in(body) or {}, secret=secret)

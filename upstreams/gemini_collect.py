"""Between an answer of Gemini's own format in pieces and in one, for upstreams that answer in the other form. Pure."""

from __future__ import annotations

from typing import Any

from upstreams import classify, gemini_parts, loose_json, sse
from upstreams.errors import BadAnswer, ConnectionLost
from upstreams.gemini_parts import JsonObject

#: A text goes on where the piece before it was the same kind of text and nothing was signed in between.
_PLAIN = frozenset({"text", "thought"})


def collect(stream: bytes, *, secret: str = "", known: bytes = b"") -> bytes:
    """A whole stream as the one answer it would have been.

    Raises UpstreamError for an error inside the stream, ConnectionLost if it has no end, BadAnswer if it holds nothing.
    """
    if stream.lstrip()[:1] == b"[":
        return merged(stream, secret=secret, known=known)
    framer = sse.Framer()
    block = framer.feed(stream)
    events = sse.split(block) if block else []
    if rest := framer.rest().strip():
        events.append(rest)
    datas = [data for event in events if (data := sse.data_of(event)) and data.strip() != b"[DONE]"]
    return _together([_object(data) for data in datas], secret, known)


def merged(body: bytes, *, secret: str = "", known: bytes = b"") -> bytes:
    """An answer in one piece: a list of pieces, as streams without ``alt=sse`` are, is put together.

    Anything else is returned as it is. Raises as `collect` does.
    """
    if body.lstrip()[:1] != b"[":
        return body
    return _together(pieces_of(body), secret, known)


def as_stream(answer: bytes) -> bytes:
    """A whole answer, or a list of its pieces, as events; feed it to a Relay. Raises BadAnswer."""
    pieces = pieces_of(answer) if answer.lstrip()[:1] == b"[" else [_object(answer)]
    return b"".join(b"data: " + loose_json.encode(piece) + b"\n\n" for piece in pieces)


def pieces_of(body: bytes) -> list[JsonObject]:
    """The pieces of a list. Raises BadAnswer."""
    try:
        pieces = loose_json.decode(body)
    except ValueError:
        raise classify.not_json(body, "") from None
    if not isinstance(pieces, list) or not all(isinstance(piece, dict) for piece in pieces):
        raise BadAnswer("the upstream's stream holds something that is not an object")
    return pieces


def _together(pieces: list[JsonObject], secret: str, known: bytes) -> bytes:
    whole: JsonObject = {}
    candidates: dict[int, JsonObject] = {}
    for piece in pieces:
        error = piece.get("error") if "candidates" in piece else classify.error_of(piece)
        if error:
            raise classify.refuse_inside(error, secret=secret, known=known)
        whole |= {name: value for name, value in piece.items() if name != "candidates" and value is not None}
        for candidate in gemini_parts.candidates_of(piece):
            _add(candidates.setdefault(gemini_parts.index_of(candidate), {}), candidate)
    if not candidates and not gemini_parts.block_reason(whole):
        raise BadAnswer("the upstream's stream holds no answer")
    if not all(map(gemini_parts.finish_of, candidates.values())):
        raise ConnectionLost("the upstream's stream ends in the middle")
    return loose_json.encode({"candidates": [candidates[index] for index in sorted(candidates)], **whole})


def _add(whole: JsonObject, piece: JsonObject) -> None:
    """Take one piece of a candidate in. What a later piece tells anew replaces what was told, unless it is empty."""
    for name, value in piece.items():
        if name == "content" and isinstance(value, dict):
            content = whole.setdefault("content", {})
            content |= {inner: part for inner, part in value.items() if inner != "parts"}
            for part in gemini_parts.parts_of(piece):
                _append(content.setdefault("parts", []), part)
        elif value not in (None, {}, []) or name not in whole:
            whole[name] = value


def _append(parts: list[Any], part: JsonObject) -> None:
    last = parts[-1] if parts else None
    goes_on = (
        last is not None
        and "text" in part
        and set(part) <= _PLAIN
        and set(last) <= _PLAIN
        and "text" in last
        and bool(part.get("thought")) == bool(last.get("thought"))
    )
    if goes_on and last is not None:
        last["text"] = f"{last['text']}{part['text']}"
    else:
        parts.append(dict(part))


def _object(data: bytes) -> JsonObject:
    try:
        value: Any = loose_json.decode(data)
    except ValueError:
        raise classify.not_json(data, "") from None
    if not isinstance(value, dict):
        raise BadAnswer("the upstream's stream holds something that is not an object")
    return value

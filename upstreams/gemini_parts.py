"""What Gemini's answers are made of, as relays and conversions both see it: candidates and their parts. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from upstreams import loose_json
from upstreams.estimate import BYTES_PER_TOKEN, IMAGE_TOKENS

JsonObject = dict[str, Any]

#: Members of a part that say something about it and bring nothing by themselves.
_ABOUT = frozenset({"thought", "thoughtSignature", "mediaResolution", "videoMetadata", "partMetadata"})


def candidates_of(answer: JsonObject) -> list[JsonObject]:
    """The candidates of an answer or of one piece of it."""
    candidates = answer.get("candidates")
    return [each for each in candidates if isinstance(each, dict)] if isinstance(candidates, list) else []


def parts_of(candidate: JsonObject) -> list[JsonObject]:
    """The parts of a candidate."""
    content = candidate.get("content")
    parts = content.get("parts") if isinstance(content, dict) else None
    return [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []


def index_of(candidate: JsonObject) -> int:
    """Which candidate it is; Google leaves a zero out."""
    index = candidate.get("index")
    return index if isinstance(index, int) else 0


def finish_of(candidate: JsonObject) -> str:
    """Why it ended; empty while it has not."""
    reason = candidate.get("finishReason")
    return reason if isinstance(reason, str) and reason != "FINISH_REASON_UNSPECIFIED" else ""


def block_reason(answer: JsonObject) -> str:
    """Why the prompt itself was refused; empty where it was not."""
    feedback = answer.get("promptFeedback")
    reason = feedback.get("blockReason") if isinstance(feedback, dict) else None
    return reason if isinstance(reason, str) and reason != "BLOCK_REASON_UNSPECIFIED" else ""


def has_content(part: JsonObject) -> bool:
    """Whether a part brings something to the reader; an empty text or a signature does not."""
    return any(value or isinstance(value, dict) for name, value in part.items() if name not in _ABOUT)


def tokens_in(answer: JsonObject) -> int:
    """The likely output tokens of what an answer, or a piece of it, shows: at least one for a part with something."""
    return sum(
        _tokens(part) for candidate in candidates_of(answer) for part in parts_of(candidate) if has_content(part)
    )


def _tokens(part: JsonObject) -> int:
    size = 0
    for name, text in _written(part):
        if name == "inlineData":
            return IMAGE_TOKENS
        size += len(text)
    return max(1, -(-size // BYTES_PER_TOKEN))


def _written(part: JsonObject) -> Iterator[tuple[str, bytes]]:
    for name, value in part.items():
        if name not in _ABOUT:
            yield name, value.encode("utf-8", "replace") if isinstance(value, str) else loose_json.encode(value)

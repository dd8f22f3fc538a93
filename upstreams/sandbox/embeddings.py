"""OpenAI's embeddings: they mean little, yet are the same for the same text, and near where words are shared."""

from __future__ import annotations

import base64
import hashlib
import math
import re
import struct
from typing import Any

from upstreams import loose_json
from upstreams.sandbox.plans import count_tokens
from upstreams.sandbox.server import Stream, Whole

MOST_INPUTS = 2048
MOST_WORDS = 300
_DIMENSIONS = {"text-embedding-3-large": 3072, "gemini-embedding-001": 3072}
_USUAL_DIMENSIONS = 1536
_WORD = re.compile(r"\w+")
_NUMBERS = struct.Struct("<16I")


class Endpoint:
    """Answers ``POST …/embeddings`` at once."""

    async def answer(self, body: bytes) -> Whole | Stream:
        """The vectors as JSON; a fault in the request gets OpenAI's 400."""
        try:
            request = loose_json.decode(body)
        except ValueError:
            return _fault("We could not parse the JSON body of your request.")
        if not isinstance(request, dict) or not isinstance(request.get("model"), str) or not request["model"]:
            return _fault("you must provide a model parameter", "model")
        inputs = _inputs(request.get("input"))
        if inputs is None:
            return _fault("'input' must be a text, a list of texts, or tokens.", "input")
        most = _DIMENSIONS.get(request["model"], _USUAL_DIMENSIONS)
        size = request.get("dimensions")
        size = most if size is None else size
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= most:
            return _fault(f"'dimensions' must be a whole number from 1 to {most}.", "dimensions")
        in_base64 = request.get("encoding_format") == "base64"
        data = [
            {"object": "embedding", "index": index, "embedding": _encoded(vector(text, size), in_base64)}
            for index, (text, _) in enumerate(inputs)
        ]
        tokens = sum(count for _, count in inputs)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return Whole({"object": "list", "data": data, "model": f"sandbox/{request['model']}", "usage": usage})


def vector(text: str, size: int) -> list[float]:
    """A direction of length one: each word leans a few of its numbers to one side."""
    total = [0.0] * size
    for word in _WORD.findall(text.lower())[:MOST_WORDS] or [text]:
        for number in _NUMBERS.unpack(hashlib.sha512(word.encode("utf-8", "replace")).digest()):
            total[number % size] += 1.0 if number & 1 << 31 else -1.0
    length = math.sqrt(sum(value * value for value in total)) or 1.0
    return [value / length for value in total]


def _inputs(given: Any) -> list[tuple[str, int]] | None:
    """Each input as text, with the tokens that it counts as; None for what is no input."""
    if isinstance(given, str):
        given = [given]
    if not isinstance(given, list) or not 1 <= len(given) <= MOST_INPUTS:
        return None
    if all(_is_token(item) for item in given):
        given = [given]
    found = []
    for item in given:
        if isinstance(item, str) and item:
            found.append((item, count_tokens(item)))
        elif isinstance(item, list) and item and all(_is_token(token) for token in item):
            found.append((" ".join(map(str, item)), len(item)))
        else:
            return None
    return found


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _encoded(values: list[float], in_base64: bool) -> str | list[float]:
    if in_base64:
        return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
    return values


def _fault(message: str, param: str | None = None) -> Whole:
    return Whole({"error": {"message": message, "type": "invalid_request_error", "param": param, "code": None}}, 400)

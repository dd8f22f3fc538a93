"""JSON as providers really send it: fast where it is strict, patient where it is not (lone surrogates, NaN)."""

from __future__ import annotations

import json
from typing import Any

import msgspec


def decode(data: bytes) -> Any:
    """The value. Raises ValueError for what is no JSON at all."""
    try:
        try:
            return msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return json.loads(data)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


def encode(value: Any) -> bytes:
    """Compact JSON."""
    try:
        return msgspec.json.encode(value)
    except ValueError:  # a lone surrogate: only an escape can carry it
        return json.dumps(value, separators=(",", ":")).encode()

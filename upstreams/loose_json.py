"""JSON as providers really send it: fast where it is strict, patient where it is not (lone surrogates, NaN)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

_Fields = dict[str, msgspec.Raw]


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


def with_members(data: bytes, members: Mapping[str, Any]) -> bytes:
    """The JSON object ``data`` with these members; all its others keep their bytes. Raises ValueError for no object."""
    added = {name: msgspec.Raw(encode(value)) for name, value in members.items()}
    try:
        return msgspec.json.encode({**msgspec.json.decode(data, type=_Fields), **added})
    except (msgspec.DecodeError, UnicodeDecodeError):
        value = decode(data)
        if not isinstance(value, dict):
            raise ValueError("this is no JSON object") from None
        return encode({**value, **members})

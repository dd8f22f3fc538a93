"""Texts and values from outside as others can take them: UTF-8, and PostgreSQL's JSON and text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def whole(text: str) -> str:
    """``text`` with each half of a character replaced.

    JSON can carry one as an escape (``"\\ud800"``), but nothing that is encoded as UTF-8 could.
    """
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def storable(value: Any) -> Any:
    """``value`` with what can't be stored replaced: NUL characters and halves of surrogate pairs, at any depth.

    Texts come from providers and callers; one such character must not undo the transaction that it belongs to.
    """
    if isinstance(value, str):
        return whole(value.replace("\0", "\ufffd"))
    if isinstance(value, Mapping):
        return {storable(name): storable(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [storable(member) for member in value]
    return value

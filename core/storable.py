"""Values from outside as PostgreSQL's JSON and text can hold them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def storable(value: Any) -> Any:
    """``value`` with what can't be stored replaced: NUL characters and halves of surrogate pairs, at any depth.

    Texts come from providers and callers; one such character must not undo the transaction that it belongs to.
    """
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, Mapping):
        return {storable(name): storable(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [storable(member) for member in value]
    return value

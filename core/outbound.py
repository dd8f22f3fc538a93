"""The guarded way out (`core.egress`) with what this installation's operator allows beyond the public internet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from django.conf import settings

from core.egress import Allowed, AllowList, Limits, Purpose, Response, fetch

_USUAL = Limits()


def allowed() -> AllowList:
    """The operator's exceptions by purpose, from ``settings.EGRESS_ALLOW``. Raises ValueError for a bad one."""
    return _read(tuple(settings.EGRESS_ALLOW))


@lru_cache(maxsize=8)
def _read(entries: tuple[str, ...]) -> AllowList:
    found: dict[Purpose, tuple[Allowed, ...]] = {}
    for entry in entries:
        word, _sign, place = entry.partition("=")
        purpose = Purpose(word.strip())
        found[purpose] = (*found.get(purpose, ()), Allowed.read(place))
    return found


def call(
    url: str,
    purpose: Purpose,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    limits: Limits = _USUAL,
    also: Sequence[Allowed] = (),
    sink: Callable[[bytes], object] | None = None,
) -> Response:
    """`core.egress.fetch` within what the operator allows, and ``also`` there. Raises EgressError."""
    allow = allowed()
    if also:
        allow = {**allow, purpose: (*allow.get(purpose, ()), *also)}
    return fetch(url, purpose, method=method, headers=headers, body=body, limits=limits, allow=allow, sink=sink)

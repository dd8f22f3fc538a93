"""Resolvers that know what a test tells them."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from core.egress import Resolver


def names(**table: Sequence[str]) -> Resolver:
    """A resolver that knows a few names; underscores stand for dots."""
    known = {name.replace("_", "."): addresses for name, addresses in table.items()}

    def look_up(host: str, port: int, seconds: float) -> Sequence[str]:
        if host not in known:
            raise socket.gaierror("unknown")
        return known[host]

    return look_up

"""Requests to providers from synchronous code: one exchange of the pooled client, waited for."""

from __future__ import annotations

import asyncio
import ssl
from functools import lru_cache
from typing import NamedTuple

from upstreams.client import Pool
from upstreams.wire import Timeouts, UpstreamRequest

_USUAL = Timeouts(connect_seconds=10, first_byte_seconds=60, idle_seconds=60, total_seconds=120)


class Reply(NamedTuple):
    """A provider's whole answer. Header names are lower-case."""

    status: int
    headers: dict[str, str]
    body: bytes


def send(request: UpstreamRequest, timeouts: Timeouts = _USUAL, most_bytes: int = 4 * 1024 * 1024) -> Reply:
    """Send ``request`` and read its answer, whatever its status. Raises UpstreamError.

    Only for addresses that an operator chose (a catalog's providers): what callers name goes through `core.outbound`.
    Must not be called on an event loop.
    """
    return asyncio.run(_send(request, timeouts, most_bytes))


async def _send(request: UpstreamRequest, timeouts: Timeouts, most_bytes: int) -> Reply:
    pool = Pool(tls=_tls() if request.origin.scheme == "https" else None)
    try:
        with await pool.send(request, timeouts) as response:
            return Reply(response.status, dict(response.headers), await response.read(most_bytes))
    finally:
        await pool.aclose()


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    """Read once a process: the list of authorities takes longer to load than an exchange."""
    return Pool().tls()

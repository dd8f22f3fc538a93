"""One site with both faces for the tests of files: a key uploads to it, a browser reads from it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.gateway import Gateway, Server

_started: dict[int, Server] = {}

#: Bounds small enough to be reached.
MOST_FILE_BYTES = 40 * 1024 * 1024


@pytest.fixture
def site(gateway: Gateway) -> Iterator[Server]:
    """A process that serves pages and the gateway, started once for all these tests."""
    server = _started.get(id(gateway))
    if server is None or server.process.poll() is not None:
        server = _started[id(gateway)] = gateway.start("all", STORAGE_MOST_FILE_BYTES=str(MOST_FILE_BYTES))
    yield server

"""Forty seconds of silence on the real clock, in every format that fills it: what stands between a client and a proxy
that drops what says nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fakes.upstream import Conversation
from tests.faults.formats import FORMATS, Format
from tests.support import http
from tests.support.gateway import Caller, Gateway

pytestmark = pytest.mark.torture

SILENT_SECONDS = 40
EXPECTED_SECONDS = (15, 30)
FILLED = [spoken for spoken in FORMATS if spoken.keepalive]
#: As an installation has them that sets nothing.
REAL = {
    "GATEWAY_KEEPALIVE_SECONDS": "15",
    "GATEWAY_FIRST_BYTE_SECONDS": "300",
    "GATEWAY_IDLE_SECONDS": "300",
    "GATEWAY_TOTAL_SECONDS": "3600",
}


def test_silence_is_filled_at_fifteen_and_thirty_seconds(gateway: Gateway, figures: Callable[[str], None]) -> None:
    server = gateway.with_settings(**REAL)
    callers = {spoken.kind: gateway.caller(server=server) for spoken in FILLED}
    models = {spoken.kind: silent(gateway, spoken) for spoken in FILLED}
    with ThreadPoolExecutor(len(FILLED)) as threads:
        asked = [
            (spoken, threads.submit(watch, callers[spoken.kind], spoken, models[spoken.kind])) for spoken in FILLED
        ]
        seen = [(spoken, moments.result()) for spoken, moments in asked]
    for spoken, moments in seen:
        figures(f"keep-alives of {spoken.kind} at " + ", ".join(f"{moment:.1f} s" for moment in moments))
        assert [round(moment) for moment in moments] == list(EXPECTED_SECONDS)
        assert callers[spoken.kind].settled_books().charged == spoken.charge
    assert {spoken.kind for spoken in FILLED} == {"chat", "messages", "responses"}


def silent(gateway: Gateway, spoken: Format) -> str:
    """A model whose provider thinks for a long time."""

    async def thinks(talk: Conversation) -> None:
        await talk.gone(SILENT_SECONDS)
        await spoken.well(talk)

    return gateway.model(thinks, kind=spoken.kind, adapter=spoken.adapter, rates=spoken.rates)


def watch(caller: Caller, spoken: Format, model: str) -> list[float]:
    """The seconds at which keep-alives came, in a stream that is read to its end."""
    moments: list[float] = []
    first = spoken.keepalive.split(b"\n")[0]
    body = {"model": model, **spoken.asked, "stream": True}
    started = time.monotonic()
    with http.opened(caller.port, "POST", spoken.path, body, caller.headers({}), timeout=90) as stream:
        while line := stream.line():
            if line == first and time.monotonic() - started < SILENT_SECONDS - 1:
                moments.append(time.monotonic() - started)
    return moments

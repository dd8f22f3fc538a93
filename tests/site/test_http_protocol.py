"""The head of an answer as it goes out, against what uvicorn itself would have written."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from hypereal_site.http_protocol import Cycle

Headers = list[tuple[bytes, bytes]]


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True


def answer(
    kind: type[RequestResponseCycle],
    status: int,
    headers: Headers,
    *bodies: bytes,
    method: str = "GET",
    keep_alive: bool = True,
) -> Transport:
    transport: Any = Transport()
    cycle = kind(
        scope={"type": "http", "method": method},  # type: ignore[typeddict-item]
        transport=transport,
        flow=FlowControl(transport),
        logger=logging.getLogger("test"),
        access_logger=logging.getLogger("test"),
        access_log=False,
        default_headers=[(b"date", b"today")],
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=keep_alive,
        on_response=lambda: None,
    )

    async def send() -> None:
        await cycle.send({"type": "http.response.start", "status": status, "headers": headers})
        for number, body in enumerate(bodies, 1):
            await cycle.send({"type": "http.response.body", "body": body, "more_body": number < len(bodies)})

    asyncio.run(send())
    kept: Transport = transport
    return kept


@pytest.mark.parametrize(
    ("status", "headers", "bodies", "how"),
    [
        (200, [(b"Content-Length", b"5")], [b"hello"], {}),
        (200, [(b"content-type", b"text/plain")], [b"he", b"", b"llo"], {}),
        (200, [(b"content-type", b"text/plain")], [b""], {"method": "HEAD"}),
        (204, [], [b""], {}),
        (304, [], [b""], {}),
        (500, [(b"content-length", b"0"), (b"Connection", b"Close")], [b""], {}),
        (200, [(b"content-length", b"2"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")], [b"ok"], {}),
        (200, [(b"content-length", b"2")], [b"ok"], {"keep_alive": False}),
    ],
)
def test_it_is_what_uvicorn_writes(status: int, headers: Headers, bodies: list[bytes], how: dict[str, Any]) -> None:
    ours = answer(Cycle, status, headers, *bodies, **how)
    theirs = answer(RequestResponseCycle, status, headers, *bodies, **how)
    assert (ours.written, ours.closed) == (theirs.written, theirs.closed)


@pytest.mark.parametrize("bad", [b"a\r\nset-cookie: stolen=1", b"a\nb", b"a\rb", b"a\0b"])
def test_a_header_never_breaks_out_of_its_line(bad: bytes) -> None:
    for headers in ([(b"x-name", bad)], [(bad, b"value")]):
        with pytest.raises(RuntimeError, match="line end"):
            answer(Cycle, 200, headers)

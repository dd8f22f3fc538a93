"""A stream of events as one JSON list that comes piece by piece: how Google answers without ``alt=sse``."""

from __future__ import annotations

from typing import Final

from gateway.request import Readable
from upstreams import sse

CONTENT_TYPE: Final = b"application/json; charset=utf-8"
_COMMA: Final = b",\r\n"


class ListReader:
    """Reads whole events and gives their data as the elements of a list. Errors inside it are elements too."""

    __slots__ = ("_begun", "_events")

    def __init__(self, events: Readable) -> None:
        self._events = events
        self._begun = False

    def reader_left(self) -> bool:
        """Whether nobody reads any more."""
        return self._events.reader_left()

    async def read(self) -> tuple[bytes, bool]:
        """The next elements, and whether the list is at its end. Raises what the events raise."""
        events, ended = await self._events.read()
        elements = [data for event in sse.split(events) if (data := sse.data_of(event))]
        out = b""
        if elements or (ended and not self._begun):
            out = (_COMMA if self._begun else b"[") + _COMMA.join(elements)
            self._begun = True
        return (out + b"]" if ended else out), ended

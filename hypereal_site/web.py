"""The web face: stock Django, with a bound on what anybody may send to it.

Django reads a body to its end before anything looks at who sent it, into a temporary file without a limit. Here a body
that is too large is refused before it is read, and a large one waits on the storage's own disk: /tmp may be memory.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from typing import IO, Any, Final

import msgspec
from django.conf import settings
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler

from core.body import Receive, declared_length, too_large
from core.errors import ProductError
from storage.multipart import MOST_OVERHEAD_BYTES
from storage.spool import folder

#: Forms and documents: provider metadata, provisioning, an event of a payment.
MOST_BODY_BYTES: Final = 8 * 1024 * 1024
#: The one page that takes files.
_UPLOADS: Final = frozenset({"/storage/upload", "/storage/upload/"})

Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class WebHandler(ASGIHandler):
    """Answers everything that is no gateway path."""

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """One request. A body above its bound gets 413 and the end of its connection."""
        most = most_bytes(scope["path"])
        try:
            declared_length(dict(scope["headers"]), most)
            await super().__call__(scope, _bounded(receive, most), send)
        except ProductError as error:  # only the bounds raise one that far: a view's are answers by then
            await _refuse(error, send)

    async def read_body(self, receive: Receive) -> IO[bytes]:
        """As Django's, on the storage's disk. Raises RequestAborted, RequestTooLarge."""
        body: IO[bytes] = io.BytesIO()
        size = 0
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise RequestAborted
                piece = message.get("body", b"")
                if size <= settings.FILE_UPLOAD_MAX_MEMORY_SIZE < size + len(piece):
                    body = _on_disk(body)
                body.write(piece)
                size += len(piece)
                if not message.get("more_body"):
                    break
        except BaseException:
            body.close()
            raise
        body.seek(0)
        return body


def most_bytes(path: str) -> int:
    """What a body sent to ``path`` may be at most."""
    if path in _UPLOADS:
        return max(MOST_BODY_BYTES, settings.STORAGE_MOST_FILE_BYTES + MOST_OVERHEAD_BYTES)
    return MOST_BODY_BYTES


def _on_disk(body: IO[bytes]) -> IO[bytes]:
    """What has come so far, in a file."""
    file = tempfile.TemporaryFile(dir=folder())  # noqa: SIM115  (the request closes it)
    body.seek(0)
    file.write(body.read())
    body.close()
    return file


def _bounded(receive: Receive, most: int) -> Receive:
    """``receive`` that raises RequestTooLarge once more than ``most`` bytes have come."""
    size = 0

    async def counted() -> Mapping[str, Any]:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > most:
            raise too_large(most)
        return message

    return counted


async def _refuse(error: ProductError, send: Send) -> None:
    body = msgspec.json.encode({"error": {"type": error.type, "message": error.message, **error.extra}})
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

"""``GET /files/<token>/<filename>``: a stored file, for whoever holds its address.

Strangers' bytes come from our own origin here. So nothing but pictures, sound and video is ever shown in a page, the
type is ours and final, and a policy keeps even those from running or loading anything.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from typing import IO, Any, Final

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.http.response import StreamingHttpResponse
from django.views.decorators.http import require_safe

from core import clock
from storage import links, names, objects
from storage.models import StoredObject
from storage.shelf import backend
from storage.spool import PIECE_BYTES

_INLINE: Final = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif", "video/mp4", "video/webm"})
_POLICY: Final = "sandbox; default-src 'none'; media-src 'self'"
#: S3 signs for no longer.
_MOST_SIGNED_SECONDS: Final = 7 * 86_400
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.IGNORECASE | re.ASCII)


@require_safe
def download(request: HttpRequest, token: str, filename: str) -> HttpResponseBase:
    """The file, or a part of it. ``filename`` is for people; the token says which file."""
    found = links.read(token)
    row = StoredObject.objects.filter(pk=found[0]).first() if found else None
    if found is None or row is None or not objects.is_there(row):
        raise Http404
    left = max(1, int(found[1] - clock.now().timestamp()))
    # An address that a bucket signs is good for one method: what a HEAD wants to know is known here.
    elsewhere = settings.S3_BUCKET and request.method != "HEAD"
    answer = _elsewhere(row, left) if elsewhere else _from_here(request, row)
    answer["X-Content-Type-Options"] = "nosniff"
    answer["Content-Security-Policy"] = _POLICY
    # The address is what lets somebody in: whoever was given it may show the file in a page of their own.
    answer["Cross-Origin-Resource-Policy"] = "cross-origin"
    answer["Access-Control-Allow-Origin"] = "*"
    answer["Access-Control-Expose-Headers"] = "Accept-Ranges, Content-Disposition, Content-Length, Content-Range, ETag"
    answer["Referrer-Policy"] = "no-referrer"
    answer["X-Robots-Tag"] = "noindex"
    answer["Cache-Control"] = f"private, max-age={min(left, 3600) if answer.status_code in (200, 206) else 0}"
    return answer


def may_be_shown(media_type: str) -> bool:
    """Whether a browser may show a file of that type instead of saving it."""
    return media_type in _INLINE or media_type.startswith("audio/")


def _disposition(row: StoredObject) -> str:
    return names.disposition(row.filename, inline=may_be_shown(row.content_type))


def _elsewhere(row: StoredObject, seconds: int) -> HttpResponseBase:
    """The bucket's own address of the file, signed for as long as ours."""
    parameters = {"ResponseContentDisposition": _disposition(row), "ResponseContentType": row.content_type}
    bucket: Any = backend()
    expire = min(seconds, _MOST_SIGNED_SECONDS)
    return HttpResponseRedirect(bucket.url(row.place, parameters=parameters, expire=expire))


def _from_here(request: HttpRequest, row: StoredObject) -> HttpResponseBase:
    size, etag = row.size_bytes, f'"{row.sha256}"'
    headers = {"ETag": etag, "Accept-Ranges": "bytes", "Content-Disposition": _disposition(row)}
    known = request.headers.get("If-None-Match", "")
    if etag in known or known.strip() == "*":
        return HttpResponse(status=304, headers={"ETag": etag})
    start, end, status = 0, size, 200
    asked = _range(request, etag, size)
    if asked is not None:
        start, end = asked
        if start >= end:
            return HttpResponse(status=416, headers={"Content-Range": f"bytes */{size}", "Accept-Ranges": "bytes"})
        status = 206
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    headers["Content-Length"] = str(end - start)
    if request.method == "HEAD":
        return HttpResponse(status=status, content_type=row.content_type, headers=headers)
    try:
        file = objects.open_bytes(row)
    except OSError:
        raise Http404 from None
    pieces = _Pieces(file, start, end) if isinstance(request, ASGIRequest) else _pieces(file, start, end)
    return StreamingHttpResponse(pieces, status=status, content_type=row.content_type, headers=headers)


def _range(request: HttpRequest, etag: str, size: int) -> tuple[int, int] | None:
    """The one part that is asked for, as (first, behind the last); empty where there is none such. None: everything.

    RFC 9110, 14.2: what is not understood (several parts, other units) is not there.
    """
    match = _RANGE.fullmatch(request.headers.get("Range", "").replace(" ", ""))
    if match is None or request.headers.get("If-Range", etag) != etag:
        return None
    first, last = match.groups()
    if not first:
        return (max(0, size - int(last)), size) if last else None
    if last and int(last) < int(first):
        return None
    return int(first), min(int(last) + 1, size) if last else size


class _Pieces:
    """The bytes from ``start`` to before ``end``, one piece in memory at a time, each read off the event loop.

    Django closes it with the answer, however that ends.
    """

    def __init__(self, file: IO[bytes], start: int, end: int) -> None:
        self._file = file
        self._at: int | None = None
        self._start = start
        self._end = end

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        piece = await sync_to_async(self._next, thread_sensitive=False)()
        if not piece:
            raise StopAsyncIteration
        return piece

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _next(self) -> bytes:
        if self._at is None:
            self._file.seek(self._start)
            self._at = self._start
        piece = self._file.read(min(PIECE_BYTES, self._end - self._at))
        self._at += len(piece)
        return piece


def _pieces(file: IO[bytes], start: int, end: int) -> Iterator[bytes]:
    """The same for a server that knows no coroutines."""
    with file:
        file.seek(start)
        left = end - start
        while left > 0 and (piece := file.read(min(PIECE_BYTES, left))):
            left -= len(piece)
            yield piece

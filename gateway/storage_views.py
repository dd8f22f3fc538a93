"""``/storage``: files of the key's workspace. An upload is read as it comes; the rest is ordinary Django."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

from django.conf import settings

from core.body import ClientGone, declared_length
from core.errors import InvalidRequest
from gateway import actors, engine
from gateway.endpoints import endpoint
from gateway.request import Answer, GatewayRequest
from storage import serving
from storage.multipart import MOST_OVERHEAD_BYTES, UploadForm

#: A sender that is silent for this long has gone.
_IDLE_SECONDS: Final = 60.0
_TOTAL_SECONDS: Final = 3_600.0
#: Handed to the thread that writes at a time: few changes of thread, little memory.
_BATCH_BYTES: Final = 1024 * 1024
#: A large file on its way into a bucket.
_KEEP_SECONDS: Final = 600.0


@endpoint("POST", reads_body=True)
async def upload(request: GatewayRequest) -> Answer:
    """``POST /storage/upload``: a form with ``file``, and ``filename``, ``contentType`` and ``kind`` if wanted."""
    await engine.count(request)
    if request.raw_headers.get(b"content-encoding", b"identity") != b"identity":
        raise InvalidRequest("Compressed bodies are not accepted.", param="Content-Encoding")
    length = declared_length(request.raw_headers, settings.STORAGE_MOST_FILE_BYTES + MOST_OVERHEAD_BYTES)
    content_type = request.raw_headers.get(b"content-type", b"").decode("latin-1")
    request.runtime.uploads.take(1)
    form = None
    try:
        form = UploadForm(content_type, settings.STORAGE_MOST_FILE_BYTES)
        await request.runtime.work(partial(serving.check_room, request.key, length))
        await _read(request, form)
        kept = await request.runtime.work(
            partial(serving.keep, request.key, form, actors.of(request)), seconds=_KEEP_SECONDS
        )
    finally:
        if form is not None:
            form.close()
        request.runtime.uploads.give_back(1)
    return Answer.of(kept, 201)


@endpoint("GET")
async def files(request: GatewayRequest) -> Answer:
    """``GET /storage?kind=&limit=&cursor=``: newest first."""
    await engine.count(request)
    asked = [request.GET.get(name) for name in ("kind", "limit", "cursor")]
    return Answer.of(await request.runtime.work(partial(serving.page, request.key, *asked)))


@endpoint("GET", "DELETE")
async def one_file(request: GatewayRequest, object_id: str) -> Answer:
    """``GET``, ``DELETE /storage/{id}``"""
    await engine.count(request)
    step = partial(serving.one, request.key, object_id)
    if request.method == "DELETE":
        step = partial(serving.remove, request.key, object_id, actors.of(request))
    return Answer.of(await request.runtime.work(step))


async def _read(request: GatewayRequest, form: UploadForm) -> None:
    """The whole body, into the form. Raises ClientGone, InvalidRequest, RequestTooLarge."""
    batch: list[bytes] = []
    size = 0
    more = True
    try:
        async with asyncio.timeout(_TOTAL_SECONDS):
            while more:
                async with asyncio.timeout(_IDLE_SECONDS):
                    message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                more = bool(message.get("more_body"))
                batch.append(message.get("body", b""))
                size += len(batch[-1])
                if size >= _BATCH_BYTES or not more:
                    await _off_the_loop(form, b"".join(batch))
                    batch, size = [], 0
    except TimeoutError:
        raise InvalidRequest("The body did not arrive in time.", headers={"Connection": "close"}) from None
    form.finish()


async def _off_the_loop(form: UploadForm, data: bytes) -> None:
    """Parse and write in a thread: a disk may be slow, and hashing takes the CPU."""
    writing = asyncio.get_running_loop().run_in_executor(None, form.feed, data)
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        await asyncio.wait({writing})  # the file must not be closed under the thread that writes to it
        raise

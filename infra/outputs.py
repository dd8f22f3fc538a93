"""What a worker gave back: small outputs stay as they are, large ones become files.

In what is kept, ``{"$object": id}`` stands for a file; whoever shows it puts a fresh signed address in its place.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from django.conf import settings

from core import ids
from core.errors import RequestTooLarge
from jobs.models import Job
from storage import objects
from storage.models import Source, StoredObject
from upstreams import loose_json

FILE: Final = "$object"
#: Texts from this size on are looked at as encoded files; shorter ones are left alone.
LEAST_FILE_CHARACTERS: Final = 32 * 1024
MOST_FETCHED_BYTES: Final = 512 * 1024 * 1024
MOST_DEPTH: Final = 32
#: What is nested deeper than this, in an input or an output, is refused.
MOST_NESTING: Final = 100

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[\w=.-]+)*;base64,")
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]+={0,2}\s*")
_ENDINGS: Final = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/webp": "webp",
    "video/mp4": "mp4",
    "video/webm": "webm",
}
#: Members of an output under which workers put what they made.
_MADE: Final = ("outputs", "images", "videos", "audio", "image", "video", "image_url", "video_url", "url", "data")


def kept(job: Job, output: Any) -> Any:
    """An output as it goes into the job's row. Raises RequestTooLarge for a file above the limit, OSError."""
    output = _plain(output)
    if len(loose_json.encode(output)) <= settings.GPU_INLINE_OUTPUT_BYTES:
        return output
    lighter = _without_files(job, output, 0)
    encoded = loose_json.encode(lighter)
    if len(encoded) <= settings.GPU_INLINE_OUTPUT_BYTES:
        return lighter
    return {FILE: str(_store(job, encoded, "output.json", "application/json").pk), "bytes": len(encoded)}


def shown(job: Job, output: Any) -> Any:
    """The same with an address in each file's place; None for a file that is gone.

    Files of this very run alone: what a worker wrote itself in that form opens nobody's files.
    """
    return _shown(output, _addresses(job, output), 0)


def listed(job: Job, output: Any) -> list[dict[str, str]]:
    """The files of what `kept` or `files` gave, each with a fresh address, as polls and pages list results."""
    addresses = _addresses(job, output)
    return [{"url": url} for name in _objects(output) if (url := addresses.get(name)) is not None]


def _shown(output: Any, addresses: Mapping[str, str], depth: int) -> Any:
    if isinstance(output, Mapping):
        if FILE in output:
            return addresses.get(str(output[FILE]))
        return (
            {name: _shown(one, addresses, depth + 1) for name, one in output.items()} if depth < MOST_DEPTH else output
        )
    if isinstance(output, list) and depth < MOST_DEPTH:
        return [_shown(member, addresses, depth + 1) for member in output]
    return output


def _objects(output: Any, depth: int = 0) -> Iterator[str]:
    if isinstance(output, Mapping) and FILE in output:
        yield str(output[FILE])
    elif depth < MOST_DEPTH and isinstance(output, Mapping | list):
        for member in output.values() if isinstance(output, Mapping) else output:
            yield from _objects(member, depth + 1)


def _addresses(job: Job, output: Any) -> dict[str, str]:
    """The run's files that are named in ``output`` and can be had, each with a fresh address."""
    named = [identifier for text in _objects(output) if (identifier := ids.parse(text)) is not None]
    rows = StoredObject.objects.filter(pk__in=named, job_id=job.pk, workspace_id=job.workspace_id) if named else ()
    return {str(row.pk): objects.signed_url(row) for row in rows if objects.is_there(row)}


def _plain(value: Any, depth: int = 0) -> Any:
    """``value`` as JSON proper: null for the numbers that Python writes and JSON does not have.

    Raises RequestTooLarge for what is nested beyond any use.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if depth > MOST_NESTING:
        raise RequestTooLarge("The output is nested too deeply.")
    if isinstance(value, Mapping):
        return {name: _plain(member, depth + 1) for name, member in value.items()}
    if isinstance(value, list):
        return [_plain(member, depth + 1) for member in value]
    return value


def files(job: Job, output: Any) -> list[dict[str, str]]:
    """Every file in a hosted model's output, stored: encoded ones, and those behind addresses of the engine's.

    Raises RequestTooLarge, OSError, EgressError for an address that does not answer.
    """
    found = []
    for number, text in enumerate(_made(output), 1):
        data = _decoded(text)
        if data is not None:
            stored = _store(job, data[0], f"{job.model}-{number}.{_ENDINGS.get(data[1], 'bin')}", data[1])
        elif text.startswith("https://"):
            stored = objects.fetch_and_store(
                text, job.workspace_id, kind="", filename=f"{job.model}-{number}", most_bytes=MOST_FETCHED_BYTES,
                key_id=job.key_id, user_id=job.user_id, job_id=job.pk,
            )  # fmt: skip
        else:
            continue
        found.append({FILE: str(stored.pk)})
    return found


def _made(output: Any) -> Iterator[str]:
    """Texts that stand for files: a text, a list of them, or what lies under the usual members."""
    if isinstance(output, str):
        yield output
    elif isinstance(output, list):
        for member in output:
            yield from _made(member)
    elif isinstance(output, Mapping):
        for name in _MADE:
            if name in output:
                yield from _made(output[name])


def _without_files(job: Job, value: Any, depth: int) -> Any:
    if isinstance(value, str) and len(value) >= LEAST_FILE_CHARACTERS:
        data = _decoded(value)
        if data is None:
            return value
        return {FILE: str(_store(job, data[0], f"output.{_ENDINGS.get(data[1], 'bin')}", data[1]).pk)}
    if depth >= MOST_DEPTH:
        return value
    if isinstance(value, Mapping):
        return {name: _without_files(job, member, depth + 1) for name, member in value.items()}
    if isinstance(value, list):
        return [_without_files(job, member, depth + 1) for member in value]
    return value


def _decoded(text: str) -> tuple[bytes, str] | None:
    """The bytes of a data URL or of base64, with the type that it claims; None for a text that is neither."""
    head = _DATA_URL.match(text)
    body = text[head.end() :] if head else text
    if not head and not _BASE64.fullmatch(body):
        return None
    try:
        return base64.b64decode(re.sub(r"\s", "", body), validate=True), (head[1] or "") if head else ""
    except (binascii.Error, ValueError):
        return None


def _store(job: Job, data: bytes, filename: str, content_type: str) -> StoredObject:
    return objects.store(
        job.workspace_id,
        data,
        kind="",
        filename=filename,
        content_type=content_type,
        source=Source.RESULT,
        key_id=job.key_id,
        user_id=job.user_id,
        job_id=job.pk,
    )

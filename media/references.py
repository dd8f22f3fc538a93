"""Pictures that callers send along with a prompt: as public HTTPS URLs, as base64 data URLs, or as files.

Reading one is pure. Where a URL leads is checked before anything is reserved, whoever will fetch it; the gateway
itself fetches only through the guarded way out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Final
from urllib.parse import urljoin

from core import clock, outbound
from core.egress import EgressError, EgressRefused, Limits, Purpose, Response, check_url
from core.errors import InvalidRequest
from upstreams.images import Source, decoded, image_type

MOST_BYTES: Final = 20 * 1024 * 1024
#: References in one request, whatever the model: more than any takes.
MOST_REFERENCES: Final = 16
MOST_URL_CHARACTERS: Final = 2048
_SECONDS: Final = 20.0
_MOST_HOPS: Final = 4
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_DATA: Final = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?:;[\w-]+=[\w.-]+)*;base64,")


def read(member: str, value: str) -> Source:
    """A reference as a caller wrote it. Raises InvalidRequest with ``param`` for what is neither kind of URL."""
    if value[:5].lower() == "data:":
        return _of_data_url(member, value)
    if value[:8].lower() != "https://" or len(value) > MOST_URL_CHARACTERS:
        raise InvalidRequest(
            "A reference image must be a public https:// URL or a base64 data URL.",
            param=member,
            code="invalid_reference",
        )
    return Source(member, "https", url=value)


def uploaded(member: str, data: bytes) -> Source:
    """A reference that came as a file. Raises InvalidRequest for what is no picture."""
    return Source(member, "upload", data=data, content_type=_type_of(member, data))


def check(sources: Iterable[Source]) -> None:
    """Whether every URL leads to the public internet. Blocks for the look-up of names. Raises InvalidRequest.

    A name that nobody knows passes: nothing can be reached by it, and who needs the picture will say so.
    """
    for source in sources:
        if source.kind == "https":
            try:
                check_url(source.url, Purpose.REFERENCE_IMAGE, allow=outbound.allowed())
            except EgressRefused as error:
                raise _unreachable(source, error) from None
            except EgressError:
                continue


def load(source: Source) -> Source:
    """The source with its bytes, fetched where it is a URL. Blocks. Raises InvalidRequest with ``param``."""
    if source.data:
        return source
    answer = _fetched(source)
    if answer.status != 200:
        raise InvalidRequest(
            f"The reference image can't be read: its server answered {answer.status}.",
            param=source.member,
            code="invalid_reference",
        )
    return replace(source, data=answer.body, content_type=_type_of(source.member, answer.body))


def _fetched(source: Source) -> Response:
    """What lies at a source's URL, behind a few addresses that may lead on: each is checked like the first."""
    url, end = source.url, clock.monotonic() + _SECONDS
    for _ in range(_MOST_HOPS):
        limits = Limits(total_seconds=max(0.1, end - clock.monotonic()), body_bytes=MOST_BYTES)
        try:
            answer = outbound.call(url, Purpose.REFERENCE_IMAGE, limits=limits)
        except EgressError as error:
            raise _unreachable(source, error) from None
        if answer.status not in _REDIRECTS or not answer.headers.get("location"):
            break
        url = urljoin(url, answer.headers["location"])
    return answer


def _of_data_url(member: str, value: str) -> Source:
    match = _DATA.match(value)
    data = None
    if match is not None and len(value) - match.end() <= MOST_BYTES * 4 // 3 + 4:
        data = decoded(value[match.end() :])
    if not data:
        raise InvalidRequest(
            f"A data URL must be data:image/…;base64, with at most {MOST_BYTES >> 20} MB behind it.",
            param=member,
            code="invalid_reference",
        )
    return Source(member, "data", data=data, content_type=_type_of(member, data))


def _type_of(member: str, data: bytes) -> str:
    found = image_type(data)
    if found is None or len(data) > MOST_BYTES:
        raise InvalidRequest(
            f"A reference image must be a PNG, JPEG, WebP or GIF of at most {MOST_BYTES >> 20} MB.",
            param=member,
            code="invalid_reference",
        )
    return found


def _unreachable(source: Source, error: EgressError) -> InvalidRequest:
    return InvalidRequest(f"The reference image can't be used: {error}", param=source.member, code="invalid_reference")

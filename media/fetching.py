"""Recordings that a caller names by address, fetched through the guarded way out and bounded in size and time."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urljoin

from core import outbound
from core.egress import EgressError, EgressTooLarge, Limits, Purpose
from core.errors import InvalidRequest
from media.audio import MOST_RECORDING_BYTES

#: Where files lie, an address or two often lead on; each is checked like the first.
_MOST_HOPS: Final = 4
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
#: Names that are kept for examples (RFC 2606): there never is a file.
_DOCUMENTATION: Final = re.compile(r"https://(?:[\w-]+\.)*(?:example\.(?:com|net|org)|[\w-]+\.example)/", re.ASCII)
_LIMITS: Final = Limits(connect_seconds=5.0, total_seconds=15.0, body_bytes=MOST_RECORDING_BYTES)


def is_of_documentation(url: str) -> bool:
    """Whether the address is one that examples are written with."""
    return _DOCUMENTATION.match(url) is not None


def recording(url: str, param: str) -> bytes:
    """The bytes at ``url``. Raises InvalidRequest, with ``param``, for whatever keeps them from being had."""
    for _ in range(_MOST_HOPS):
        try:
            answer = outbound.call(url, Purpose.REFERENCE_AUDIO, limits=_LIMITS)
        except EgressTooLarge:
            raise InvalidRequest(
                f"What {param} leads to is larger than {MOST_RECORDING_BYTES} bytes.",
                param=param,
                code="audio_too_large",
                extra={"limit_bytes": MOST_RECORDING_BYTES},
            ) from None
        except (EgressError, ValueError) as error:
            raise InvalidRequest(
                f"What {param} leads to can't be fetched. {error}", param=param, code="audio_not_fetched"
            ) from None
        target = answer.headers.get("location", "")
        if answer.status in _REDIRECTS and target:
            url = urljoin(url, target)
            continue
        if answer.status != 200:
            raise InvalidRequest(
                f"What {param} leads to can't be fetched: its server answered {answer.status}.",
                param=param,
                code="audio_not_fetched",
            )
        return answer.body
    raise InvalidRequest(f"What {param} leads to leads on too often.", param=param, code="audio_not_fetched")

"""Results that a provider offers at an address of its own, copied here before that address expires.

The address came in a provider's answer: it is checked like one that a user typed in, at each hop.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urljoin, urlsplit
from uuid import UUID

from django.conf import settings

from core import clock, outbound
from core.egress import Allowed, EgressFailed, EgressRefused, EgressTimedOut, EgressTooLarge, Limits, Purpose, Response
from core.errors import RequestTooLarge
from storage.models import Source, StoredObject
from storage.shelf import Owner, keep
from storage.spool import Spool

_MOST_HOPS: Final = 4
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_CONNECT_SECONDS: Final = 10.0
_PORTS: Final = {"http": 80, "https": 443}


def fetch_and_store(
    url: str,
    workspace_id: UUID,
    *,
    kind: str,
    filename: str,
    headers: Mapping[str, str] | None = None,
    most_bytes: int | None = None,
    seconds: float = 300.0,
    source: str = Source.RESULT,
    key_id: UUID | None = None,
    user_id: UUID | None = None,
    job_id: UUID | None = None,
    vouched_for: str = "",
) -> StoredObject:
    """Copy what ``url`` leads to into the workspace's storage, never more than ``most_bytes`` of it in a file.

    ``headers`` (a provider's key, say) go to the host of ``url`` only. ``vouched_for`` is the base URL that an operator
    set for the provider: its host and port may be private. Raises EgressError (``reason`` is ``status_404`` and so on
    where the server refuses), and as `storage.objects.store`.
    """
    most = min(most_bytes or settings.STORAGE_MOST_FILE_BYTES, settings.STORAGE_MOST_FILE_BYTES)
    owner = Owner(workspace_id, source, key_id, user_id, job_id)
    with Spool(most) as spool:
        answer = _follow(url, spool, headers or {}, seconds, _vouched(vouched_for))
        claimed = answer.headers.get("content-type", "")
        return keep(spool, owner, kind=kind, filename=filename, content_type=claimed)


def _follow(url: str, spool: Spool, headers: Mapping[str, str], seconds: float, also: tuple[Allowed, ...]) -> Response:
    """The answer behind at most `_MOST_HOPS` redirects, its body in the spool. Raises EgressError."""
    end = clock.monotonic() + seconds
    for _hop in range(_MOST_HOPS):
        left = end - clock.monotonic()
        if left <= 0:
            raise EgressTimedOut
        spool.clear()
        limits = Limits(connect_seconds=_CONNECT_SECONDS, total_seconds=left, body_bytes=spool.most_bytes)
        try:
            answer = outbound.call(url, Purpose.RESULT, headers=headers, limits=limits, also=also, sink=spool.write)
        except RequestTooLarge:
            raise EgressTooLarge from None
        if answer.status not in _REDIRECTS:
            break
        try:
            target = urljoin(url, answer.headers.get("location", ""))
            if _origin(target) != _origin(url):
                headers = {}  # a key is for the host that it was meant for
        except ValueError:
            raise EgressRefused("url", "The file's server sent us on to what is no address.") from None
        url = target
    if answer.status != 200:
        raise EgressFailed(f"status_{answer.status}", f"The file's server answered {answer.status}.")
    if not spool.size_bytes:
        raise EgressFailed("empty", "The file's server sent nothing.")
    return answer


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme.lower(), (parts.hostname or "").lower(), parts.port or _PORTS.get(parts.scheme.lower())


def _vouched(base_url: str) -> tuple[Allowed, ...]:
    """The sandbox, which is this installation's own, and a provider's base URL as its operator set it."""
    found = []
    for text in (settings.SANDBOX_BASE_URL, base_url):
        _scheme, host, port = _origin(text)
        if host and port:
            found.append(Allowed.read(f"[{host}]:{port}" if ":" in host else f"{host}:{port}"))
    return tuple(found)

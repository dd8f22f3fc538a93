"""Addresses of files: whoever has one may read that file for a while, without an account. Pure but for the settings."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import quote
from uuid import UUID

from django.conf import settings

from core import clock

_PURPOSE: Final = "storage.links"
_BODY: Final = struct.Struct(">16sQ")
_MAC_BYTES: Final = 20
#: Links made within the same minutes are the same, so that a browser that shows a page again has the file already.
_STEP_SECONDS: Final = 300


def url(object_id: UUID, filename: str, *, seconds: int | None = None, now: datetime | None = None) -> str:
    """The absolute address of a file for ``seconds`` (settings.STORAGE_URL_SECONDS), or up to five minutes longer."""
    moment = (now or clock.now()) + timedelta(seconds=seconds or settings.STORAGE_URL_SECONDS)
    until = -(-int(moment.timestamp()) // _STEP_SECONDS) * _STEP_SECONDS
    return f"{settings.SITE_URL}/files/{_token(object_id, until)}/{quote(filename, safe='')}"


def path_in(url: str) -> str:
    """The path of an address, for pages of our own."""
    return url.removeprefix(settings.SITE_URL)


def read(token: str, *, now: datetime | None = None) -> tuple[UUID, int] | None:
    """Which file a token opens and until when (Unix seconds); None for a forged, mutilated or expired one."""
    try:
        raw = base64.b64decode(token.encode("ascii") + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError, ValueError):
        return None
    body, mac = raw[: _BODY.size], raw[_BODY.size :]
    if len(body) != _BODY.size or not hmac.compare_digest(_mac(body), mac):
        return None
    identifier, until = _BODY.unpack(body)
    if (now or clock.now()).timestamp() >= until:
        return None
    return UUID(bytes=identifier), until


def _token(object_id: UUID, until: int) -> str:
    body = _BODY.pack(object_id.bytes, until)
    return base64.urlsafe_b64encode(body + _mac(body)).rstrip(b"=").decode()


def _mac(body: bytes) -> bytes:
    key = hmac.digest(settings.SECRET_KEY.encode(), _PURPOSE.encode(), hashlib.sha256)
    return hmac.digest(key, body, hashlib.sha256)[:_MAC_BYTES]

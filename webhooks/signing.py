"""Signatures as https://www.standardwebhooks.com has them: HMAC-SHA256 over ``id.timestamp.body``, in base64."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.utils.translation import gettext as _

from core import errors
from core import secrets as sealing
from webhooks.models import Signed

SECRET_PREFIX: Final = "whsec_"  # noqa: S105
_SECRET_BYTES: Final = 32
#: After a rotation messages bear both signatures for so long.
OVERLAP: Final = timedelta(hours=24)


def new_secret() -> str:
    """A fresh secret: ``whsec_`` and 32 random bytes in base64."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def message_id(outbox_id: UUID) -> str:
    """The ``webhook-id`` of a message: the same on every attempt and at every receiver."""
    return f"msg_{outbox_id.hex}"


def headers(identifier: str, moment: datetime, body: bytes, keys: Iterable[str]) -> dict[str, str]:
    """The three headers of a message, with one signature for each of the secrets ``keys``."""
    timestamp = str(int(moment.timestamp()))
    signatures = (signature(identifier, timestamp, body, key) for key in keys)
    return {"webhook-id": identifier, "webhook-timestamp": timestamp, "webhook-signature": " ".join(signatures)}


def signature(identifier: str, timestamp: str, body: bytes, key: str) -> str:
    """``v1,`` and the message's HMAC under the secret ``key``."""
    raw = base64.b64decode(key.removeprefix(SECRET_PREFIX), validate=True)
    digest = hmac.digest(raw, f"{identifier}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"


# ── Secrets at rest ──────────────────────────────────────────────────────────────────────────────────────────────────
def give_secret(owner: Signed) -> str:
    """Give ``owner`` its first secret, to be saved by the caller, and return it."""
    text = new_secret()
    owner.sealed_secret = sealing.encrypt(text)
    return text


def rotate(owner: Signed, now: datetime, *, end_previous: bool = False, seen: str | None = None) -> str:
    """Give ``owner`` (its row locked) a new secret beside the present one, which signs on for OVERLAP unless it is to
    end now. To be saved by the caller. A secret from before the present one ends at once.

    ``seen`` is the `version` that whoever asks has seen: Conflict where it has been rotated since, so that a form sent
    twice does not end the secret that receivers still use.
    """
    if seen is not None and seen != version(owner):
        raise errors.Conflict(_("The secret was already replaced."), code="already_rotated")
    owner.sealed_previous = None if end_previous else owner.sealed_secret
    owner.previous_until = now if end_previous else now + OVERLAP
    return give_secret(owner)


def version(owner: Signed) -> str:
    """Changes with every rotation."""
    return owner.previous_until.isoformat() if owner.previous_until else "first"


def current(owner: Signed) -> str:
    """The secret in use. Raises `core.secrets.Unreadable`."""
    return sealing.decrypt(bytes(owner.sealed_secret))


def valid_ones(owner: Signed, now: datetime) -> list[str]:
    """All secrets that sign at this moment, the newest first. Raises `core.secrets.Unreadable`."""
    found = [current(owner)]
    if owner.sealed_previous is not None and owner.previous_until is not None and now < owner.previous_until:
        found.append(sealing.decrypt(bytes(owner.sealed_previous)))
    return found


def is_rotating(owner: Signed, now: datetime) -> bool:
    """Whether the secret before still signs as well."""
    return owner.sealed_previous is not None and owner.previous_until is not None and now < owner.previous_until

"""Bearer tokens of provisioning: one belongs to one connection, is shown once and kept as a keyed hash."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import Q
from django.http import HttpRequest

from accounts.models import User
from core import clock, secrets
from events import audit
from sso import identifiers
from sso.models import ScimToken, SsoConnection

PREFIX: Final = "scim_"
_RANDOM_CHARACTERS: Final = 40  # 238 bits
_SHOWN_CHARACTERS: Final = 12
_MOST_CHARACTERS: Final = 100
#: The last use is written down at most this often.
_SEEN_EVERY: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Issued:
    """A new token and the one sight of its secret."""

    token: ScimToken
    secret: str = field(repr=False)


def issue(
    connection: SsoConnection,
    *,
    actor: audit.Actor,
    created_by: User | None,
    name: str = "",
    expires_at: datetime | None = None,
) -> Issued:
    """A new token of the connection."""
    secret = PREFIX + identifiers.base62(_RANDOM_CHARACTERS)
    with transaction.atomic():
        token = ScimToken.objects.create(
            connection=connection,
            name=name.strip()[:80],
            secret_hash=_hash(secret),
            prefix=secret[:_SHOWN_CHARACTERS],
            created_by=created_by,
            expires_at=expires_at,
        )
        _record("scim_token.create", token, actor)
    return Issued(token, secret)


def revoke(token: ScimToken, *, actor: audit.Actor) -> None:
    """End a token now. One that has ended already stays as it is."""
    with transaction.atomic():
        changed = ScimToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=clock.now())
        if changed:
            _record("scim_token.revoke", token, actor)


def of_request(request: HttpRequest) -> ScimToken | None:
    """The valid token that the request bears, of a connection that is not switched off."""
    scheme, _space, secret = request.headers.get("Authorization", "").partition(" ")
    secret = secret.strip()
    if scheme.lower() != "bearer" or not secret.startswith(PREFIX) or len(secret) > _MOST_CHARACTERS:
        return None
    now = clock.now()
    rows = ScimToken.objects.select_related("connection__workspace").filter(
        Q(expires_at=None) | Q(expires_at__gt=now), revoked_at=None, connection__workspace__active=True
    )
    rows = rows.exclude(connection__status=SsoConnection.Status.DISABLED)
    token = rows.filter(secret_hash=_hash(secret)).first()
    if token is not None and (token.last_used_at is None or token.last_used_at < now - _SEEN_EVERY):
        ScimToken.objects.filter(pk=token.pk).update(last_used_at=now)
    return token


def actor_of(request: HttpRequest, token: ScimToken) -> audit.Actor:
    """How the trail names what a directory does."""
    return audit.Actor(
        user_id=None,
        label=f"SCIM: {token}",
        address=audit.address_of(request),
        request_id=getattr(request, "request_id", None),
    )


def _hash(secret: str) -> bytes:
    return secrets.keyed_hash("scim-token", secret)


def _record(action: str, token: ScimToken, actor: audit.Actor) -> None:
    audit.record(
        action,
        actor=actor,
        target=audit.Target("scim_token", token.pk, str(token)),
        workspace_id=token.connection.workspace_id,
        details={"connection": str(token.connection_id), "prefix": token.prefix},
    )

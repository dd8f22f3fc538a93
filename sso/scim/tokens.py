"""Bearer tokens of provisioning: one belongs to one connection, is shown once and kept as a keyed hash."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _

from accounts.models import User
from core import clock, errors, secrets
from events import audit
from sso import identifiers
from sso.models import ScimToken, SsoConnection
from sso.scim import BASE_PATH

PREFIX: Final = "scim_"
MOST_TOKENS: Final = 5
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
    """A new token of the connection. Raises Conflict where it has as many as it may have."""
    secret = PREFIX + identifiers.base62(_RANDOM_CHARACTERS)
    with transaction.atomic():
        SsoConnection.objects.select_for_update(no_key=True, of=("self",)).get(pk=connection.pk)
        if living(connection).count() >= MOST_TOKENS:
            raise errors.Conflict(
                _("A connection has at most %(most)d tokens. Revoke one first.") % {"most": MOST_TOKENS},
                code="too_many_tokens",
            )
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


def living(connection: SsoConnection) -> QuerySet[ScimToken]:
    """The connection's tokens that were not revoked, the oldest first."""
    return ScimToken.objects.filter(connection=connection, revoked_at=None).order_by("id")


def find(connection: SsoConnection, identifier: UUID | None) -> ScimToken:
    """One of them. Raises NotFound."""
    token = living(connection).select_related("connection").filter(pk=identifier).first() if identifier else None
    if token is None:
        raise errors.NotFound(_("There is no such token."))
    return token


def base_url() -> str:
    """Where a directory sends its requests to."""
    return f"{settings.SITE_URL}{BASE_PATH}"


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

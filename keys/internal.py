"""Keys that a page of our own calls the gateway with, in its person's name: short-lived, in no list, gone at sign-out.

They spend the workspace's wallet within the same limits as that person's other keys. Their secret is given to the
page and kept nowhere; the session remembers their ids, so that it can end them.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from django.contrib.auth.signals import user_logged_out
from django.db import transaction
from django.dispatch import receiver
from django.http import HttpRequest

from accounts.models import User
from core import clock, errors, ids
from events import audit
from keys import auth, issuing, secret
from keys.models import ApiKey
from orgs import signals
from orgs.models import Workspace

SESSION_KEY: Final = "internal_keys"
#: Of one session: a few windows at the same time.
_MOST: Final = 8
_MINUTE: Final = timedelta(minutes=1)
_MOST_A_MINUTE: Final = 20


def mint(request: HttpRequest, workspace: Workspace, user: User, *, name: str, lasts: timedelta) -> issuing.Issued:
    """A key for a page that ``user`` has open. The session's oldest ends where there would be too many.

    Raises RateLimited where somebody makes them by the dozen.
    """
    actor = audit.actor_of(request)
    text = secret.new_secret()
    with transaction.atomic():
        _check_rate(workspace, user)
        key = ApiKey.objects.create(
            workspace=workspace,
            created_by=user,
            name=name,
            secret_hash=auth.hash_of(text),
            prefix=issuing.display_form(text),
            expires_at=clock.now() + lasts,
            internal=True,
        )
        target, told = audit.Target("api_key", key.pk, name), {"internal": True}
        audit.record("api_key.create", actor=actor, target=target, workspace_id=workspace.pk, details=told)
        kept = [*request.session.get(SESSION_KEY, []), str(key.pk)]
        _end(kept[:-_MOST], actor)
        request.session[SESSION_KEY] = kept[-_MOST:]
    return issuing.Issued(key, text)


def standing(workspace_id: UUID, user_id: UUID | None, *, name: str, actor: audit.Actor) -> ApiKey:
    """A key on whose meters something counts that somebody asked for once and that goes on: nobody has its secret.

    It is good as long as that person is a member. Whoever asked for it ends it, with `end_standing`.
    """
    text = secret.new_secret()
    key = ApiKey.objects.create(
        workspace_id=workspace_id,
        created_by_id=user_id,
        name=name,
        secret_hash=auth.hash_of(text),
        prefix=issuing.display_form(text),
        internal=True,
    )
    target, told = audit.Target("api_key", key.pk, name), {"internal": True}
    audit.record("api_key.create", actor=actor, target=target, workspace_id=workspace_id, details=told)
    return key


def stands_for(key_id: UUID, user_id: UUID | None) -> bool:
    """Whether that is a key of `standing` that counts for that person, and still there."""
    mine = ApiKey.objects.filter(pk=key_id, created_by_id=user_id, internal=True, deleted_at=None)
    return mine.filter(expires_at=None).exists()


def end_standing(key_id: UUID, *, actor: audit.Actor) -> None:
    """End a key of `standing`; another key stays as it is."""
    for key in ApiKey.objects.filter(pk=key_id, internal=True, expires_at=None, deleted_at=None):
        issuing.delete(key, actor=actor)


@receiver(user_logged_out, dispatch_uid="keys.internal")
def signed_out(request: HttpRequest | None, **_kwargs: Any) -> None:
    """End the keys of the session that ends."""
    if request is not None and hasattr(request, "session"):
        _end(request.session.get(SESSION_KEY, []), audit.actor_of(request))


@receiver(signals.member_removed, dispatch_uid="keys.internal")
def member_left(workspace: Workspace, user: User, by: audit.Actor, **_kwargs: Any) -> None:
    """Nobody inherits a page that is open in somebody else's browser."""
    rows = ApiKey.objects.filter(workspace=workspace, created_by=user, internal=True, deleted_at=None)
    _end([str(pk) for pk in rows.values_list("pk", flat=True)], by)


def _check_rate(workspace: Workspace, user: User) -> None:
    lately = clock.now() - _MINUTE
    made = ApiKey.objects.filter(workspace=workspace, created_by=user, internal=True, created_at__gt=lately).count()
    if made >= _MOST_A_MINUTE:
        raise errors.RateLimited("Too many at once. Wait a minute.", retry_after=60)


def _end(key_ids: list[str], actor: audit.Actor) -> None:
    found = [identifier for text in key_ids if (identifier := ids.parse(text)) is not None]
    for key in ApiKey.objects.filter(pk__in=found, internal=True, deleted_at=None):
        issuing.delete(key, actor=actor)

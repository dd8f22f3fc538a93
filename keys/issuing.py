"""Keys are made, changed, stopped and deleted here, and nowhere else: one function, one transaction, one audit row.

The database tells the gateway of each change when its transaction commits (triggers of migration 0002).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from django.db import transaction
from django.utils.translation import gettext as _

from accounts.models import User
from core import clock, errors, money
from events import audit, outbox
from keys import auth, mails, rules, secret, signals
from keys.models import ApiKey
from orgs.models import Workspace

_SHOWN_START: Final = len(secret.PREFIX) + 4
_SHOWN_END: Final = 4


@dataclass(frozen=True, slots=True)
class Issued:
    """A new key and its secret, which is nowhere else: show it once, then forget it."""

    key: ApiKey
    secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a key may do, as `keys.rules` let it through."""

    name: str
    spending_limit_microcredits: int | None = None
    auto_disable: bool = False
    expires_at: datetime | None = None
    allowed_models: Sequence[str] = ()
    allowed_networks: Sequence[str] = ()


def create(
    workspace: Workspace,
    terms: Terms,
    *,
    actor: audit.Actor,
    created_by: User | None,
    enabled: bool = True,
    form_token: UUID | None = None,
) -> Issued:
    """Issue a key. ``form_token`` marks the form it came from: the same form again raises Conflict, never a second key.

    Also raises Conflict where the workspace has as many keys as it may have.
    """
    text = secret.new_secret()
    with transaction.atomic():
        # The workspace's row is the queue: two forms, or two loops, are counted one after the other.
        Workspace.objects.select_for_update(no_key=True).get(pk=workspace.pk)
        _refuse_repeat(workspace, form_token)
        _refuse_too_many(workspace)
        key = ApiKey.objects.create(
            workspace=workspace,
            created_by=created_by,
            secret_hash=auth.hash_of(text),
            prefix=display_form(text),
            form_token=form_token,
            **_columns(terms),
            **_state(enabled),
        )
        _record(key, "api_key.create", actor, _readable({**_columns(terms), "enabled": enabled}))
        if created_by is not None:
            mails.tell_of_new(key, created_by, actor)
    return Issued(key, text)


def change(key: ApiKey, *, actor: audit.Actor, enabled: bool | None = None, **fields: Any) -> ApiKey:
    """Set the named fields of `Terms`, and whether the key works. What is already so is neither written nor recorded.

    A key that is enabled works again, whatever it was disabled for. Raises NotFound for one deleted meanwhile.
    """
    with transaction.atomic():
        fresh = locked(key)
        changed = {name: value for name, value in fields.items() if getattr(fresh, name) != value}
        if changed:
            before = _readable({name: getattr(fresh, name) for name in changed})
            moved = {"spending_limit_microcredits", "auto_disable"} & changed.keys()
            _write(fresh, changed)
            if moved:
                signals.limit_changed.send(sender=ApiKey, key=fresh, changed=moved)
            after = _readable(changed)
            _record(fresh, "api_key.change", actor, {name: {"from": before[name], "to": after[name]} for name in after})
        if enabled is not None and enabled != fresh.enabled:
            _write(fresh, _state(enabled))
            _record(fresh, "api_key.enable" if enabled else "api_key.disable", actor)
            if not enabled:
                tell_of_disabled(fresh)
    return fresh


def disable_at_limit(key: ApiKey) -> bool:
    """Disable a key that reached its monthly limit and is to stop there. Whether it was enabled until now."""
    with transaction.atomic():
        fresh = locked(key)
        if not fresh.enabled or not fresh.auto_disable:
            return False
        _write(fresh, {"enabled": False, "disabled_reason": ApiKey.DisabledReason.SPENDING_LIMIT})
        _record(fresh, "api_key.disable", audit.SYSTEM, {"reason": ApiKey.DisabledReason.SPENDING_LIMIT})
        tell_of_disabled(fresh)
    return True


def delete(key: ApiKey, *, actor: audit.Actor) -> None:
    """End the key for good. Its row stays, since log and ledger name it."""
    with transaction.atomic():
        fresh = locked(key)
        _write(fresh, {"deleted_at": clock.now()})
        _record(fresh, "api_key.delete", actor)


def tell_of_disabled(key: ApiKey) -> None:
    """Let the workspace's servers know of a key that was just disabled."""
    data = {"keyId": key.pk, "name": key.name, "prefix": key.prefix, "reason": key.disabled_reason}
    outbox.tell(key.workspace_id, "key.disabled", data)


def display_form(text: str) -> str:
    """What pages show of a secret: enough to tell keys apart, far too little to use or to guess one."""
    return f"{text[:_SHOWN_START]}…{text[-_SHOWN_END:]}"


def locked(key: ApiKey) -> ApiKey:
    """The key as it is now, held until the transaction ends. Raises NotFound where it was deleted meanwhile."""
    fresh = ApiKey.objects.select_for_update(no_key=True).filter(pk=key.pk, deleted_at=None).first()
    if fresh is None:
        raise errors.NotFound(_("There is no such key."))
    return fresh


def _refuse_repeat(workspace: Workspace, form_token: UUID | None) -> None:
    if form_token and ApiKey.objects.filter(workspace=workspace, form_token=form_token).exists():
        raise errors.Conflict(_("This key was already made."), code="already_made")


def _refuse_too_many(workspace: Workspace) -> None:
    in_lists = ApiKey.objects.filter(workspace=workspace, deleted_at=None, internal=False)
    if in_lists.count() >= rules.MOST_KEYS:
        message = _("A workspace has at most %(most)d keys. Delete one first.") % {"most": rules.MOST_KEYS}
        raise errors.Conflict(message, code="too_many_keys")


def _state(enabled: bool) -> dict[str, Any]:
    return {"enabled": enabled, "disabled_reason": "" if enabled else ApiKey.DisabledReason.BY_HAND}


def _write(key: ApiKey, columns: Mapping[str, Any]) -> None:
    for name, value in columns.items():
        setattr(key, name, value)
    key.save(update_fields=list(columns))


def _columns(terms: Terms) -> dict[str, Any]:
    return {
        "name": terms.name,
        "spending_limit_microcredits": terms.spending_limit_microcredits,
        "auto_disable": terms.auto_disable,
        "expires_at": terms.expires_at,
        "allowed_models": list(terms.allowed_models),
        "allowed_networks": list(terms.allowed_networks),
    }


def _readable(columns: Mapping[str, Any]) -> dict[str, Any]:
    """The columns as the audit trail shows them: credits instead of microcredits, times as text, nothing empty."""
    shown: dict[str, Any] = {}
    for name, value in columns.items():
        if name == "spending_limit_microcredits":
            shown["spending_limit"] = None if value is None else str(money.credits(value))
        elif isinstance(value, datetime):
            shown[name] = value.isoformat()
        else:
            shown[name] = value
    return shown


def _record(key: ApiKey, action: str, actor: audit.Actor, details: Mapping[str, Any] | None = None) -> None:
    target = audit.Target("api_key", key.pk, key.name)
    audit.record(action, actor=actor, target=target, workspace_id=key.workspace_id, details=details)

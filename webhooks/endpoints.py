"""Endpoints are made, changed, stopped and deleted here: one function, one transaction, one audit row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils.translation import gettext as _

from accounts.models import User
from core import clock, errors
from events import audit
from events.models import Outbox
from orgs.models import Workspace
from webhooks import deliveries, fanout, rules, signing
from webhooks.models import Delivery, Endpoint


@dataclass(frozen=True, slots=True)
class Made:
    """A new endpoint (or an old one with a new secret) and its secret: show it once, then forget it."""

    endpoint: Endpoint
    secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What an endpoint is, as `webhooks.rules` let it through."""

    url: str
    events: Sequence[str]
    description: str = ""


def create(
    workspace: Workspace,
    terms: Terms,
    *,
    actor: audit.Actor,
    created_by: User | None,
    form_token: UUID | None = None,
) -> Made:
    """A new endpoint. Raises Conflict where the same form came before, or the workspace has enough of them."""
    with transaction.atomic():
        Workspace.objects.select_for_update(no_key=True).get(pk=workspace.pk)  # forms come one after the other
        _refuse(workspace, form_token)
        endpoint = Endpoint(workspace=workspace, created_by=created_by, form_token=form_token, **_columns(terms))
        text = signing.give_secret(endpoint)
        endpoint.save(force_insert=True)
        _record(endpoint, "webhook.create", actor, {"events": list(terms.events)})
    return Made(endpoint, text)


def change(
    endpoint: Endpoint, *, actor: audit.Actor, enabled: bool | None = None, fields: Mapping[str, Any]
) -> Endpoint:
    """Set the named ``fields`` of `Terms`, and whether it is told of anything. What is already so is not recorded.

    Enabled again, it starts with a clean slate. Raises NotFound for one deleted meanwhile.
    """
    with transaction.atomic():
        fresh = locked(endpoint)
        changed = {name: value for name, value in fields.items() if getattr(fresh, name) != value}
        if changed:
            before = {name: getattr(fresh, name) for name in changed}
            _write(fresh, changed)
            details = {name: {"from": before[name], "to": changed[name]} for name in changed}
            _record(fresh, "webhook.change", actor, details)
        if enabled is not None and enabled != fresh.enabled:
            if enabled:
                clean = {"disabled_reason": "", "disabled_at": None, "failing_since": None, "notice_due": False}
                _write(fresh, {"enabled": True, **clean})
            else:
                deliveries.disable(fresh, Endpoint.DisabledReason.BY_HAND, clock.now())
            _record(fresh, "webhook.enable" if enabled else "webhook.disable", actor)
    return fresh


def rotate(endpoint: Endpoint, *, actor: audit.Actor, end_previous: bool = False, seen: str | None = None) -> Made:
    """A new secret by `signing.rotate`, which explains ``end_previous`` and ``seen``. Raises NotFound and Conflict."""
    with transaction.atomic():
        fresh = locked(endpoint)
        text = signing.rotate(fresh, clock.now(), end_previous=end_previous, seen=seen)
        fresh.save(update_fields=["sealed_secret", "sealed_previous", "previous_until"])
        _record(fresh, "webhook.rotate_secret", actor, {"end_previous": end_previous})
    return Made(fresh, text)


def delete(endpoint: Endpoint, *, actor: audit.Actor) -> None:
    """End the endpoint, with its deliveries and their log. Raises NotFound for one deleted meanwhile."""
    with transaction.atomic():
        fresh = Endpoint.objects.select_for_update().filter(pk=endpoint.pk).first()
        if fresh is None:
            raise errors.NotFound(_("There is no such webhook."))
        _record(fresh, "webhook.delete", actor)
        fresh.delete()


def send_test(endpoint: Endpoint, *, actor: audit.Actor) -> Delivery:
    """Send ``webhook.test`` to this endpoint alone. Raises NotFound, and Conflict while it is disabled."""
    with transaction.atomic():
        fresh, now = locked(endpoint), clock.now()
        deliveries.refuse_disabled(fresh)
        data = {"webhookId": str(fresh.pk), "message": "This is a test."}
        message = Outbox.objects.create(
            workspace_id=fresh.workspace_id, event=rules.TEST_EVENT, data=data, created_at=now, fanned_out_at=now
        )
        delivery = fanout.to_endpoint(message, fresh, now)
        delivery.save(force_insert=True)
        _record(fresh, "webhook.test", actor)
    return delivery


def _refuse(workspace: Workspace, form_token: UUID | None) -> None:
    rows = Endpoint.objects.filter(workspace=workspace)
    if form_token and rows.filter(form_token=form_token).exists():
        raise errors.Conflict(_("This webhook was already made."), code="already_made")
    if rows.count() >= rules.MOST_ENDPOINTS:
        message = _("A workspace has at most %(most)d webhooks. Delete one first.") % {"most": rules.MOST_ENDPOINTS}
        raise errors.Conflict(message, code="too_many_webhooks")


def locked(endpoint: Endpoint) -> Endpoint:
    """The endpoint as it is now, held until the transaction ends. Raises NotFound for one deleted meanwhile."""
    fresh = Endpoint.objects.select_for_update(no_key=True).filter(pk=endpoint.pk).first()
    if fresh is None:
        raise errors.NotFound(_("There is no such webhook."))
    return fresh


def _columns(terms: Terms) -> dict[str, Any]:
    return {"url": terms.url, "events": list(terms.events), "description": terms.description}


def _write(endpoint: Endpoint, columns: Mapping[str, Any]) -> None:
    for name, value in columns.items():
        setattr(endpoint, name, value)
    endpoint.save(update_fields=list(columns))


def _record(endpoint: Endpoint, action: str, actor: audit.Actor, details: Mapping[str, Any] | None = None) -> None:
    target = audit.Target("webhook", endpoint.pk, endpoint.url)
    audit.record(action, actor=actor, target=target, workspace_id=endpoint.workspace_id, details=details)

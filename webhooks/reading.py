"""Endpoints, deliveries and attempts as pages and the API show them: found by who asks, paged, without secrets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.db.models import Prefetch, QuerySet
from django.utils.translation import gettext as _

from accounts.models import User
from core import clock, errors, ids
from events import outbox
from orgs.access import Access, in_workspace
from orgs.models import Membership, Workspace
from orgs.permissions import Permission
from webhooks import rules, signing
from webhooks.models import Attempt, Delivery, Endpoint

PAGE_ROWS: Final = 30
MOST_ROWS: Final = 100

#: Who may not see these things elsewhere does not see them in a message about them either.
_NEEDED: Final[Mapping[str, Permission]] = {
    "limit": Permission.BILLING_READ,
    "balance": Permission.BILLING_READ,
    "topup": Permission.BILLING_READ,
    "refund": Permission.BILLING_READ,
    "key": Permission.KEYS_READ,
    "member": Permission.MEMBERS_READ,
}


@dataclass(frozen=True, slots=True)
class Filters:
    """Which deliveries are looked for; empty: all."""

    state: str = ""
    event: str = ""

    @classmethod
    def of(cls, state: str, event: str) -> Filters:
        """Checked. Raises InvalidRequest that names the member."""
        if state and state not in Delivery.State.values:
            raise errors.InvalidRequest(_("There is no such state."), param="state")
        if event and event not in (*outbox.EVENTS, rules.TEST_EVENT):
            raise errors.InvalidRequest(_("There is no such event."), param="event")
        return cls(state, event)

    def as_query(self) -> dict[str, str]:
        """The same as a query's members, only what is set."""
        return {name: value for name, value in (("state", self.state), ("event", self.event)) if value}


@dataclass(frozen=True, slots=True)
class Page:
    """Some deliveries, the newest first, and the id from which the older ones go on."""

    rows: Sequence[Delivery]
    older: UUID | None


# ── Finding ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def of_workspace(access: Access) -> QuerySet[Endpoint]:
    """The workspace's endpoints, the newest first."""
    return Endpoint.objects.filter(workspace=access.workspace).order_by("-id")


def endpoint(access: Access, endpoint_id: UUID | str) -> Endpoint:
    """The workspace's endpoint of that id. Raises NotFound for any other, foreign and invented ones alike."""
    identifier = endpoint_id if isinstance(endpoint_id, UUID) else ids.parse(endpoint_id)
    found = of_workspace(access).filter(pk=identifier).first() if identifier else None
    if found is None:
        raise errors.NotFound(_("There is no such webhook."))
    return found


def endpoint_anywhere(user: User, endpoint_id: str) -> tuple[Access, Endpoint]:
    """The endpoint of that id in any of the person's workspaces, and their access to it. Raises NotFound."""
    identifier = ids.parse(endpoint_id)
    row = Endpoint.objects.filter(pk=identifier, workspace__memberships__user=user).first() if identifier else None
    if row is None:
        raise errors.NotFound(_("There is no such webhook."))
    return in_workspace(user, row.workspace_id), row


def delivery(access: Access, delivery_id: UUID | str) -> Delivery:
    """The workspace's delivery of that id, with message and endpoint. Raises NotFound for any other."""
    identifier = delivery_id if isinstance(delivery_id, UUID) else ids.parse(delivery_id)
    rows = Delivery.objects.filter(workspace_id=access.workspace.pk).select_related("message", "endpoint")
    found = rows.filter(pk=identifier).first() if identifier else None
    if found is None:
        raise errors.NotFound(_("There is no such delivery."))
    return found


def delivery_anywhere(user: User, delivery_id: str) -> tuple[Access, Delivery]:
    """The delivery of that id in any of the person's workspaces, and their access to it. Raises NotFound."""
    identifier = ids.parse(delivery_id)
    own = Membership.objects.filter(user=user).values("workspace_id")
    row = Delivery.objects.filter(pk=identifier, workspace_id__in=own).first() if identifier else None
    if row is None:
        raise errors.NotFound(_("There is no such delivery."))
    access = in_workspace(user, row.workspace_id)
    return access, delivery(access, row.pk)


def deliveries(
    access: Access,
    of: Endpoint | None,
    filters: Filters,
    *,
    before: UUID | None = None,
    most: int = PAGE_ROWS,
) -> Page:
    """Deliveries to the endpoint ``of``, or (None) to the addresses that calls brought with them."""
    rows = Delivery.objects.filter(workspace_id=access.workspace.pk, endpoint=of)
    rows = rows.select_related("message", "endpoint")
    if filters.state:
        rows = rows.filter(state=filters.state)
    if filters.event:
        rows = rows.filter(message__event=filters.event)
    if before is not None:
        rows = rows.filter(pk__lt=before)
    # Answers are only for the page of one delivery.
    brief = Prefetch("attempts", Attempt.objects.defer("answer").order_by("id"), to_attr="made")
    taken = list(rows.order_by("-id").prefetch_related(brief)[: most + 1])
    more, taken = len(taken) > most, taken[:most]
    return Page(taken, taken[-1].pk if more else None)


def attempts(row: Delivery) -> list[Attempt]:
    """Every attempt at a delivery, the newest first."""
    return list(row.attempts.order_by("-id"))


def may_see_data(access: Access, event: str) -> bool:
    """Whether the role may see what such a message says."""
    needed = _NEEDED.get(event.partition(".")[0])
    return needed is None or needed in access.permissions


# ── As data ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def shown(row: Endpoint) -> dict[str, Any]:
    """An endpoint as the API shows it: never its secret."""
    personal = row.workspace.kind == Workspace.Kind.PERSONAL
    return {
        "id": row.pk,
        "url": row.url,
        "description": row.description,
        "events": row.events,
        "enabled": row.enabled,
        "disabled_reason": row.disabled_reason or None,
        "disabled_at": row.disabled_at,
        "failing_since": row.failing_since,
        "previous_secret_until": row.previous_until if signing.is_rotating(row, clock.now()) else None,
        "created_at": row.created_at,
        "organization_id": None if personal else row.workspace_id,
    }


def shown_delivery(row: Delivery) -> dict[str, Any]:
    """A delivery as the API lists it; ``row.made`` are its attempts."""
    made: list[Attempt] = getattr(row, "made", None) or []
    last = made[-1] if made else None
    return {
        "id": row.pk,
        "message_id": signing.message_id(row.message_id),
        "event": row.message.event,
        "url": row.url,
        "webhook_id": row.endpoint_id,
        "state": row.state,
        "attempts": len(made),
        "last_status": last.status if last else None,
        "last_error": (last.error or None) if last else None,
        "next_attempt_at": row.run_after if row.state == Delivery.State.WAITING else None,
        "created_at": row.message.created_at,
    }


def shown_attempt(row: Attempt) -> dict[str, Any]:
    """An attempt as the API shows it."""
    return {
        "id": row.pk,
        "started_at": row.started_at,
        "duration_ms": row.duration_ms,
        "status": row.status,
        "error": row.error or None,
        "error_message": row.error_message or None,
        "answer": row.answer,
    }

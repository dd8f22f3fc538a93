"""``/api/webhooks``: endpoints and their deliveries, for scripts that hold a person's session. Names are camelCase."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Query, Router, Schema, Status
from pydantic import ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from accounts import reauth
from events import audit, outbox
from orgs import access
from orgs.access import Access
from orgs.permissions import Permission
from webhooks import default_secret, deliveries, endpoints, reading, rules
from webhooks.models import Delivery, Endpoint

router = Router(tags=["Webhooks"])

_Events = Annotated[
    list[str],
    Field(max_length=100),
    WithJsonSchema({"type": "array", "items": {"type": "string", "enum": list(outbox.EVENTS)}, "minItems": 1}),
]
_Url = Annotated[str, Field(max_length=rules.URL_LENGTH, description="A public https:// address.")]


class _In(Schema):
    """Unknown members are refused: a misspelt one must not be taken for a wish that was granted."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")


class _Out(Schema):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class NewWebhook(_In):
    """An endpoint to be made, for the workspace in use or for the organization named."""

    url: _Url
    events: _Events
    description: str = Field(default="", max_length=1_000)
    organization_id: UUID | None = None


class WebhookChange(_In):
    """A member that is left out stays as it is."""

    url: _Url = ""
    events: _Events = Field(default_factory=list)
    description: str = Field(default="", max_length=1_000)
    enabled: bool = True

    def columns(self) -> dict[str, Any]:
        """What was sent, by the names of `endpoints.Terms`, checked. Raises InvalidRequest."""
        sent: dict[str, Any] = {}
        if "events" in self.model_fields_set:
            sent["events"] = rules.events(self.events)
        if "description" in self.model_fields_set:
            sent["description"] = rules.description(self.description)
        if "url" in self.model_fields_set:
            sent["url"] = rules.url(self.url)
        return sent


class Rotation(_In):
    """What becomes of the secret before."""

    end_previous: bool = Field(default=False, description="End it now: it is known to others. Else it signs for a day.")


class Chosen(_In):
    """Which workspace is meant; the one in use where nothing is said."""

    organization_id: UUID | None = None


class DeliveryQuery(_In):
    state: str = Field(default="", description=f"One of: {', '.join(Delivery.State.values)}.")
    event: str = ""
    before: UUID | None = Field(default=None, description="Rows older than this: the ``next`` of the page before.")
    limit: int = Field(default=reading.PAGE_ROWS, ge=1, le=reading.MOST_ROWS)


class OwnDeliveryQuery(DeliveryQuery):
    organization_id: UUID | None = None


class WebhookOut(_Out):
    """An endpoint as it is shown: never its secret."""

    id: UUID
    url: str
    description: str
    events: list[str]
    enabled: bool
    disabled_reason: str | None
    disabled_at: datetime | None
    failing_since: datetime | None = Field(description="The first failure since the last success.")
    previous_secret_until: datetime | None = Field(description="Until then the secret before signs as well.")
    created_at: datetime
    organization_id: UUID | None


class WithSecret(WebhookOut):
    """The one answer that holds the secret."""

    secret: str = Field(description="The signing secret. It can't be shown again.")


class WebhookList(_Out):
    webhooks: list[WebhookOut]


class SecretOut(_Out):
    secret: str


class Recovered(_Out):
    count: int = Field(description="How many messages are sent again.")


class DeliveryOut(_Out):
    id: UUID
    message_id: str = Field(description="The ``webhook-id`` header, the same on every attempt.")
    event: str
    url: str
    webhook_id: UUID | None = Field(description="Null where a call brought the address with it.")
    state: str
    attempts: int
    last_status: int | None
    last_error: str | None
    next_attempt_at: datetime | None
    created_at: datetime


class DeliveryPage(_Out):
    """The newest rows first."""

    deliveries: list[DeliveryOut]
    next: UUID | None = Field(description="The ``before`` of the next page; null at the end.")


class AttemptOut(_Out):
    id: UUID
    started_at: datetime
    duration_ms: int
    status: int | None
    error: str | None
    error_message: str | None
    answer: str = Field(description="The first kilobyte of what came back.")


class OneDelivery(DeliveryOut):
    body: dict[str, Any] | None = Field(description="What is sent; null where the role may not see such things.")
    log: list[AttemptOut] = Field(description="The newest attempt first.")


# ── The workspace's secret, and what goes to addresses that calls bring with them ────────────────────────────────────
@router.post("/secret/reveal", auth=access.member(), response=SecretOut, by_alias=True)
def reveal_secret(request: HttpRequest, chosen: Query[Chosen]) -> dict[str, Any]:
    """Show the secret that signs messages to a job's ``webhookUrl``."""
    place = _place(request, chosen.organization_id, Permission.WEBHOOKS_WRITE)
    reauth.check_old_session(request)
    return {"secret": default_secret.reveal(place.workspace, actor=audit.actor_of(request))}


@router.post("/secret/rotate", auth=access.member(), response=SecretOut, by_alias=True)
def rotate_workspace_secret(
    request: HttpRequest, chosen: Query[Chosen], body: Rotation | None = None
) -> dict[str, Any]:
    """Replace it; for 24 hours messages bear both signatures."""
    place = _place(request, chosen.organization_id, Permission.WEBHOOKS_WRITE)
    reauth.check_old_session(request)
    end = body is not None and body.end_previous
    return {"secret": default_secret.rotate(place.workspace, actor=audit.actor_of(request), end_previous=end)}


@router.get("/deliveries", auth=access.member(), response=DeliveryPage, by_alias=True)
def list_own_deliveries(request: HttpRequest, query: Query[OwnDeliveryQuery]) -> dict[str, Any]:
    """Messages to addresses that calls brought with them (``webhookUrl``)."""
    place = _place(request, query.organization_id, Permission.WEBHOOKS_READ)
    return _page(place, None, query)


@router.get("/deliveries/{delivery_id}", auth=access.member(), response=OneDelivery, by_alias=True, summary="One")
def get_delivery(request: HttpRequest, delivery_id: str) -> dict[str, Any]:
    return _one(*_delivery(request, delivery_id, Permission.WEBHOOKS_READ))


@router.post("/deliveries/{delivery_id}/replay", auth=access.member(), response=OneDelivery, by_alias=True)
def replay_delivery(request: HttpRequest, delivery_id: str) -> dict[str, Any]:
    """Send it once more, now, under the same message id."""
    place, row = _delivery(request, delivery_id, Permission.WEBHOOKS_WRITE)
    return _one(place, deliveries.replay(row, actor=audit.actor_of(request)))


# ── Endpoints ────────────────────────────────────────────────────────────────────────────────────────────────────────
@router.get("", auth=access.member(), response=WebhookList, by_alias=True, summary="List webhooks")
def list_webhooks(request: HttpRequest, chosen: Query[Chosen]) -> dict[str, Any]:
    place = _place(request, chosen.organization_id, Permission.WEBHOOKS_READ)
    return {"webhooks": [reading.shown(row) for row in reading.of_workspace(place)]}


@router.post("", auth=access.member(), response={201: WithSecret}, by_alias=True, summary="Create a webhook")
def create_webhook(request: HttpRequest, body: NewWebhook) -> Status[dict[str, Any]]:
    place = _place(request, body.organization_id, Permission.WEBHOOKS_WRITE)
    reauth.check_old_session(request)
    terms = endpoints.Terms(
        events=rules.events(body.events), description=rules.description(body.description), url=rules.url(body.url)
    )
    made = endpoints.create(place.workspace, terms, actor=audit.actor_of(request), created_by=place.user)
    return Status(201, {**reading.shown(made.endpoint), "secret": made.secret})


@router.get("/{webhook_id}", auth=access.member(), response=WebhookOut, by_alias=True, summary="One webhook")
def get_webhook(request: HttpRequest, webhook_id: str) -> dict[str, Any]:
    return reading.shown(_endpoint(request, webhook_id, Permission.WEBHOOKS_READ)[1])


@router.patch("/{webhook_id}", auth=access.member(), response=WebhookOut, by_alias=True, summary="Change a webhook")
def change_webhook(request: HttpRequest, webhook_id: str, body: WebhookChange) -> dict[str, Any]:
    row = _endpoint(request, webhook_id, Permission.WEBHOOKS_WRITE)[1]
    if "url" in body.model_fields_set:  # what customers' data goes to
        reauth.check_old_session(request)
    enabled = body.enabled if "enabled" in body.model_fields_set else None
    changed = endpoints.change(row, actor=audit.actor_of(request), enabled=enabled, fields=body.columns())
    return reading.shown(changed)


@router.delete("/{webhook_id}", auth=access.member(), response={204: None}, summary="Delete a webhook")
def delete_webhook(request: HttpRequest, webhook_id: str) -> Status[None]:
    endpoints.delete(_endpoint(request, webhook_id, Permission.WEBHOOKS_WRITE)[1], actor=audit.actor_of(request))
    return Status(204, None)


@router.post("/{webhook_id}/rotate-secret", auth=access.member(), response=WithSecret, by_alias=True)
def rotate_secret(request: HttpRequest, webhook_id: str, body: Rotation | None = None) -> dict[str, Any]:
    """A new secret; for 24 hours messages bear the signatures of both."""
    row = _endpoint(request, webhook_id, Permission.WEBHOOKS_WRITE)[1]
    reauth.check_old_session(request)
    end = body is not None and body.end_previous
    made = endpoints.rotate(row, actor=audit.actor_of(request), end_previous=end)
    return {**reading.shown(made.endpoint), "secret": made.secret}


@router.post("/{webhook_id}/test", auth=access.member(), response={202: DeliveryOut}, by_alias=True)
def send_test(request: HttpRequest, webhook_id: str) -> Status[dict[str, Any]]:
    """Send the event ``webhook.test`` to this webhook alone."""
    row = _endpoint(request, webhook_id, Permission.WEBHOOKS_WRITE)[1]
    return Status(202, reading.shown_delivery(endpoints.send_test(row, actor=audit.actor_of(request))))


@router.post("/{webhook_id}/recover", auth=access.member(), response=Recovered, by_alias=True)
def recover(request: HttpRequest, webhook_id: str) -> dict[str, Any]:
    """Send everything again that did not reach this webhook and is not tried any more."""
    row = _endpoint(request, webhook_id, Permission.WEBHOOKS_WRITE)[1]
    return {"count": deliveries.recover(row, actor=audit.actor_of(request))}


@router.get("/{webhook_id}/deliveries", auth=access.member(), response=DeliveryPage, by_alias=True)
def list_deliveries(request: HttpRequest, webhook_id: str, query: Query[DeliveryQuery]) -> dict[str, Any]:
    """What was sent to this webhook, and what became of it."""
    place, row = _endpoint(request, webhook_id, Permission.WEBHOOKS_READ)
    return _page(place, row, query)


def _place(request: HttpRequest, organization_id: UUID | None, permission: Permission) -> Access:
    """The workspace in use, or the organization named, where the role allows ``permission``."""
    place = access.current(request)
    if organization_id is not None:
        place = access.in_workspace(place.user, organization_id)
    place.require(permission)
    return place


def _endpoint(request: HttpRequest, webhook_id: str, permission: Permission) -> tuple[Access, Endpoint]:
    place, row = reading.endpoint_anywhere(access.signed_in(request), webhook_id)
    place.require(permission)
    return place, row


def _delivery(request: HttpRequest, delivery_id: str, permission: Permission) -> tuple[Access, Delivery]:
    place, row = reading.delivery_anywhere(access.signed_in(request), delivery_id)
    place.require(permission)
    return place, row


def _page(place: Access, row: Endpoint | None, query: DeliveryQuery) -> dict[str, Any]:
    filters = reading.Filters.of(query.state, query.event)
    page = reading.deliveries(place, row, filters, before=query.before, most=query.limit)
    return {"deliveries": [reading.shown_delivery(each) for each in page.rows], "next": page.older}


def _one(place: Access, row: Delivery) -> dict[str, Any]:
    log = reading.attempts(row)
    row.made = log[::-1]  # type: ignore[attr-defined]
    seen = reading.may_see_data(place, row.message.event)
    body = json.loads(deliveries.body_of(row.message)) if seen else None
    return {**reading.shown_delivery(row), "body": body, "log": [reading.shown_attempt(each) for each in log]}

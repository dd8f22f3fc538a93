"""Where customers want to be told, what was to be told, and every attempt at it."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from core import clock, ids
from events.models import Outbox
from orgs.models import Workspace


class Signed(models.Model):
    """Something with a signing secret, and for a while after a change the one before it. Both are sealed."""

    sealed_secret = models.BinaryField()
    sealed_previous = models.BinaryField(null=True)
    #: Until then messages are signed with the secret before as well.
    previous_until = models.DateTimeField(null=True)

    class Meta:
        abstract = True


class Endpoint(Signed):
    """An address of a customer that is told of the events it chose."""

    class DisabledReason(models.TextChoices):
        BY_HAND = "by_hand", _("Disabled by a member")
        FAILING = "failing", _("Disabled: no delivery succeeded for days")
        GONE = "gone", _("Disabled: the server answered 410 Gone")

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="webhooks")
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    url = models.TextField(_("URL"))
    description = models.CharField(_("description"), max_length=120, blank=True)
    #: Names of `events.outbox.EVENTS`.
    events = models.JSONField(default=list)
    enabled = models.BooleanField(default=True)
    disabled_reason = models.CharField(max_length=16, choices=DisabledReason.choices, blank=True)
    disabled_at = models.DateTimeField(null=True)
    #: The first failure since the last success.
    failing_since = models.DateTimeField(null=True)
    #: It was disabled by itself, and the mail that says so has not been sent yet.
    notice_due = models.BooleanField(default=False)
    #: Marks the form or the request it came from, so that the same one makes one endpoint.
    form_token = models.UUIDField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace", "form_token"], name="webhooks_endpoint_form"),
        ]
        indexes = [
            models.Index(fields=["id"], name="webhooks_endpoint_notice", condition=models.Q(notice_due=True)),
        ]

    def __str__(self) -> str:
        return self.url


class WorkspaceSecret(Signed):
    """Signs what goes to addresses that are no endpoints: those that calls bring with them (``webhookUrl``)."""

    workspace = models.OneToOneField(Workspace, models.CASCADE, primary_key=True, related_name="webhook_secret")

    def __str__(self) -> str:
        return str(self.workspace_id)


class Delivery(models.Model):
    """One message on its way to one place: an endpoint, or the address that the message itself brought."""

    class State(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        DELIVERED = "delivered", _("Delivered")
        FAILED = "failed", _("Failed")
        CANCELLED = "cancelled", _("Cancelled")

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    message = models.ForeignKey(Outbox, models.CASCADE, related_name="deliveries")
    endpoint = models.ForeignKey(Endpoint, models.CASCADE, null=True, related_name="deliveries")
    workspace_id = models.UUIDField()
    #: What may have only so many attempts at a time: the endpoint, or the host of the message's own address.
    place = models.UUIDField()
    state = models.CharField(max_length=16, choices=State.choices, default=State.WAITING)
    #: Attempts since it was made or asked for again.
    tries = models.PositiveSmallIntegerField(default=0)
    run_after = models.DateTimeField(default=clock.now)
    #: Who is at it, and until when that is believed.
    lease = models.UUIDField(null=True)
    lease_until = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "deliveries"
        constraints = [
            models.UniqueConstraint(
                fields=["message", "endpoint"], name="webhooks_delivery_once", nulls_distinct=False
            ),
        ]
        indexes = [
            models.Index(
                fields=["place", "run_after"], name="webhooks_delivery_due", condition=models.Q(state="waiting")
            ),
            models.Index(fields=["endpoint", "-id"], name="webhooks_delivery_endpoint"),
            models.Index(fields=["workspace_id", "-id"], name="webhooks_delivery_workspace"),
        ]

    def __str__(self) -> str:
        return f"{self.message_id} {self.state}"

    @property
    def url(self) -> str:
        """Where it goes."""
        return self.endpoint.url if self.endpoint is not None else self.message.url


class Attempt(models.Model):
    """What came of one attempt. ``answer`` is the beginning of the body that came back."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    delivery = models.ForeignKey(Delivery, models.CASCADE, related_name="attempts")
    started_at = models.DateTimeField()
    duration_ms = models.PositiveIntegerField()
    status = models.PositiveSmallIntegerField(null=True)
    #: Why there is no status, in one word of `core.egress`, and in words for people.
    error = models.CharField(max_length=32, blank=True)
    error_message = models.CharField(max_length=200, blank=True)
    answer = models.TextField(blank=True)

    def __str__(self) -> str:
        return f"{self.delivery_id} {self.status or self.error}"

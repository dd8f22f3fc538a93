"""What happened, for people (audit) and for machines (outbox). Plain ids, no foreign keys: everyone may write here."""

from __future__ import annotations

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.utils.translation import gettext_lazy as _

from core import clock, ids


class AuditEvent(models.Model):
    """One management write. Append-only: a database trigger refuses changes and deletions."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    workspace_id = models.UUIDField(null=True)
    actor_id = models.UUIDField(null=True)
    #: How the actor is named at that moment; it stays readable after the account is gone.
    actor_label = models.CharField(max_length=254, blank=True)
    action = models.CharField(_("action"), max_length=64)
    target_type = models.CharField(max_length=32, blank=True)
    target_id = models.CharField(max_length=64, blank=True)
    target_label = models.CharField(max_length=254, blank=True)
    details = models.JSONField(default=dict)
    address = models.GenericIPAddressField(null=True)
    request_id = models.UUIDField(null=True)

    class Meta:
        indexes = [models.Index(fields=["workspace_id", "-id"], name="events_audit_workspace")]

    def __str__(self) -> str:
        return f"{self.action} {self.target_label}"


class Outbox(models.Model):
    """Something that customers' servers are to be told. Written by `events.outbox.tell`, read by the webhooks."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    workspace_id = models.UUIDField()
    event = models.CharField(max_length=64)
    data = models.JSONField(default=dict, encoder=DjangoJSONEncoder)
    #: An address of this row's own, beside the endpoints that chose the event: a job's webhookUrl.
    url = models.TextField(blank=True)
    #: When its deliveries were made; they carry on from there.
    fanned_out_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["id"], name="events_outbox_waiting", condition=models.Q(fanned_out_at__isnull=True)),
        ]

    def __str__(self) -> str:
        return f"{self.event} {self.pk}"

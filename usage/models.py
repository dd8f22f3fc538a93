"""The log of calls and its sums. Both are written only by `usage.metering`, in the transaction that moves the money."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class RequestLog(models.Model):
    """One call. Insert-only (a trigger refuses the rest), partitioned by its UUIDv7, no text of prompt or answer.

    The table is made by hand in the migration: Django can't declare partitions.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    #: The id that the caller saw. It differs from ``id`` only on a late row, which follows an ``interrupted`` one.
    request_id = models.UUIDField()
    #: The moment that dates transfer, log row, rollup, CSV and statement alike.
    billed_at = models.DateTimeField()
    workspace_id = models.UUIDField()
    user_id = models.UUIDField(null=True)
    key_id = models.UUIDField(null=True)
    key_name = models.CharField(max_length=80)
    endpoint = models.CharField(max_length=24)
    model = models.CharField(max_length=120)
    provider = models.CharField(max_length=64)
    #: provider/region/upstream model of the target that served, or that failed last.
    target = models.CharField(max_length=254)
    attempts = models.SmallIntegerField()
    status = models.SmallIntegerField(_("status"))
    error_type = models.CharField(max_length=64)
    stream = models.BooleanField()
    latency_ms = models.IntegerField()
    ttfb_ms = models.IntegerField(null=True)
    input_tokens = models.BigIntegerField()
    cached_input_tokens = models.BigIntegerField()
    cache_write_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    #: Images, seconds, clips … for what is not billed by tokens.
    units = models.DecimalField(max_digits=18, decimal_places=6, null=True)
    charged_microcredits = models.BigIntegerField()
    saved_microcredits = models.BigIntegerField()
    price_id = models.UUIDField(null=True)
    estimated = models.BooleanField()
    late = models.BooleanField()
    client_disconnected = models.BooleanField()
    sandbox = models.BooleanField()
    #: What came of each attempt, as `usage.items.Attempt`; NULL where nobody was asked.
    attempt_trace = models.JSONField(null=True)
    #: The exact parts of the charge, as `catalog.pricing.Line`; NULL where nothing was charged.
    charge_lines = models.JSONField(null=True)
    #: The id of a response that its provider keeps, by which only this workspace may go on from it or read it.
    response_id = models.CharField(max_length=200, null=True)

    class Meta:
        indexes = [
            models.Index(fields=["workspace_id", "-id"], name="usage_log_workspace"),
            models.Index(fields=["workspace_id", "-charged_microcredits"], name="usage_log_dearest"),
            models.Index(
                fields=["response_id"],
                name="usage_log_response",
                condition=models.Q(response_id__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return str(self.request_id)


class Rollup(models.Model):
    """Sums of the log by workspace, day, key, model, endpoint and status, so that pages never scan the log."""

    pk = models.CompositePrimaryKey("workspace_id", "day", "key_id", "model", "endpoint", "status")
    workspace_id = models.UUIDField()
    day = models.DateField()
    key_id = models.UUIDField()
    model = models.CharField(max_length=120)
    endpoint = models.CharField(max_length=24)
    status = models.SmallIntegerField()
    requests = models.BigIntegerField()
    input_tokens = models.BigIntegerField()
    cached_input_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    charged_microcredits = models.BigIntegerField()
    saved_microcredits = models.BigIntegerField()
    latency_ms = models.BigIntegerField()

    def __str__(self) -> str:
        return f"{self.workspace_id} {self.day} {self.model}"


class Checkpoint(models.Model):
    """A day's books, sealed once `verify_ledger` found them right: a later change of that day shows."""

    day = models.DateField(primary_key=True)
    transfers = models.BigIntegerField()
    amount_microcredits = models.DecimalField(max_digits=30, decimal_places=0)
    log_rows = models.BigIntegerField()
    charged_microcredits = models.DecimalField(max_digits=30, decimal_places=0)
    sealed_at = models.DateTimeField()

    def __str__(self) -> str:
        return str(self.day)

"""Long work: one row a job. The row is the truth of what was promised; `jobs.lifecycle` alone changes its state."""

from __future__ import annotations

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from core import clock
from orgs.models import Workspace


class Job(models.Model):
    """A piece of work that outlives its request. Its id is the request's id and the id of its hold."""

    class State(models.TextChoices):
        QUEUED = "queued", _("Queued")
        RUNNING = "running", _("Running")
        SUCCEEDED = "succeeded", _("Succeeded")
        FAILED = "failed", _("Failed")
        CANCELLED = "cancelled", _("Cancelled")
        EXPIRED = "expired", _("Expired")

    id = models.UUIDField(primary_key=True, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="jobs", db_index=False)
    key_id = models.UUIDField()
    key_name = models.CharField(max_length=80)
    user_id = models.UUIDField(null=True)
    #: The name of the kind (`jobs.kinds`), the log's column ``endpoint`` too.
    kind = models.CharField(max_length=24)
    state = models.CharField(max_length=12, choices=State.choices, default=State.QUEUED)
    model = models.CharField(max_length=120)
    price_id = models.UUIDField(null=True)
    reserved_microcredits = models.BigIntegerField()
    #: What it cost in the end; NULL while it is open.
    cost_microcredits = models.BigIntegerField(null=True)
    #: What the kind needs to do its work; no secrets. Emptied a day after the end (`jobs.forgetting`).
    input = models.JSONField(default=dict, encoder=DjangoJSONEncoder)
    #: The kind's memory between steps: the provider's own id, which target is asked.
    notes = models.JSONField(default=dict, encoder=DjangoJSONEncoder)
    result = models.JSONField(null=True, encoder=DjangoJSONEncoder)
    #: A percentage, NULL where nobody knows.
    progress = models.PositiveSmallIntegerField(null=True)
    provider = models.CharField(max_length=64, blank=True)
    #: provider/region/upstream model, as in the log.
    target = models.CharField(max_length=254, blank=True)
    #: How often a provider was asked to begin.
    attempts = models.PositiveSmallIntegerField(default=0)
    #: What came of each of those, as `usage.items.Attempt`.
    attempt_trace = models.JSONField(default=list, encoder=DjangoJSONEncoder)
    #: A provider has taken the work on: it is asked how that goes, no longer to begin.
    begun = models.BooleanField(default=False)
    #: Steps made so far; names the wake-up of the next one.
    steps = models.PositiveIntegerField(default=0)
    #: Steps in a row that ended in an error.
    failures = models.PositiveSmallIntegerField(default=0)
    error_type = models.CharField(max_length=64, blank=True)
    error_code = models.CharField(max_length=100, blank=True)
    error_message = models.TextField(blank=True)
    units = models.DecimalField(max_digits=18, decimal_places=6, null=True)
    execution_ms = models.PositiveBigIntegerField(null=True)
    sandbox = models.BooleanField(default=False)
    webhook_url = models.CharField(max_length=2048, blank=True)
    cancel_asked_at = models.DateTimeField(null=True)
    #: The job has ended without its provider's word, which is still to be told to stop.
    stop_due = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=clock.now)
    #: When a provider was first asked to begin: from then on something may be under way there.
    asked_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    #: The next step is due then.
    run_after = models.DateTimeField()
    lease = models.UUIDField(null=True)
    lease_until = models.DateTimeField(null=True)
    deadline_at = models.DateTimeField()

    #: No column: whether the time was up when `jobs.leases.claim` took the job, by the database's clock.
    past_deadline: bool = False

    class Meta:
        verbose_name = _("job")
        verbose_name_plural = _("jobs")
        indexes = [
            models.Index(fields=["workspace", "-id"], name="jobs_job_workspace"),
            models.Index(
                fields=["run_after"], condition=Q(finished_at__isnull=True) | Q(stop_due=True), name="jobs_job_due"
            ),
            models.Index(fields=["finished_at"], condition=~Q(input={}), name="jobs_job_input"),
        ]
        constraints = [
            models.CheckConstraint(
                name="jobs_job_final_has_its_end",
                condition=Q(state__in=["queued", "running"], finished_at__isnull=True, cost_microcredits__isnull=True)
                | Q(
                    state__in=["succeeded", "failed", "cancelled", "expired"],
                    finished_at__isnull=False,
                    cost_microcredits__gte=0,
                ),
            ),
            models.CheckConstraint(name="jobs_job_reserved_not_negative", condition=Q(reserved_microcredits__gte=0)),
            models.CheckConstraint(
                name="jobs_job_progress_percent", condition=Q(progress__isnull=True) | Q(progress__lte=100)
            ),
        ]

    def __str__(self) -> str:
        return str(self.id)

    @property
    def is_final(self) -> bool:
        """Whether it has ended, one way or the other."""
        return self.finished_at is not None

"""Deployments: somebody's worker image at a GPU engine. The row is what is wanted; `infra.reconciling` makes it so."""

from __future__ import annotations

import json

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from core import clock, ids, secrets
from orgs.models import Workspace


class Deployment(models.Model):
    """An endpoint of a workspace. ``deleted`` rows stay: runs and receipts name them."""

    class State(models.TextChoices):
        CREATING = "creating", _("Creating")
        READY = "ready", _("Ready")
        SCALING = "scaling", _("Scaling")
        FAILED = "failed", _("Failed")
        DELETED = "deleted", _("Deleted")

    class StoppedBecause(models.TextChoices):
        """Why no worker is kept warm any more."""

        BALANCE = "balance", _("The balance was too low. Top up, then save the deployment again.")
        LIMIT = "limit", _("A spending limit is reached. Raise it, then save the deployment again.")
        KEY = (
            "key",
            _("The API key or the member that paid for them is not active any more. Save the deployment again."),
        )
        PRICE = "price", _("Its GPU types have no price at this moment. Choose others and save the deployment.")

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="deployments", db_index=False)
    created_by_id = models.UUIDField(null=True)
    created_at = models.DateTimeField(default=clock.now)
    updated_at = models.DateTimeField(default=clock.now)
    slug = models.CharField(_("slug"), max_length=63)
    name = models.CharField(_("name"), max_length=80)
    docker_image = models.CharField(_("Docker image"), max_length=300)
    #: In the order of preference.
    gpu_types = models.JSONField(default=list)
    min_workers = models.PositiveSmallIntegerField(default=0)
    max_workers = models.PositiveSmallIntegerField(default=3)
    idle_timeout_seconds = models.PositiveIntegerField(default=5)
    max_seconds = models.PositiveIntegerField()
    webhook_url = models.CharField(max_length=2048, blank=True)
    #: A volume of the engine's that is mounted into workers, for weights.
    volume_id = models.CharField(max_length=64, blank=True)
    #: The environment of workers as sealed JSON. It goes to the engine and to nobody else.
    env_sealed = models.BinaryField(null=True, editable=False)
    env_names = models.JSONField(default=list)
    #: The form that asked for it, so that the same form sent twice makes one deployment.
    form_token = models.UUIDField(null=True)

    state = models.CharField(max_length=12, choices=State.choices, default=State.CREATING)
    state_since = models.DateTimeField(default=clock.now)
    error_message = models.CharField(max_length=500, blank=True)
    engine = models.CharField(max_length=16)
    template_id = models.CharField(max_length=64, blank=True)
    endpoint_id = models.CharField(max_length=64, blank=True)
    #: Raised by every change of what is wanted; the engine has what ``applied_version`` says.
    wanted_version = models.PositiveIntegerField(default=1)
    applied_version = models.PositiveIntegerField(default=0)
    #: Whether the engine has nothing of it any more; only meant for a deleted one.
    engine_cleared = models.BooleanField(default=False)
    #: Workers and jobs by state, as the engine said last.
    health = models.JSONField(default=dict)
    seen_at = models.DateTimeField(null=True)
    #: The next look is due then; whoever looks holds the lease.
    run_after = models.DateTimeField(default=clock.now)
    failures = models.PositiveSmallIntegerField(default=0)
    lease = models.UUIDField(null=True)
    lease_until = models.DateTimeField(null=True)
    #: The API key on whose meters warm workers count; a standing one (`keys.internal`) where a person asked for them.
    warm_key_id = models.UUIDField(null=True)
    #: When the workers were scaled to zero, why, and when that was announced.
    warm_warned_at = models.DateTimeField(null=True)
    warm_stopped_at = models.DateTimeField(null=True)
    warm_stopped_because = models.CharField(max_length=8, choices=StoppedBecause.choices, blank=True)

    class Meta:
        verbose_name = _("deployment")
        verbose_name_plural = _("deployments")
        indexes = [
            models.Index(fields=["workspace", "-id"], name="infra_deployment_workspace"),
            models.Index(fields=["run_after"], condition=Q(engine_cleared=False), name="infra_deployment_due"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["workspace", "slug"], condition=~Q(state="deleted"), name="infra_deployment_slug_once"
            ),
            models.UniqueConstraint(fields=["workspace", "form_token"], name="infra_deployment_form_once"),
            models.CheckConstraint(
                condition=Q(max_workers__gte=1) & Q(min_workers__lte=models.F("max_workers")),
                name="infra_deployment_workers_in_order",
            ),
            models.CheckConstraint(condition=Q(max_seconds__gte=1), name="infra_deployment_max_seconds"),
        ]

    def __str__(self) -> str:
        return self.slug

    @property
    def engine_name(self) -> str:
        """What template and endpoint are called at the engine: unique, and free of the customer's words."""
        return f"hypereal-{self.pk.hex}"

    @property
    def is_deleted(self) -> bool:
        """Whether nobody can use it any more."""
        return self.state == self.State.DELETED

    @property
    def has_endpoint(self) -> bool:
        """Whether runs can be handed to the engine."""
        return bool(self.endpoint_id) and self.state in (self.State.READY, self.State.SCALING)

    def set_env(self, values: dict[str, str]) -> None:
        """Seal the environment. Not saved yet."""
        self.env_sealed = secrets.encrypt(json.dumps(values)) if values else None
        self.env_names = sorted(values)

    def env(self) -> dict[str, str]:
        """The environment in the clear, for the engine alone. Raises core.secrets.Unreadable."""
        return dict(json.loads(secrets.decrypt(bytes(self.env_sealed)))) if self.env_sealed else {}


class WarmCharge(models.Model):
    """A stretch of time in which workers are kept warm: its id is its hold's, and its row's in the log once it ended.

    ``since`` is NULL until the engine has been told; ``until`` is how far it is reserved, and then when it ended;
    ``charged_microcredits`` is NULL while it is open.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    deployment = models.ForeignKey(Deployment, on_delete=models.PROTECT, related_name="warm_charges")
    since = models.DateTimeField(null=True)
    until = models.DateTimeField(null=True)
    workers = models.PositiveSmallIntegerField()
    key_id = models.UUIDField()
    #: The tariff that it was reserved under.
    price_id = models.UUIDField(null=True)
    gpu_type = models.CharField(max_length=64, blank=True)
    microcredits_per_second = models.BigIntegerField(default=0)
    charged_microcredits = models.BigIntegerField(null=True)

    class Meta:
        verbose_name = _("charge for warm workers")
        verbose_name_plural = _("charges for warm workers")
        constraints = [
            models.UniqueConstraint(fields=["deployment", "since"], name="infra_warm_charge_once"),
            models.UniqueConstraint(
                fields=["deployment"], condition=Q(charged_microcredits__isnull=True), name="infra_warm_charge_one_open"
            ),
        ]

    def __str__(self) -> str:
        return str(self.id)


class HostedEndpoint(models.Model):
    """The installation's own endpoint behind a hosted model, made when it is first called."""

    slug = models.CharField(max_length=120)
    engine = models.CharField(max_length=16)
    template_id = models.CharField(max_length=64, blank=True)
    endpoint_id = models.CharField(max_length=64, blank=True)

    #: A fingerprint of what the engine was told: the catalog may say something else by now.
    applied = models.CharField(max_length=64, blank=True)

    class Meta:
        verbose_name = _("endpoint of a hosted model")
        verbose_name_plural = _("endpoints of hosted models")
        constraints = [models.UniqueConstraint(fields=["slug", "engine"], name="infra_hosted_endpoint_once")]

    def __str__(self) -> str:
        return self.slug

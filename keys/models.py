"""API keys. The secret is shown once; only its keyed hash and a display prefix are kept."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from core import clock, ids
from orgs.models import Workspace


class ApiKey(models.Model):
    """A ``ck_`` key of a workspace. A key only ever narrows what its workspace may do."""

    class DisabledReason(models.TextChoices):
        BY_HAND = "by_hand", _("Disabled by hand")
        SPENDING_LIMIT = "spending_limit", _("Spending limit reached")
        MEMBER_LEFT = "member_left", _("Its maker left")

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="api_keys")
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="created_keys"
    )
    name = models.CharField(_("name"), max_length=80)
    secret_hash = models.BinaryField(max_length=32, unique=True, editable=False)
    #: What pages show of the key: its first and last few characters, never enough to use it.
    prefix = models.CharField(_("key"), max_length=24, editable=False)
    enabled = models.BooleanField(_("enabled"), default=True)
    disabled_reason = models.CharField(max_length=24, choices=DisabledReason.choices, blank=True)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    spending_limit_microcredits = models.BigIntegerField(_("monthly limit"), null=True, blank=True)
    auto_disable = models.BooleanField(_("disable at the limit"), default=False)
    #: Model names that the key may call; empty = all.
    allowed_models = models.JSONField(default=list, blank=True)
    #: Networks (CIDR) that the key may be used from; empty = all.
    allowed_networks = models.JSONField(default=list, blank=True)
    last_used_at = models.DateTimeField(_("last used"), null=True, blank=True, editable=False)
    created_at = models.DateTimeField(_("created"), default=clock.now, editable=False)
    #: A deleted key keeps its row: log and ledger name it.
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)
    #: The form that asked for this key, so that the same form sent twice makes one key.
    form_token = models.UUIDField(null=True, editable=False)
    #: Made for a page of our own (`keys.internal`): in no list, nobody's to change.
    internal = models.BooleanField(default=False, db_default=False, editable=False)

    class Meta:
        verbose_name = _("API key")
        verbose_name_plural = _("API keys")
        indexes = [models.Index(fields=["workspace", "created_at"], name="keys_apikey_workspace")]
        constraints = [
            models.CheckConstraint(
                name="keys_apikey_limit_not_negative",
                condition=Q(spending_limit_microcredits__isnull=True) | Q(spending_limit_microcredits__gte=0),
            ),
            models.UniqueConstraint(fields=["workspace", "form_token"], name="keys_apikey_form_once"),
        ]

    def __str__(self) -> str:
        return self.name

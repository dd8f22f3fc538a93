"""Who a workspace's statements are made out to, and views of other tables for the operator's pages."""

from __future__ import annotations

from typing import Final

from django.db import models
from django.utils.translation import gettext_lazy as _

from billing.models import Transfer
from catalog.models import Model
from core import clock, ids
from orgs.models import Workspace

LINES: Final = 6


class BillingProfile(models.Model):
    """Name, address and tax id on a workspace's statements, as of one moment.

    A change adds a row: statements of months that are over keep what was true when they ended.
    """

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="billing_profiles")
    legal_name = models.CharField(_("legal name"), max_length=160, blank=True)
    email = models.EmailField(_("billing e-mail"), blank=True)
    address = models.TextField(_("address"), max_length=400, blank=True)
    tax_id = models.CharField(_("tax id"), max_length=40, blank=True)
    created_at = models.DateTimeField(default=clock.now)

    class Meta:
        verbose_name = _("billing profile")
        verbose_name_plural = _("billing profiles")
        indexes = [models.Index(fields=["workspace", "-id"], name="statements_profile_newest")]

    def __str__(self) -> str:
        return self.legal_name or self.email or str(self.workspace_id)


class SentStatement(models.Model):
    """A month's statement that was mailed, or that there was nothing to mail of: each once."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="sent_statements")
    month = models.DateField()
    #: Where it went, empty where nothing was sent.
    email = models.EmailField(blank=True)
    sent_at = models.DateTimeField(default=clock.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["workspace", "month"], name="statements_sent_once")]

    def __str__(self) -> str:
        return f"{self.workspace_id} {self.month}"


class Adjustment(Transfer):
    """Transfers by which an operator corrected a balance."""

    class Meta:
        proxy = True
        verbose_name = _("adjustment")
        verbose_name_plural = _("adjustments of credits")


class ModelMargin(Model):
    """Models, for the page that sets what they bring in against what they cost."""

    class Meta:
        proxy = True
        verbose_name = _("margin")
        verbose_name_plural = _("margins by model")


class SuspiciousWorkspace(Workspace):
    """Workspaces, for the page of those that behave unlike themselves."""

    class Meta:
        proxy = True
        verbose_name = _("suspicious workspace")
        verbose_name_plural = _("suspicious usage")

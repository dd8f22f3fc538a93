"""Vouchers, who redeemed them, and who tried codes that are none."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from core import clock, ids
from orgs.models import Workspace


class Voucher(models.Model):
    """A code worth promotional credits. The code itself is nowhere: only its keyed hash, and its ending as a name.

    ``redeemed_count`` never passes ``redemption_limit``: the database says so, and whoever redeems locks this row.
    """

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    code_hash = models.BinaryField(max_length=32, unique=True, editable=False)
    ending = models.CharField(_("ends in"), max_length=8, editable=False)
    amount_microcredits = models.BigIntegerField(_("amount, microcredits"))
    redemption_limit = models.PositiveIntegerField(_("redemptions"), default=1)
    redeemed_count = models.PositiveIntegerField(_("redeemed"), default=0)
    #: After this moment the code is refused.
    expires_at = models.DateTimeField(_("code valid until"), null=True, blank=True)
    #: How long the credits last once they are there; NULL: for ever.
    credits_valid_days = models.PositiveIntegerField(_("credits last, days"), null=True, blank=True)
    note = models.CharField(_("note"), max_length=200, blank=True)
    withdrawn_at = models.DateTimeField(_("withdrawn"), null=True, blank=True)
    created_by = models.CharField(_("issued by"), max_length=254, editable=False)
    created_at = models.DateTimeField(_("issued"), default=clock.now, editable=False)

    class Meta:
        verbose_name = _("voucher")
        verbose_name_plural = _("vouchers")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(name="vouchers_amount_positive", condition=Q(amount_microcredits__gt=0)),
            models.CheckConstraint(
                name="vouchers_redeemed_in_bounds",
                condition=Q(redemption_limit__gte=1, redeemed_count__lte=F("redemption_limit")),
            ),
        ]

    def __str__(self) -> str:
        return f"…{self.ending}"


class Redemption(models.Model):
    """One workspace's use of one voucher. Its id is the ledger's reference, so that its credits move once."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    voucher = models.ForeignKey(Voucher, on_delete=models.PROTECT, related_name="redemptions")
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="voucher_redemptions")
    user_id = models.UUIDField(null=True)
    amount_microcredits = models.BigIntegerField()
    #: When the credits of this redemption end, NULL: never.
    credits_expire_at = models.DateTimeField(null=True)
    redeemed_at = models.DateTimeField(default=clock.now)

    class Meta:
        verbose_name = _("redemption")
        verbose_name_plural = _("redemptions")
        constraints = [models.UniqueConstraint(fields=["voucher", "workspace"], name="vouchers_once_a_workspace")]

    def __str__(self) -> str:
        return f"{self.voucher_id} {self.workspace_id}"


class FailedAttempt(models.Model):
    """A code that was refused; too many of them, and a workspace or a person has to wait. Kept for a day."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    workspace_id = models.UUIDField()
    user_id = models.UUIDField(null=True)
    created_at = models.DateTimeField(default=clock.now)

    class Meta:
        indexes = [
            models.Index(fields=["workspace_id", "created_at"], name="vouchers_attempt_workspace"),
            models.Index(fields=["user_id", "created_at"], name="vouchers_attempt_user"),
        ]

    def __str__(self) -> str:
        return f"{self.workspace_id} {self.created_at:%Y-%m-%d %H:%M}"

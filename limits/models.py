"""Limits above a key's own: a member's month, an organization's month; and what was said about them.

What they are compared with are the meters of `billing`; the neck of `usage` reads ``limits_spendinglimit`` by itself.
"""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from billing.models import SpendMeter
from core import clock, ids
from orgs.models import Workspace

#: What a limit can be put on here; a key has its own.
ABOVE_KEYS = (SpendMeter.Scope.MEMBER, SpendMeter.Scope.WORKSPACE)


class SpendingLimit(models.Model):
    """How much of an organization's credits may be spent in a calendar month (UTC), by a member or by all."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="spending_limits")
    scope = models.CharField(max_length=12, choices=SpendMeter.Scope.choices)
    #: The membership's id, or the workspace's.
    scope_id = models.UUIDField()
    amount_microcredits = models.BigIntegerField(_("monthly limit"))
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name = _("spending limit")
        verbose_name_plural = _("spending limits")
        constraints = [
            models.UniqueConstraint(fields=["scope", "scope_id"], name="limits_spendinglimit_once"),
            models.CheckConstraint(name="limits_spendinglimit_not_negative", condition=Q(amount_microcredits__gte=0)),
            models.CheckConstraint(
                name="limits_spendinglimit_above_keys", condition=Q(scope__in=[scope.value for scope in ABOVE_KEYS])
            ),
        ]

    def __str__(self) -> str:
        return f"{self.scope} {self.scope_id}"


class LimitNotice(models.Model):
    """That people were told, once a month, how much of a limit is used."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    scope = models.CharField(max_length=12, choices=SpendMeter.Scope.choices)
    scope_id = models.UUIDField()
    month = models.DateField()
    percent = models.PositiveSmallIntegerField()
    told_at = models.DateTimeField(default=clock.now, editable=False)
    #: The limit was changed since. People are told once a month, but a key that is to stop stops at the new one, too.
    outdated = models.BooleanField(default=False, db_default=False)
    # What the mails say, until they are sent. Notices of before this was kept have been sent.
    workspace = models.ForeignKey(Workspace, null=True, on_delete=models.CASCADE, related_name="+")
    spent_microcredits = models.BigIntegerField(default=0, db_default=0)
    limit_microcredits = models.BigIntegerField(default=0, db_default=0)
    disabled = models.BooleanField(default=False, db_default=False)
    mail_due = models.BooleanField(default=False, db_default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["scope", "scope_id", "month", "percent"], name="limits_notice_once")
        ]
        indexes = [models.Index(fields=["id"], condition=Q(mail_due=True), name="limits_notice_due")]

    def __str__(self) -> str:
        return f"{self.percent} % of {self.scope} {self.scope_id} in {self.month:%Y-%m}"


class LowBalance(models.Model):
    """Below which balance a workspace wants to be warned. ``warned`` until the balance is back above it."""

    workspace = models.OneToOneField(Workspace, primary_key=True, on_delete=models.CASCADE, related_name="low_balance")
    below_microcredits = models.BigIntegerField(_("warn below"))
    warned = models.BooleanField(default=False)

    class Meta:
        constraints = [models.CheckConstraint(name="limits_lowbalance_positive", condition=Q(below_microcredits__gt=0))]

    def __str__(self) -> str:
        return str(self.pk)

"""Rows about payments beside the top-ups: customers, what goes back, what is charged by itself, what differs."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from core import clock, ids, money


class Customer(models.Model):
    """A wallet's customer at Stripe with the card that was saved there: one for the demo, one for real money."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    wallet = models.ForeignKey("billing.Wallet", on_delete=models.PROTECT, related_name="customers")
    is_demo = models.BooleanField()
    stripe_id = models.CharField(max_length=255, unique=True)
    #: The saved card, "" where there is none. Only what a person needs to tell their cards apart is kept.
    payment_method_id = models.CharField(max_length=255, blank=True)
    card_brand = models.CharField(max_length=32, blank=True)
    card_last4 = models.CharField(max_length=4, blank=True)
    card_expires = models.DateField(null=True)  # the first day of its last month
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["wallet", "is_demo"], name="billing_customer_once")]
        indexes = [
            models.Index(fields=["payment_method_id"], condition=~Q(payment_method_id=""), name="billing_customer_card")
        ]

    def __str__(self) -> str:
        return self.stripe_id


class AutoTopUp(models.Model):
    """A workspace's wish to be topped up by itself: below this balance charge that much, so much a month at most."""

    class Pause(models.TextChoices):
        NONE = "", _("Running")
        AUTHENTICATION = "authentication", _("The bank wants a confirmation")
        DECLINED = "declined", _("The card was declined")
        NO_CARD = "no_card", _("There is no saved card")

    class Mail(models.TextChoices):
        NONE = "", ""
        PAUSED = "paused", _("Paused")
        CAPPED = "capped", _("Monthly cap reached")

    wallet = models.OneToOneField("billing.Wallet", primary_key=True, on_delete=models.PROTECT, related_name="auto")
    enabled = models.BooleanField(default=False)
    below_microcredits = models.BigIntegerField()
    amount_cents = models.PositiveIntegerField()
    monthly_cap_cents = models.PositiveIntegerField()
    #: Who switched it on: receipts and bad news go there.
    enabled_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL)
    #: Declines since the last payment that worked.
    declines = models.PositiveSmallIntegerField(default=0)
    paused_for = models.CharField(max_length=16, choices=Pause.choices, blank=True, default=Pause.NONE)
    #: The earliest moment of the next charge, after a decline.
    not_before = models.DateTimeField(null=True)
    #: The month (UTC) in which the cap was told of.
    capped_month = models.DateField(null=True)
    mail_due = models.CharField(max_length=8, choices=Mail.choices, blank=True, default=Mail.NONE)
    updated_at = models.DateTimeField(default=clock.now)

    class Meta:
        indexes = [
            models.Index(fields=["wallet"], condition=Q(enabled=True, paused_for=""), name="billing_auto_running"),
            models.Index(fields=["wallet"], condition=~Q(mail_due=""), name="billing_auto_mail"),
        ]
        constraints = [
            models.CheckConstraint(
                name="billing_auto_sound",
                condition=Q(below_microcredits__gt=0, amount_cents__gt=0)
                & Q(monthly_cap_cents__gte=models.F("amount_cents")),
            )
        ]

    def __str__(self) -> str:
        return f"{'on' if self.enabled else 'off'} {self.pk}"


class Reversal(models.Model):
    """Money of a top-up on its way back: a refund or a dispute. It takes the credits that this money had bought.

    requested (ours, Stripe does not know of it yet) → open (the money may still come back) → final | undone (it did
    come back, and with it the credits). A refund that a bank returns goes from final to undone.
    """

    class Kind(models.TextChoices):
        REFUND = "refund", _("Refund")
        DISPUTE = "dispute", _("Dispute")

    class State(models.TextChoices):
        REQUESTED = "requested", _("Requested")
        OPEN = "open", _("Open")
        FINAL = "final", _("Final")
        UNDONE = "undone", _("Undone")

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    topup = models.ForeignKey("billing.TopUp", on_delete=models.PROTECT, related_name="reversals")
    kind = models.CharField(max_length=8, choices=Kind.choices)
    state = models.CharField(max_length=10, choices=State.choices)
    stripe_id = models.CharField(max_length=255, unique=True, null=True)
    #: Stripe's own word for where it stands.
    stripe_status = models.CharField(max_length=40, blank=True)
    amount_cents = models.PositiveIntegerField()
    reason = models.CharField(max_length=254, blank=True)
    failure = models.CharField(max_length=254, blank=True)
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL)
    #: What it took out of the wallet and has not given back.
    taken_microcredits = models.BigIntegerField(default=0)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    ended_at = models.DateTimeField(null=True)
    #: When the sweep asks Stripe again. NULL: nothing is expected any more.
    run_after = models.DateTimeField(null=True)
    attempts = models.PositiveSmallIntegerField(default=0)

    class Meta:
        indexes = [
            models.Index(fields=["run_after"], condition=Q(run_after__isnull=False), name="billing_reversal_due")
        ]
        constraints = [
            models.CheckConstraint(
                name="billing_reversal_amounts", condition=Q(amount_cents__gt=0, taken_microcredits__gte=0)
            ),
            models.CheckConstraint(
                name="billing_reversal_undone_keeps_nothing", condition=~Q(state="undone") | Q(taken_microcredits=0)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"

    @property
    def amount_microcredits(self) -> int:
        """What goes back, as an amount to show."""
        return money.from_cents(self.amount_cents)


class StripeReport(models.Model):
    """One comparison of Stripe with the books: how much was looked at, and every difference that was found."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    since = models.DateTimeField()
    until = models.DateTimeField()
    is_demo = models.BooleanField()
    payments = models.PositiveIntegerField()
    refunds = models.PositiveIntegerField()
    disputes = models.PositiveIntegerField()
    #: Objects of `billing.reconcile.Difference`.
    differences = models.JSONField(default=list)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    def __str__(self) -> str:
        return f"{len(self.differences)} differences {self.created_at:%Y-%m-%d}"

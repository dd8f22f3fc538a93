"""Wallets, lots, the ledger and holds. `billing.ledger` and `billing.books` are the only writers.

Rows about payments beside the top-ups (customers, refunds, automatic top-ups) are in `billing.payments`.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from billing.payments import AutoTopUp, Customer, Reversal, StripeReport
from core import clock, ids
from orgs.models import Workspace

# Models of this app that live beside.
__all__ = ["AutoTopUp", "Customer", "Reversal", "StripeReport"]


class Account(models.Model):
    """One side of a transfer. A wallet's account bears the wallet's id; the house's own accounts have fixed ids."""

    class Kind(models.TextChoices):
        WALLET = "wallet", _("Customer wallet")
        REVENUE = "revenue", _("Revenue from calls")
        STRIPE = "stripe", _("Money at Stripe")
        DEMO = "demo", _("Demo payments")
        PROMOTION = "promotion", _("Promotional credits")
        ADJUSTMENT = "adjustment", _("Adjustments by an operator")
        EXPIRED = "expired", _("Expired credits")

    id = models.UUIDField(primary_key=True, editable=False)
    kind = models.CharField(max_length=16, choices=Kind.choices)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["kind"], condition=~Q(kind="wallet"), name="billing_account_house_once")
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


#: The house's accounts. Their balances are never stored: a row that every call updates would make all calls queue.
HOUSE_ACCOUNTS: Final[dict[str, UUID]] = {
    Account.Kind.REVENUE: UUID("00000000-0000-7000-8000-000000000001"),
    Account.Kind.STRIPE: UUID("00000000-0000-7000-8000-000000000002"),
    Account.Kind.DEMO: UUID("00000000-0000-7000-8000-000000000003"),
    Account.Kind.PROMOTION: UUID("00000000-0000-7000-8000-000000000004"),
    Account.Kind.ADJUSTMENT: UUID("00000000-0000-7000-8000-000000000005"),
    Account.Kind.EXPIRED: UUID("00000000-0000-7000-8000-000000000006"),
}


class Wallet(models.Model):
    """A workspace's prepaid credits. ``balance`` is what the ledger says, ``held`` what running calls reserve of it.

    The balance may be negative: real usage is charged even above its hold, and a refund takes back spent credits.
    """

    workspace = models.OneToOneField(Workspace, primary_key=True, on_delete=models.PROTECT, related_name="wallet")
    balance_microcredits = models.BigIntegerField(default=0)
    held_microcredits = models.BigIntegerField(default=0)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(name="billing_wallet_held_not_negative", condition=Q(held_microcredits__gte=0))
        ]

    def __str__(self) -> str:
        return str(self.pk)

    @property
    def available_microcredits(self) -> int:
        """What a new call may still reserve."""
        return self.balance_microcredits - self.held_microcredits


class CreditLot(models.Model):
    """Credits that came in together. The sum of what remains in a wallet's lots is its balance, or zero below that."""

    class Kind(models.TextChoices):
        PAID = "paid", _("Paid")
        PROMOTIONAL = "promotional", _("Promotional")
        DEMO = "demo", _("Demo")

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    wallet = models.ForeignKey(Wallet, on_delete=models.PROTECT, related_name="lots")
    kind = models.CharField(max_length=16, choices=Kind.choices)
    granted_microcredits = models.BigIntegerField()
    remaining_microcredits = models.BigIntegerField()
    expires_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        indexes = [
            models.Index(
                fields=["wallet", "expires_at", "id"],
                condition=Q(remaining_microcredits__gt=0),
                name="billing_lot_open",
            ),
            models.Index(
                fields=["expires_at"],
                condition=Q(remaining_microcredits__gt=0, expires_at__isnull=False),
                name="billing_lot_expiring",
            ),
        ]
        constraints = [
            models.CheckConstraint(name="billing_lot_granted_positive", condition=Q(granted_microcredits__gt=0)),
            models.CheckConstraint(
                name="billing_lot_remaining_in_bounds",
                condition=Q(remaining_microcredits__gte=0, remaining_microcredits__lte=F("granted_microcredits")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


class Transfer(models.Model):
    """One movement of money: out of the debited account, into the credited one. Balanced by its form, never changed.

    A wallet is what the house owes its customer: a top-up credits it, a call debits it.
    A database trigger refuses UPDATE and DELETE.
    """

    class Kind(models.TextChoices):
        USAGE = "usage", _("Usage")
        TOPUP = "topup", _("Top-up")
        GRANT = "grant", _("Granted credits")
        REFUND = "refund", _("Refund")
        DISPUTE = "dispute", _("Dispute")
        ADJUSTMENT = "adjustment", _("Adjustment")
        EXPIRY = "expiry", _("Expiry")

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    kind = models.CharField(max_length=16, choices=Kind.choices)
    #: The business key: a request, a top-up, a refund … With kind and sequence it is unique, so nothing moves twice.
    reference = models.UUIDField()
    sequence = models.PositiveSmallIntegerField(default=0)
    debit_account = models.UUIDField()
    credit_account = models.UUIDField()
    amount_microcredits = models.BigIntegerField()
    workspace_id = models.UUIDField()
    lot_id = models.UUIDField(null=True)
    billed_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["workspace_id", "-id"], name="billing_transfer_workspace")]
        constraints = [
            models.UniqueConstraint(fields=["reference", "kind", "sequence"], name="billing_transfer_once"),
            models.CheckConstraint(name="billing_transfer_positive", condition=Q(amount_microcredits__gt=0)),
            models.CheckConstraint(name="billing_transfer_two_sides", condition=~Q(debit_account=F("credit_account"))),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.reference}"


class SpendMeter(models.Model):
    """What a key, a member of an organization or an organization spent and holds in one calendar month, UTC.

    ``scope_id`` is the id of the key, of the membership, or of the workspace.
    """

    class Scope(models.TextChoices):
        KEY = "key", _("Key")
        MEMBER = "member", _("Member")
        WORKSPACE = "workspace", _("Organization")

    pk = models.CompositePrimaryKey("scope", "scope_id", "month")
    scope = models.CharField(max_length=12, choices=Scope.choices)
    scope_id = models.UUIDField()
    month = models.DateField()
    spent_microcredits = models.BigIntegerField(default=0)
    held_microcredits = models.BigIntegerField(default=0)
    #: When a call was first refused because of the limit while nothing of the meter was in flight.
    reached_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="billing_meter_not_negative",
                condition=Q(spent_microcredits__gte=0, held_microcredits__gte=0),
            )
        ]

    def __str__(self) -> str:
        return f"{self.scope} {self.scope_id} {self.month}"


class HoldOwner(models.Model):
    """A process that keeps holds open. It beats; a sweeper that watched it stand still voids what it left behind."""

    id = models.UUIDField(primary_key=True, editable=False)
    label = models.CharField(max_length=120)
    started_at = models.DateTimeField(default=clock.now)
    beats = models.BigIntegerField(default=0)
    #: The sweeper's own notes: what it saw, when it last looked, and since when the count has stood still.
    seen_beats = models.BigIntegerField(default=-1)
    seen_at = models.DateTimeField(null=True)
    still_since = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.label


class Hold(models.Model):
    """Credits reserved for one call, and the open record of that call until it is logged.

    pending → posted (charged) | voided (nothing charged) | expired (its owner died). Its id is the request's id.
    """

    class State(models.TextChoices):
        PENDING = "pending", _("Pending")
        POSTED = "posted", _("Posted")
        VOIDED = "voided", _("Voided")
        EXPIRED = "expired", _("Expired")

    id = models.UUIDField(primary_key=True, editable=False)
    # No constraint and no index of its own: admission has just locked the wallet's row, pending ones are indexed below.
    wallet = models.ForeignKey(
        Wallet, on_delete=models.PROTECT, related_name="holds", db_constraint=False, db_index=False
    )
    state = models.CharField(max_length=8, choices=State.choices, default=State.PENDING)
    amount_microcredits = models.BigIntegerField()
    charged_microcredits = models.BigIntegerField(null=True)
    #: NULL for a job's hold: only the job's own life ends it, no heartbeat does.
    owner_id = models.UUIDField(null=True)
    key_id = models.UUIDField(null=True)
    key_name = models.CharField(max_length=80, blank=True)
    user_id = models.UUIDField(null=True)
    #: The month whose meter this call is billed to, whenever it ends.
    month = models.DateField()
    endpoint = models.CharField(max_length=24)
    model = models.CharField(max_length=120)
    price_id = models.UUIDField(null=True)
    created_at = models.DateTimeField()
    resolved_at = models.DateTimeField(null=True)
    #: The meters of the member and of the organization that the call counts for; NULL for a personal call.
    meter_ids = ArrayField(models.UUIDField(), null=True)

    class Meta:
        indexes = [
            models.Index(fields=["owner_id"], condition=Q(state="pending"), name="billing_hold_pending_owner"),
            models.Index(fields=["wallet", "id"], condition=Q(state="pending"), name="billing_hold_pending_wallet"),
        ]
        constraints = [
            models.CheckConstraint(name="billing_hold_not_negative", condition=Q(amount_microcredits__gte=0)),
            models.CheckConstraint(
                name="billing_hold_resolved_once",
                condition=Q(state="pending", resolved_at__isnull=True, charged_microcredits__isnull=True)
                | Q(state="posted", resolved_at__isnull=False, charged_microcredits__gte=0)
                | Q(state__in=["voided", "expired"], resolved_at__isnull=False, charged_microcredits__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.state} {self.id}"


class TopUp(models.Model):
    """Money on its way in. Its credits are posted once, whoever brings the news: webhook, return page or sweep."""

    class State(models.TextChoices):
        PENDING = "pending", _("Pending")
        PROCESSING = "processing", _("Processing")
        PAID = "paid", _("Paid")
        FAILED = "failed", _("Failed")
        EXPIRED = "expired", _("Expired")

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)

    class Source(models.TextChoices):
        CHECKOUT = "checkout", _("Pay page")
        AUTO = "auto", _("Automatic")

    wallet = models.ForeignKey(Wallet, on_delete=models.PROTECT, related_name="topups")
    source = models.CharField(max_length=8, choices=Source.choices, default=Source.CHECKOUT)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL)
    amount_cents = models.PositiveIntegerField()
    currency = models.CharField(max_length=3, default="usd")
    credits_microcredits = models.BigIntegerField()
    #: What was paid in all, tax included; NULL until it is paid.
    charged_cents = models.PositiveIntegerField(null=True)
    state = models.CharField(max_length=12, choices=State.choices, default=State.PENDING)
    #: Paid through the demo's stand-in for Stripe: no card was charged.
    is_demo = models.BooleanField(default=False)
    #: One form, one amount, one top-up: made of both, so that a double click pays once.
    form_token = models.UUIDField(unique=True, null=True)
    stripe_session_id = models.CharField(max_length=255, unique=True, null=True)
    stripe_payment_intent_id = models.CharField(max_length=255, blank=True)
    stripe_charge_id = models.CharField(max_length=255, blank=True)
    #: The saved card that an automatic top-up charges: asking again asks for the same.
    stripe_payment_method_id = models.CharField(max_length=255, blank=True)
    #: The payer asked that the card be kept for automatic top-ups.
    saves_card = models.BooleanField(default=False)
    checkout_url = models.URLField(max_length=2000, blank=True)
    receipt_url = models.URLField(max_length=2000, blank=True)
    failure = models.CharField(max_length=254, blank=True)
    lot = models.OneToOneField(CreditLot, null=True, on_delete=models.PROTECT, related_name="topup")
    created_at = models.DateTimeField(default=clock.now, editable=False)
    checked_at = models.DateTimeField(null=True)
    completed_at = models.DateTimeField(null=True)
    mailed_at = models.DateTimeField(null=True)
    #: When the sweep has something to do here: ask Stripe again, or send the receipt. NULL: nothing is left to do.
    run_after = models.DateTimeField(null=True)
    attempts = models.PositiveSmallIntegerField(default=0)

    class Meta:
        indexes = [
            models.Index(fields=["wallet", "-id"], name="billing_topup_wallet"),
            models.Index(fields=["run_after"], condition=Q(run_after__isnull=False), name="billing_topup_due"),
            models.Index(
                fields=["stripe_payment_intent_id"],
                condition=~Q(stripe_payment_intent_id=""),
                name="billing_topup_payment",
            ),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["wallet"],
                condition=Q(source="auto", state__in=["pending", "processing"]),
                name="billing_topup_one_auto_in_flight",
            ),
            models.CheckConstraint(
                name="billing_topup_paid_has_lot", condition=~Q(state="paid") | Q(lot__isnull=False)
            ),
            models.CheckConstraint(name="billing_topup_amounts", condition=Q(credits_microcredits__gt=0)),
        ]

    def __str__(self) -> str:
        return f"{self.state} {self.id}"


class StripeEvent(models.Model):
    """A webhook as it arrived: stored first, handled once, in any order, by reading the object again from Stripe."""

    class State(models.TextChoices):
        RECEIVED = "received", _("Received")
        HANDLED = "handled", _("Handled")
        IGNORED = "ignored", _("Ignored")
        FAILED = "failed", _("Failed")

    id = models.CharField(primary_key=True, max_length=255)
    type = models.CharField(max_length=120)
    object_id = models.CharField(max_length=255, blank=True)
    livemode = models.BooleanField()
    state = models.CharField(max_length=12, choices=State.choices, default=State.RECEIVED)
    attempts = models.PositiveSmallIntegerField(default=0)
    error = models.CharField(max_length=254, blank=True)
    run_after = models.DateTimeField(default=clock.now)
    received_at = models.DateTimeField(default=clock.now, editable=False)
    handled_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["run_after"], condition=Q(state__in=["received", "failed"]), name="billing_event_due")
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.id}"

"""Automatic top-ups: below X charge Y with the saved card, so much a month at most.

A sweep looks for wallets below their mark and charges each in steps, any of which may be the last before a crash:
a row first (a constraint of the database lets one be in flight), then the charge under that row's key, then what
became of it. A row that is found open later is looked up at Stripe before anything is asked again: nothing is charged
twice.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F, Sum
from django.utils.translation import gettext as _

from billing import customers, settling, stripe_api, stripe_keys, stripe_payments
from billing.models import AutoTopUp, Customer, TopUp, Wallet
from billing.settling import OPEN
from core import clock, errors, faults, money
from core.templatetags.amounts import count_text
from events import audit
from orgs.models import Workspace

log = logging.getLogger(__name__)

Pause = AutoTopUp.Pause
State = TopUp.State
#: Declines in a row after which it pauses; what the bank will not change its mind about pauses at once.
MOST_DECLINES: Final = 3
AFTER_A_DECLINE: Final = timedelta(hours=6)
_FOR_GOOD: Final = frozenset(
    {
        *("expired_card", "lost_card", "stolen_card", "pickup_card", "restricted_card", "invalid_account"),
        *("card_not_supported", "do_not_try_again", "revocation_of_authorization", "no_card"),
    }
)
_ASKS: Final = frozenset({"authentication_required", "authentication_not_handled"})
#: Stripe remembers a key for a day. Later, what is not found there is not asked for again.
KEY_LIVES: Final = timedelta(hours=20)
FIRST_LOOK: Final = timedelta(seconds=60)
#: A charge may come a moment before its row by their clocks.
_SKEW: Final = timedelta(minutes=5)

#: Words in ``TopUp.failure`` that are ours.
NOT_CHARGED: Final = "not_charged"


# ── What a person may set ────────────────────────────────────────────────────────────────────────────────────────────
@transaction.atomic
def configure(
    workspace: Workspace,
    *,
    actor: audit.Actor,
    enabled: bool,
    below_microcredits: int,
    amount_cents: int,
    monthly_cap_cents: int,
) -> AutoTopUp:
    """Set the rule of a workspace. Raises InvalidRequest that names the field (as `AutoTopUp` calls it).

    Switching it on needs a saved card; it also ends a pause.
    """
    _check(below_microcredits, amount_cents, monthly_cap_cents)
    rule = locked(workspace)
    if enabled and not _has_card(workspace.pk):
        raise errors.InvalidRequest(
            _("Save a card first: top up once and tick “Save this card”."), param="enabled", code="no_saved_card"
        )
    values = {
        "enabled": enabled,
        "below_microcredits": below_microcredits,
        "amount_cents": amount_cents,
        "monthly_cap_cents": monthly_cap_cents,
        "enabled_by_id": actor.user_id if enabled else None,
        "paused_for": "",
        "declines": 0,
        "not_before": None,
        "capped_month": None,
        "mail_due": "",
        "updated_at": clock.now(),
    }
    if rule is None:
        rule = AutoTopUp.objects.create(wallet_id=workspace.pk, **values)
    else:
        AutoTopUp.objects.filter(pk=workspace.pk).update(**values)
        rule.refresh_from_db()
    shown = {name: values[name] for name in ("enabled", "below_microcredits", "amount_cents", "monthly_cap_cents")}
    _record("auto_topup.change", workspace.pk, actor, shown)
    return rule


def locked(workspace: Workspace) -> AutoTopUp | None:
    """The rule as it is now, if there is one; it and its wallet are held until the transaction ends."""
    Wallet.objects.select_for_update(no_key=True).get(pk=workspace.pk)
    return AutoTopUp.objects.select_for_update(no_key=True).filter(pk=workspace.pk).first()


def _check(below_microcredits: int, amount_cents: int, monthly_cap_cents: int) -> None:
    least, most = settings.TOPUP_LEAST_CENTS, settings.TOPUP_MOST_CENTS
    if not 0 < below_microcredits <= money.MAX_MICROCREDITS:
        raise errors.InvalidRequest(_("This must be more than zero."), param="below_microcredits")
    if not least <= amount_cents <= most:
        bounds = {"least": f"${least // 100}", "most": f"${most // 100:,}"}
        raise errors.InvalidRequest(_("Between %(least)s and %(most)s.") % bounds, param="amount_cents")
    if not amount_cents <= monthly_cap_cents <= 100 * most:
        raise errors.InvalidRequest(_("The cap is at least one top-up."), param="monthly_cap_cents")


def _has_card(wallet_id: UUID) -> bool:
    customer = customers.of(wallet_id)
    return customer is not None and bool(customer.payment_method_id)


def remove_card(workspace: Workspace, *, actor: audit.Actor) -> None:
    """Take the saved card away, at Stripe too, and switch automatic top-ups off. Raises StripeFailed."""
    customer = customers.of(workspace.pk)
    if customer is None or not customer.payment_method_id:
        return
    with transaction.atomic():
        AutoTopUp.objects.filter(pk=workspace.pk).update(enabled=False, paused_for="", mail_due="")
        _record("saved_card.remove", workspace.pk, actor, {"last4": customer.card_last4})
    stripe_payments.detach_card(customer.payment_method_id)
    customers.clear_card(customer)


def stop(workspace: Workspace, *, actor: audit.Actor) -> None:
    """Switch automatic top-ups off for good; one that is under way and was not charged yet is given up."""
    running = AutoTopUp.objects.filter(pk=workspace.pk, enabled=True)
    if running.update(enabled=False, paused_for="", mail_due="", updated_at=clock.now()):
        _record("auto_topup.change", workspace.pk, actor, {"enabled": False})


def spent_this_month_cents(wallet_id: UUID, now: datetime) -> int:
    """What automatic top-ups took or are taking in the calendar month (UTC), in cents."""
    start = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    counted = TopUp.objects.filter(
        wallet_id=wallet_id, source=TopUp.Source.AUTO, created_at__gte=start, state__in=(*OPEN, State.PAID)
    )
    return counted.aggregate(cents=Sum("amount_cents"))["cents"] or 0


# ── The sweep ────────────────────────────────────────────────────────────────────────────────────────────────────────
def sweep(now: datetime | None = None, *, most: int = 20) -> int:
    """Charge for every wallet below its mark. Returns how many charges were begun.

    Safe at any time and twice at once. One index over the rules that run, and their wallets by key: cheap enough for
    every few seconds. Ends early where Stripe does not answer.
    """
    if not stripe_keys.is_configured():
        return 0
    now = now or clock.now()
    begun = 0
    for wallet_id in due(now)[:most]:
        try:
            topup = begin(wallet_id, now)
            if topup is not None:
                begun += 1
                charge(topup)
        except stripe_api.StripeFailed:
            break
        except Exception:
            log.exception("the automatic top-up of wallet %s failed", wallet_id)
    return begun


def due(now: datetime) -> Sequence[UUID]:
    """Wallets below their mark whose rule may charge now, as far as a look without locks can say.

    A suspended workspace can't call, so it needs no credits.
    """
    rules = AutoTopUp.objects.filter(enabled=True, paused_for="", wallet__workspace__active=True)
    running = rules.exclude(not_before__gt=now)
    low = running.filter(wallet__balance_microcredits__lt=F("below_microcredits"))
    quiet = low.exclude(wallet__topups__source=TopUp.Source.AUTO, wallet__topups__state__in=OPEN)
    open_month = quiet.exclude(capped_month=clock.month_of(now))
    return list(open_month.order_by("pk").values_list("pk", flat=True))


@transaction.atomic
def begin(wallet_id: UUID, now: datetime) -> TopUp | None:
    """The row of a charge to be made, or None where the rule says no after all: asked again under its lock."""
    rule = AutoTopUp.objects.select_for_update(of=("self",)).select_related("wallet__workspace").get(pk=wallet_id)
    blocked = (rule.not_before is not None and rule.not_before > now) or not rule.wallet.workspace.active
    if not rule.enabled or rule.paused_for or blocked or rule.wallet.balance_microcredits >= rule.below_microcredits:
        return None
    if TopUp.objects.filter(wallet_id=wallet_id, source=TopUp.Source.AUTO, state__in=OPEN).exists():
        return None
    customer = customers.of(wallet_id)
    if customer is None or not customer.payment_method_id:
        _pause(rule, Pause.NO_CARD)
        return None
    if spent_this_month_cents(wallet_id, now) + rule.amount_cents > rule.monthly_cap_cents:
        _capped(rule, now)
        return None
    topup = TopUp.objects.create(
        wallet_id=wallet_id,
        source=TopUp.Source.AUTO,
        created_by_id=rule.enabled_by_id,
        amount_cents=rule.amount_cents,
        credits_microcredits=money.from_cents(rule.amount_cents),
        is_demo=settings.DEMO_PAYMENTS,
        stripe_payment_method_id=customer.payment_method_id,
        created_at=now,
        run_after=now + FIRST_LOOK,
    )
    settling.record("topup.start", topup, audit.SYSTEM, automatic=True)
    return topup


def charge(topup: TopUp) -> TopUp:
    """Ask Stripe for the money of an open automatic top-up. Raises StripeUnavailable: then the sweep goes on later."""
    faults.point("auto.begun")
    customer = customers.of(topup.wallet_id)
    if customer is None:
        return failed(topup, "no_card")
    whole = topup.credits_microcredits // money.MICROCREDITS_PER_CREDIT
    try:
        payment = stripe_payments.charge_card(
            f"auto-{topup.pk}",
            topup_id=topup.pk,
            customer_id=customer.stripe_id,
            card_id=topup.stripe_payment_method_id,
            amount_cents=topup.amount_cents,
            currency=topup.currency,
            description=_("%s Hypereal credits, automatic top-up") % count_text(whole),
            receipt_email="",
        )
    except stripe_api.CardDeclined as declined:
        faults.point("auto.declined")
        return failed(topup, declined.failure or "card_declined", payment_id=declined.payment_id)
    except stripe_api.NotAtStripe:
        return failed(topup, "no_card")
    except stripe_api.StripeRefused:
        return failed(topup, NOT_CHARGED)
    faults.point("auto.charged")
    return settle(topup, payment)


def settle(topup: TopUp, payment: stripe_payments.Payment) -> TopUp:
    """Bring an automatic top-up to where its payment is. Any number of calls, in any order, end alike."""
    if payment.status == "succeeded":
        done = settling.complete_payment(topup.pk, payment)
        AutoTopUp.objects.filter(pk=topup.wallet_id, declines__gt=0).update(declines=0)
        return done
    if payment.status == "processing":
        return settling.process(topup.pk, payment.id)
    if payment.status in ("requires_payment_method", "requires_action", "requires_confirmation", "canceled"):
        return failed(topup, payment.failure_code or "card_declined", payment_id=payment.id)
    return topup


def failed(topup: TopUp, failure: str, *, payment_id: str = "") -> TopUp:
    """The bank said no: nothing is owed for this one, and the rule waits or pauses. Raises StripeUnavailable.

    What was tried is cancelled at Stripe first, so that nobody can pay it after it was given up here.
    """
    if payment_id:
        stripe_payments.cancel_payment(payment_id)
        faults.point("auto.cancelled")
        after = stripe_payments.retrieve_payment(payment_id)
        if after.status in ("succeeded", "processing"):
            return settle(topup, after)
    with transaction.atomic():
        rule = AutoTopUp.objects.select_for_update(of=("self",)).filter(pk=topup.wallet_id).first()
        before = settling.locked(topup.pk)
        if before.state not in OPEN:
            return before
        if payment_id:
            TopUp.objects.filter(pk=topup.pk).update(stripe_payment_intent_id=payment_id)
        ended = settling.fail(topup.pk, failure)
        if rule is not None and rule.enabled:
            _declined(rule, failure)
    return ended


def reconcile(topup: TopUp) -> TopUp:
    """Find out what became of an open automatic top-up, and go on with it. Raises StripeFailed."""
    if topup.stripe_payment_intent_id:
        try:
            return settle(topup, stripe_payments.retrieve_payment(topup.stripe_payment_intent_id))
        except stripe_api.NotAtStripe:
            return failed(topup, NOT_CHARGED)
    customer = customers.of(topup.wallet_id)
    if customer is None:
        return failed(topup, "no_card")
    found = stripe_payments.find_payment(customer.stripe_id, topup.pk, topup.created_at - _SKEW)
    if found is not None:
        return settle(topup, found)
    return charge(topup) if _may_still_charge(topup, customer) else failed(topup, NOT_CHARGED)


def _may_still_charge(topup: TopUp, customer: Customer) -> bool:
    """Whether the wish behind an uncharged row still stands; under its key it may be asked any number of times."""
    rules = AutoTopUp.objects.filter(pk=topup.wallet_id, enabled=True, paused_for="", wallet__workspace__active=True)
    rule = rules.first()
    young = clock.now() - topup.created_at < KEY_LIVES
    return rule is not None and young and customer.payment_method_id == topup.stripe_payment_method_id


# ── Pauses ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def _declined(rule: AutoTopUp, failure: str) -> None:
    rule.declines += 1
    rule.not_before = clock.now() + AFTER_A_DECLINE
    rule.save(update_fields=["declines", "not_before"])
    if failure in _ASKS:
        _pause(rule, Pause.AUTHENTICATION)
    elif failure == "no_card":
        _pause(rule, Pause.NO_CARD)
    elif failure in _FOR_GOOD or rule.declines >= MOST_DECLINES:
        _pause(rule, Pause.DECLINED)


def _pause(rule: AutoTopUp, reason: AutoTopUp.Pause) -> None:
    rule.paused_for, rule.mail_due, rule.updated_at = reason, AutoTopUp.Mail.PAUSED, clock.now()
    rule.save(update_fields=["paused_for", "mail_due", "updated_at"])
    _record("auto_topup.pause", rule.pk, audit.SYSTEM, {"reason": str(reason)})


def _capped(rule: AutoTopUp, now: datetime) -> None:
    """The month's cap is reached: said once a month, and not looked at again before the next."""
    rule.capped_month, rule.mail_due = clock.month_of(now), AutoTopUp.Mail.CAPPED
    rule.save(update_fields=["capped_month", "mail_due"])
    _record("auto_topup.cap", rule.pk, audit.SYSTEM, {"monthly_cap_cents": rule.monthly_cap_cents})


def _record(action: str, wallet_id: UUID, actor: audit.Actor, details: Mapping[str, object]) -> None:
    target = audit.Target("auto_topup", wallet_id)
    audit.record(action, actor=actor, target=target, workspace_id=wallet_id, details=details)

"""Money on its way in: from a form to Stripe's pay page and back as credits, exactly once.

``start`` opens the pay page. Whoever brings the news afterwards (webhook, return page, sweep) asks Stripe and ends in
`billing.settling`. Automatic top-ups begin in `billing.auto`; looked after they are here, with all the others.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid5

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.urls import reverse
from django.utils.translation import gettext as _

from billing import auto, customers, emails, stripe_api, stripe_keys, stripe_payments
from billing.models import TopUp
from billing.settling import (
    FIRST_LOOK,
    MISMATCH,
    NOT_AT_STRIPE,
    NOT_OPENED,
    OPEN,
    complete,
    expire,
    fail,
    record,
    settle,
)
from core import clock, errors, faults, money
from core.templatetags.amounts import count_text, usd_text
from events import audit
from orgs.models import Workspace

# What settles top-ups is asked for here by those who look after them.
__all__ = ["MISMATCH", "NOT_AT_STRIPE", "NOT_OPENED", "OPEN", "complete", "expire", "fail", "settle"]

log = logging.getLogger(__name__)

State = TopUp.State

#: How long a pay page stays open. Stripe takes 30 minutes to 24 hours.
CHECKOUT_OPEN: Final = timedelta(hours=2)
#: A top-up whose pay page was never known to open is given up after this.
UNOPENED: Final = timedelta(minutes=15)
STARTS_AN_HOUR: Final = 20
LONGEST_PAUSE: Final = {State.PENDING: timedelta(hours=1), State.PROCESSING: timedelta(hours=6)}
LEAST_SECONDS_BETWEEN_LOOKS: Final = 2
MAIL_FOR: Final = timedelta(days=2)
MAX_ATTEMPTS: Final = 30_000


# ── Start ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def start(
    workspace: Workspace, *, actor: audit.Actor, amount_cents: int, form_token: UUID, saves_card: bool = False
) -> TopUp:
    """A top-up with an open pay page (``checkout_url``); the same form sent twice is the same top-up.

    ``saves_card``: the payer wants the card kept for automatic top-ups.

    Where that form's top-up is over already, it comes back as it is, without an open page. Raises InvalidRequest for
    an amount out of bounds, RateLimited, and StripeFailed: after StripeUnavailable the same form may be sent again.
    """
    check_amount(amount_cents)
    # The choices are part of the key: back on the form with other ones is another wish, not a double click.
    token = uuid5(form_token, f"{workspace.pk} {amount_cents}{' card' if saves_card else ''}")
    wish = TopUp(wallet_id=workspace.pk, amount_cents=amount_cents, saves_card=saves_card, form_token=token)
    topup = _first_of_its_form(wish, actor)
    faults.point("topup.begun")
    if topup.state != State.PENDING or topup.checkout_url:
        return topup
    return _open_checkout(topup)


def check_amount(amount_cents: int) -> None:
    """Raise InvalidRequest unless the amount lies within the settings' bounds."""
    least, most = settings.TOPUP_LEAST_CENTS, settings.TOPUP_MOST_CENTS
    if amount_cents < least:
        raise errors.InvalidRequest(_("The least amount is %s.") % cents_text(least), param="amount")
    if amount_cents > most:
        raise errors.InvalidRequest(_("The most at once is %s.") % cents_text(most), param="amount")


def cents_text(cents: int) -> str:
    """Cents as dollars for people: ``$10.00``."""
    return usd_text(money.from_cents(cents))


def _first_of_its_form(mine: TopUp, actor: audit.Actor) -> TopUp:
    known = TopUp.objects.filter(form_token=mine.form_token).first()
    if known is not None:
        return known
    now = clock.now()
    started = TopUp.objects.filter(wallet_id=mine.wallet_id, created_at__gt=now - timedelta(hours=1))
    if started.filter(source=TopUp.Source.CHECKOUT).count() >= STARTS_AN_HOUR:
        raise errors.RateLimited(_("Too many payments were started. Try again in an hour."), retry_after=3600)
    mine.created_by_id, mine.is_demo = actor.user_id, settings.DEMO_PAYMENTS
    mine.credits_microcredits = money.from_cents(mine.amount_cents)
    mine.created_at, mine.run_after = now, now + UNOPENED
    with transaction.atomic():
        TopUp.objects.bulk_create([mine], ignore_conflicts=True)
        topup = TopUp.objects.get(form_token=mine.form_token)
        if topup.pk == mine.pk:  # else a second click was a moment faster
            record("topup.start", topup, actor)
    return topup


def _open_checkout(topup: TopUp) -> TopUp:
    try:
        session = _ask_for_pay_page(topup)
    except stripe_api.StripeRefused:
        fail(topup.pk, NOT_OPENED)
        raise
    faults.point("topup.opened")
    TopUp.objects.filter(pk=topup.pk, state=State.PENDING).update(
        stripe_session_id=session.id, checkout_url=session.url, run_after=clock.now() + FIRST_LOOK
    )
    topup.refresh_from_db()
    return topup


def _ask_for_pay_page(topup: TopUp) -> stripe_api.Session:
    workspace = topup.wallet.workspace
    email = topup.created_by.email if topup.created_by else ""
    customer = customers.ensure(workspace, email=email)
    try:
        return stripe_api.create_checkout(_wanted(topup, customer.stripe_id))
    except stripe_api.NotAtStripe:  # somebody deleted the customer there
        customers.forget(customer)
        return stripe_api.create_checkout(_wanted(topup, customers.ensure(workspace, email=email).stripe_id))


def _wanted(topup: TopUp, customer_id: str) -> stripe_api.Checkout:
    back = settings.SITE_URL + reverse("billing:return", args=[topup.pk])
    return stripe_api.Checkout(
        key=f"topup-{topup.pk}",
        topup_id=topup.pk,
        amount_cents=topup.amount_cents,
        currency=topup.currency,
        product=_("%s Hypereal credits") % count_text(topup.credits_microcredits // money.MICROCREDITS_PER_CREDIT),
        customer_id=customer_id,
        saves_card=topup.saves_card,
        success_url=f"{back}?session_id={{CHECKOUT_SESSION_ID}}",
        cancel_url=f"{back}?cancelled=1",
        # By the row's age, so that asking again asks for the same.
        expires_at=topup.created_at + CHECKOUT_OPEN,
    )


def close(workspace: Workspace) -> None:
    """Nobody shall pay for a deleted organization: the sweep closes its open pay pages at once, see `reconcile`."""
    pages = TopUp.objects.filter(wallet_id=workspace.pk, state=State.PENDING, source=TopUp.Source.CHECKOUT)
    pages.filter(stripe_session_id__isnull=False).update(run_after=clock.now(), attempts=0)


def _is_deleted(topup: TopUp) -> bool:
    return Workspace.objects.filter(pk=topup.wallet_id, deleted_at__isnull=False).exists()


# ── Asking Stripe ────────────────────────────────────────────────────────────────────────────────────────────────────
def reconcile(topup: TopUp) -> TopUp:
    """Read a top-up's session from Stripe and do what it says. Raises StripeFailed where that is not to be had now."""
    if topup.state not in OPEN:
        return topup
    if topup.source == TopUp.Source.AUTO:
        return auto.reconcile(topup)
    if topup.stripe_session_id is None:
        overdue = clock.now() - topup.created_at >= UNOPENED
        return fail(topup.pk, NOT_OPENED) if overdue else topup
    try:
        session = stripe_api.retrieve_session(topup.stripe_session_id)
        if session.status == "open" and _is_deleted(topup):
            stripe_api.expire_session(session.id)
            session = stripe_api.retrieve_session(session.id)  # somebody may have paid a moment before
    except stripe_api.NotAtStripe:
        return fail(topup.pk, NOT_AT_STRIPE)
    faults.point("topup.read")
    return settle(topup.pk, session)


def reconcile_session(session_id: str) -> TopUp | None:
    """The same, from the session's side; None where the session is not one of ours."""
    try:
        session = stripe_api.retrieve_session(session_id)
    except stripe_api.NotAtStripe:
        return None
    if session.topup_id is None or not TopUp.objects.filter(pk=session.topup_id).exists():
        return None
    return settle(session.topup_id, session)


def reconcile_payment(payment_id: str) -> TopUp | None:
    """The same, from the payment's side, for top-ups with and without a session; None for a payment of nobody here."""
    try:
        payment = stripe_payments.retrieve_payment(payment_id)
    except stripe_api.NotAtStripe:
        return None
    topup = TopUp.objects.filter(pk=payment.topup_id).first() if payment.topup_id else None
    if topup is None:
        return None
    if topup.source == TopUp.Source.AUTO:
        return auto.settle(topup, payment)
    session = stripe_api.find_session(payment.id)
    return topup if session is None else settle(topup.pk, session)


def look_again(topup: TopUp) -> TopUp:
    """Reconcile an open top-up for somebody who waits, at most every few seconds however often they ask.

    A Stripe that does not answer leaves it as it was.
    """
    now = clock.now()
    before = now - timedelta(seconds=LEAST_SECONDS_BETWEEN_LOOKS)
    due = Q(checked_at__isnull=True) | Q(checked_at__lt=before)
    if TopUp.objects.filter(due, pk=topup.pk, state__in=OPEN).update(checked_at=now):
        try:
            return reconcile(topup)
        except stripe_api.StripeFailed:
            log.warning("top-up %s waits: Stripe did not answer", topup.pk)
    topup.refresh_from_db()
    return topup


def sweep(now: datetime | None = None, *, most: int = 100) -> int:
    """Do what is due: ask Stripe about open top-ups, send receipts that nobody sent. Returns how many were looked at.

    Safe to run at any time and twice at once. Ends early where Stripe does not answer: the rest has waited before.
    """
    now = now or clock.now()
    _give_up_demo(now)
    due = TopUp.objects.filter(run_after__lte=now, is_demo=settings.DEMO_PAYMENTS).order_by("run_after")[:most]
    looked = 0
    for topup in due:
        if not _claim(topup, now):
            continue
        looked += 1
        try:
            follow_up(topup.pk) if topup.state == State.PAID else reconcile(topup)
        except stripe_api.StripeFailed:
            break
        except Exception:
            log.exception("top-up %s could not be swept", topup.pk)
    return looked


def _claim(topup: TopUp, now: datetime) -> bool:
    """Take this look for ourselves and set the next one, further away each time."""
    longest = LONGEST_PAUSE.get(State(topup.state), timedelta(hours=1))
    pause = min(FIRST_LOOK * 2 ** min(topup.attempts, 12), longest)
    claimed = TopUp.objects.filter(pk=topup.pk, run_after=topup.run_after).update(
        run_after=now + pause, attempts=min(topup.attempts + 1, MAX_ATTEMPTS), checked_at=now
    )
    return claimed == 1


def _give_up_demo(now: datetime) -> None:
    """Nobody can pay a demo top-up any more once real payments are switched on."""
    if not settings.DEMO_PAYMENTS:
        old = TopUp.objects.filter(is_demo=True, state__in=OPEN, created_at__lt=now - CHECKOUT_OPEN)
        old.update(state=State.EXPIRED, run_after=None)


def heal(now: datetime | None = None, *, since: timedelta = timedelta(days=3)) -> int:
    """Find paid sessions at Stripe whose credits never came, whatever we believe of them. Returns how many were healed.

    For a slow cadence (an hour, a night): it lists instead of asking for what we know to be open.
    """
    if not stripe_keys.is_configured():
        return 0
    healed = 0
    for session in stripe_api.list_completed_sessions((now or clock.now()) - since):
        if session.payment_status != "paid" or session.topup_id is None:
            continue
        topup = TopUp.objects.filter(pk=session.topup_id).exclude(state=State.PAID).exclude(failure=MISMATCH).first()
        if topup is not None:
            after = reconcile_session(session.id)
            healed += after is not None and after.state == State.PAID
    return healed


# ── Afterwards ────────────────────────────────────────────────────────────────────────────────────────────────────────
def follow_up(topup_id: UUID) -> None:
    """What a paid top-up leaves to do, once: keep the card where that was asked for, send the receipt.

    What was paid after its organization was deleted goes back to the payer. Raises StripeFailed.
    """
    topup = TopUp.objects.select_related("wallet__workspace").get(pk=topup_id)
    if topup.run_after is not None and came_too_late(topup):
        _send_back(topup)
    elif topup.saves_card and topup.run_after is not None:
        _keep_card(topup)
    faults.point("topup.card_kept")
    send_receipt(topup_id)


def came_too_late(topup: TopUp) -> bool:
    """Whether it was paid after its organization was deleted, so that all of it is refunded."""
    deleted_at = topup.wallet.workspace.deleted_at
    return deleted_at is not None and topup.completed_at is not None and topup.completed_at > deleted_at


def _send_back(topup: TopUp) -> None:
    """Refund all that was paid, once. Where Stripe refuses, the credits stay, and an operator sees both."""
    from billing import reversals  # it looks after payments by what is here

    if reversals.refundable_cents(topup) > 0:
        reason = _("The organization was deleted before this payment came.")
        reversals.refund(topup, None, reason, audit.SYSTEM, identifier=uuid5(topup.pk, "deleted"))


def _keep_card(topup: TopUp) -> None:
    """Unless a later top-up has brought another card since. Raises StripeFailed."""
    customer = customers.of(topup.wallet_id)
    later = TopUp.objects.filter(wallet_id=topup.wallet_id, pk__gt=topup.pk, saves_card=True, state=State.PAID)
    if customer is not None and topup.stripe_payment_method_id and not later.exists():
        customers.save_card(customer, topup.stripe_payment_method_id)


def send_receipt(topup_id: UUID) -> bool:
    """Mail the receipt of a paid top-up, once. False where it was sent before, or another process is just doing it."""
    with transaction.atomic():
        locked = TopUp.objects.select_for_update(of=("self",), skip_locked=True).select_related("created_by")
        topup = locked.filter(pk=topup_id, state=State.PAID, mailed_at__isnull=True).first()
        if topup is None:
            return False
        now = clock.now()
        too_late = topup.completed_at is None or now - topup.completed_at > MAIL_FOR
        if topup.created_by is not None and not too_late:
            emails.send_receipt(topup, to=topup.created_by.email)
            topup.mailed_at = now
        topup.run_after = None
        topup.save(update_fields=["mailed_at", "run_after"])
        return topup.mailed_at is not None

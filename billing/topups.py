"""Money on its way in: from a form to Stripe's pay page and back as credits, exactly once.

``start`` opens the pay page. Whoever brings the news afterwards (webhook, return page, sweep) ends in ``settle``,
which locks the top-up's row and does what Stripe's own session says, so that order, repetition and loss change nothing.
A top-up's row is locked before its wallet's; nothing locks them the other way round.
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

from billing import emails, ledger, stripe_api, stripe_keys
from billing.models import HOUSE_ACCOUNTS, Account, CreditLot, TopUp, Transfer
from core import background, clock, errors, money
from core.templatetags.amounts import count_text, usd_text
from events import audit
from orgs.models import Workspace

log = logging.getLogger(__name__)

State = TopUp.State
OPEN: Final = (State.PENDING, State.PROCESSING)

#: How long a pay page stays open. Stripe takes 30 minutes to 24 hours.
CHECKOUT_OPEN: Final = timedelta(hours=2)
#: A top-up whose pay page was never known to open is given up after this.
UNOPENED: Final = timedelta(minutes=15)
STARTS_AN_HOUR: Final = 20
FIRST_LOOK: Final = timedelta(seconds=60)
LONGEST_PAUSE: Final = {State.PENDING: timedelta(hours=1), State.PROCESSING: timedelta(hours=6)}
LEAST_SECONDS_BETWEEN_LOOKS: Final = 2
MAIL_FOR: Final = timedelta(days=2)
MAX_ATTEMPTS: Final = 30_000

_COMPLETED: Final = (
    *("state", "failure", "lot", "stripe_session_id", "stripe_payment_intent_id", "stripe_charge_id", "receipt_url"),
    *("completed_at", "checked_at", "run_after", "attempts"),
)

#: Words in ``TopUp.failure`` that are ours; the others are Stripe's codes.
MISMATCH: Final = "mismatch"
NOT_OPENED: Final = "not_opened"
NOT_AT_STRIPE: Final = "not_at_stripe"


# ── Start ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def start(workspace: Workspace, *, actor: audit.Actor, amount_cents: int, form_token: UUID) -> TopUp:
    """A top-up with an open pay page (``checkout_url``); the same form sent twice is the same top-up.

    Where that form's top-up is over already, it comes back as it is, without an open page. Raises InvalidRequest for
    an amount out of bounds, RateLimited, and StripeFailed: after StripeUnavailable the same form may be sent again.
    """
    check_amount(amount_cents)
    topup = _first_of_its_form(workspace, actor=actor, amount_cents=amount_cents, form_token=form_token)
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


def _first_of_its_form(workspace: Workspace, *, actor: audit.Actor, amount_cents: int, form_token: UUID) -> TopUp:
    # The amount is part of the key: back on the form with another amount is another wish, not a double click.
    token = uuid5(form_token, f"{workspace.pk} {amount_cents}")
    known = TopUp.objects.filter(form_token=token).first()
    if known is not None:
        return known
    now = clock.now()
    if TopUp.objects.filter(wallet_id=workspace.pk, created_at__gt=now - timedelta(hours=1)).count() >= STARTS_AN_HOUR:
        raise errors.RateLimited(_("Too many payments were started. Try again in an hour."), retry_after=3600)
    mine = TopUp(
        wallet_id=workspace.pk,
        created_by_id=actor.user_id,
        amount_cents=amount_cents,
        credits_microcredits=money.from_cents(amount_cents),
        is_demo=settings.DEMO_PAYMENTS,
        form_token=token,
        created_at=now,
        run_after=now + UNOPENED,
    )
    with transaction.atomic():
        TopUp.objects.bulk_create([mine], ignore_conflicts=True)
        topup = TopUp.objects.get(form_token=token)
        if topup.pk == mine.pk:  # else a second click was a moment faster
            _record("topup.start", topup, actor)
    return topup


def _open_checkout(topup: TopUp) -> TopUp:
    back = settings.SITE_URL + reverse("billing:return", args=[topup.pk])
    wanted = stripe_api.Checkout(
        key=f"topup-{topup.pk}",
        topup_id=topup.pk,
        amount_cents=topup.amount_cents,
        currency=topup.currency,
        product=_("%s Hypereal credits") % count_text(topup.credits_microcredits // money.MICROCREDITS_PER_CREDIT),
        customer_email=topup.created_by.email if topup.created_by else "",
        success_url=f"{back}?session_id={{CHECKOUT_SESSION_ID}}",
        cancel_url=f"{back}?cancelled=1",
        # By the row's age, so that asking again asks for the same.
        expires_at=topup.created_at + CHECKOUT_OPEN,
    )
    try:
        session = stripe_api.create_checkout(wanted)
    except stripe_api.StripeRefused:
        fail(topup.pk, NOT_OPENED)
        raise
    TopUp.objects.filter(pk=topup.pk, state=State.PENDING).update(
        stripe_session_id=session.id, checkout_url=session.url, run_after=clock.now() + FIRST_LOOK
    )
    topup.refresh_from_db()
    return topup


# ── What Stripe says ─────────────────────────────────────────────────────────────────────────────────────────────────
def settle(topup_id: UUID, session: stripe_api.Session) -> TopUp:
    """Bring a top-up to where its session is. Any number of calls, in any order, end alike."""
    if session.payment_status == "paid":
        return complete(topup_id, session)
    if session.status == "expired":
        return expire(topup_id)
    if session.status == "complete":
        # A bank debit: on its way for days, until it is paid or its payment asks for another method.
        ended = session.intent_status in ("requires_payment_method", "canceled")
        return fail(topup_id, session.failure_code or "payment_failed") if ended else _process(topup_id, session)
    return TopUp.objects.get(pk=topup_id)


@transaction.atomic
def complete(topup_id: UUID, session: stripe_api.Session) -> TopUp:
    """Credit a paid session, once. A session that is not this top-up's to the cent credits nothing and is reported.

    Whatever else we believed before (failed, expired): money that came is credited.
    """
    topup = TopUp.objects.select_for_update(of=("self",)).get(pk=topup_id)
    if topup.state == State.PAID:
        return topup
    if differs := _differences(topup, session):
        return _refuse(topup, session, differs)
    now = clock.now()
    lot = ledger.grant(
        topup.wallet_id,
        kind=CreditLot.Kind.DEMO if topup.is_demo else CreditLot.Kind.PAID,
        amount_microcredits=topup.credits_microcredits,
        transfer_kind=Transfer.Kind.TOPUP,
        reference=topup.pk,
        source_account=HOUSE_ACCOUNTS[Account.Kind.DEMO if topup.is_demo else Account.Kind.STRIPE],
        at=now,
    )
    topup.lot = lot or _lot_of(topup)
    topup.state, topup.failure = State.PAID, ""
    topup.stripe_session_id = session.id
    topup.stripe_payment_intent_id = session.payment_intent_id
    topup.stripe_charge_id, topup.receipt_url = session.charge_id, session.receipt_url
    topup.completed_at = topup.checked_at = now
    # A worker sends the receipt at once; the sweep does it where none heard.
    topup.run_after, topup.attempts = now + FIRST_LOOK, 0
    topup.save(update_fields=_COMPLETED)
    _record("topup.complete", topup, audit.SYSTEM)
    background.enqueue_on_commit("billing.tasks.mail_receipt", str(topup.pk), job_id=f"topup-mail-{topup.pk}")
    return topup


def _lot_of(topup: TopUp) -> CreditLot:
    """The lot that an earlier posting of this top-up made."""
    posted = Transfer.objects.get(reference=topup.pk, kind=Transfer.Kind.TOPUP)
    assert posted.lot_id is not None
    return CreditLot.objects.get(pk=posted.lot_id)


def _differences(topup: TopUp, session: stripe_api.Session) -> dict[str, list[str]]:
    """What of the session is not as this top-up asked for it: name to wanted and found."""
    pairs = {
        "topup": (topup.pk, session.topup_id),
        "session": (topup.stripe_session_id or session.id, session.id),
        # Tax comes on top of the subtotal and is no credit.
        "amount_cents": (topup.amount_cents, session.amount_subtotal_cents - session.amount_discount_cents),
        "currency": (topup.currency, session.currency),
        "livemode": (stripe_keys.expects_livemode(), session.livemode),
        "demo": (topup.is_demo, settings.DEMO_PAYMENTS),
    }
    return {name: [str(wanted), str(found)] for name, (wanted, found) in pairs.items() if wanted != found}


def _refuse(topup: TopUp, session: stripe_api.Session, differs: dict[str, list[str]]) -> TopUp:
    """Money came that is not what was asked for: an operator has to look, so it is told once, loudly."""
    if topup.failure != MISMATCH:
        log.error("paid session %s does not fit top-up %s: %s", session.id, topup.pk, differs)
        _end(topup, State.FAILED, MISMATCH)
        _record("topup.mismatch", topup, audit.SYSTEM, session=session.id, differs=differs)
    return topup


@transaction.atomic
def _process(topup_id: UUID, session: stripe_api.Session) -> TopUp:
    topup = TopUp.objects.select_for_update(of=("self",)).get(pk=topup_id)
    if topup.state == State.PENDING:
        topup.state, topup.attempts = State.PROCESSING, 0
        topup.stripe_payment_intent_id = session.payment_intent_id
        topup.run_after = clock.now() + FIRST_LOOK
        topup.save(update_fields=["state", "attempts", "stripe_payment_intent_id", "run_after"])
    return topup


@transaction.atomic
def fail(topup_id: UUID, failure: str) -> TopUp:
    """End an open top-up without credits; ``failure`` is a code, Stripe's or one of ours."""
    topup = TopUp.objects.select_for_update(of=("self",)).get(pk=topup_id)
    if topup.state in OPEN:
        _end(topup, State.FAILED, failure)
        _record("topup.fail", topup, audit.SYSTEM, failure=failure)
    return topup


@transaction.atomic
def expire(topup_id: UUID) -> TopUp:
    """End an open top-up whose pay page closed unpaid."""
    topup = TopUp.objects.select_for_update(of=("self",)).get(pk=topup_id)
    if topup.state in OPEN:
        _end(topup, State.EXPIRED, "")
    return topup


def _end(topup: TopUp, state: TopUp.State, failure: str) -> None:
    topup.state, topup.failure, topup.run_after = state, failure, None
    topup.save(update_fields=["state", "failure", "run_after"])


def _record(action: str, topup: TopUp, actor: audit.Actor, **details: object) -> None:
    audit.record(
        action,
        actor=actor,
        target=audit.Target("topup", topup.pk, f"${topup.amount_cents // 100}.{topup.amount_cents % 100:02d}"),
        workspace_id=topup.wallet_id,
        details={"amount_cents": topup.amount_cents, "demo": topup.is_demo, **details},
    )


# ── Asking Stripe ────────────────────────────────────────────────────────────────────────────────────────────────────
def reconcile(topup: TopUp) -> TopUp:
    """Read a top-up's session from Stripe and do what it says. Raises StripeFailed where that is not to be had now."""
    if topup.state not in OPEN:
        return topup
    if topup.stripe_session_id is None:
        overdue = clock.now() - topup.created_at >= UNOPENED
        return fail(topup.pk, NOT_OPENED) if overdue else topup
    try:
        session = stripe_api.retrieve_session(topup.stripe_session_id)
    except stripe_api.NotAtStripe:
        return fail(topup.pk, NOT_AT_STRIPE)
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
            send_receipt(topup.pk) if topup.state == State.PAID else reconcile(topup)
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


# ── Receipts ──────────────────────────────────────────────────────────────────────────────────────────────────────────
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

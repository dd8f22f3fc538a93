"""Money on its way back, and the credits that it takes along.

Refunds that we ask for begin here (`refund`); refunds made at Stripe and disputes come as news. Either way a reversal's
row is the truth: it says what was taken from the wallet, and `_apply` brings that to what Stripe says now. Stripe is
asked under the lock of the top-up's row, so that nobody acts on older news than somebody else before.

A reversal takes the credits that its money had bought: of the lot that came with it first, then of the others; what was
spent already becomes a debt. Money that comes back (a refund that a bank returns, a dispute won) brings them back.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext as _

from billing import ledger, settling, stripe_api, stripe_payments, topups
from billing.models import CreditLot, Reversal, TopUp, Transfer
from core import clock, errors, faults, ids, money
from events import audit, outbox

log = logging.getLogger(__name__)

Kind = Reversal.Kind
State = Reversal.State

FIRST_LOOK: Final = timedelta(seconds=60)
LONGEST_PAUSE: Final = timedelta(hours=12)
MAX_ATTEMPTS: Final = 30_000
REASON_LENGTH: Final = 254

#: What Stripe's words mean here. An unknown word of a refund or dispute counts as money that is gone.
_REFUND_STATES: Final = {
    "pending": State.OPEN,
    "requires_action": State.OPEN,
    "succeeded": State.FINAL,
    "failed": State.UNDONE,
    "canceled": State.UNDONE,
}
_DISPUTE_STATES: Final = {
    "needs_response": State.OPEN,
    "under_review": State.OPEN,
    "appeal_needs_response": State.OPEN,
    "appeal_under_review": State.OPEN,
    "warning_needs_response": State.OPEN,
    "warning_under_review": State.OPEN,
    "lost": State.FINAL,
    "won": State.UNDONE,
    "warning_closed": State.UNDONE,
    "prevented": State.UNDONE,
}
#: Inquiries: the bank asks, no money has moved.
_ONLY_ASKED: Final = frozenset({"warning_needs_response", "warning_under_review"})


# ── Ours: a refund that an operator asks for ─────────────────────────────────────────────────────────────────────────
def refund(
    topup: TopUp, amount_cents: int | None, reason: str, by: audit.Actor, *, identifier: UUID | None = None
) -> Reversal:
    """Send money of a top-up back: ``amount_cents`` of what was paid, or all that is left of it.

    The same ``identifier`` is the same refund, however often it is asked for.

    The credits go first, in one transaction with the row; then Stripe is asked, and where it refuses they come back.
    Raises InvalidRequest, and StripeFailed: after StripeUnavailable the refund stands and is asked for again by itself.
    """
    reversal = _request(topup.pk, amount_cents, reason.strip(), by, identifier or ids.uuid7())
    faults.point("refund.requested")
    return send(reversal.pk)


@transaction.atomic
def _request(topup_id: UUID, amount_cents: int | None, reason: str, by: audit.Actor, identifier: UUID) -> Reversal:
    topup = settling.locked(topup_id)
    known = Reversal.objects.filter(pk=identifier, topup=topup).first()
    if known is not None:
        return known
    left = refundable_cents(topup)
    amount = left if amount_cents is None else amount_cents
    if not reason:
        raise errors.InvalidRequest(_("Say why."), param="reason")
    if left <= 0 or topup.is_demo != settings.DEMO_PAYMENTS:
        raise errors.InvalidRequest(_("There is nothing left to refund."), param="topup")
    if not 0 < amount <= left:
        most = topups.cents_text(left)
        raise errors.InvalidRequest(_("Between one cent and %s.") % most, param="amount_cents")
    now = clock.now()
    reversal = Reversal.objects.create(
        id=identifier,
        topup=topup,
        kind=Kind.REFUND,
        state=State.REQUESTED,
        amount_cents=amount,
        reason=reason[:REASON_LENGTH],
        requested_by_id=by.user_id,
        created_at=now,
        run_after=now + FIRST_LOOK,
    )
    _record("refund.request", reversal, by, {"reason": reason, "amount_cents": amount})
    _take(reversal, topup, now)
    return reversal


def refundable_cents(topup: TopUp) -> int:
    """What of a payment can still be sent back: what was paid, less what went back or is disputed."""
    if not topup.stripe_payment_intent_id or not _money_came(topup):
        return 0
    gone = topup.reversals.exclude(state=State.UNDONE).exclude(stripe_status__in=_ONLY_ASKED)
    return paid_cents(topup) - sum(gone.values_list("amount_cents", flat=True))


def paid_cents(topup: TopUp) -> int:
    """What was paid in all, tax included."""
    return topup.charged_cents if topup.charged_cents is not None else topup.amount_cents


def _money_came(topup: TopUp) -> bool:
    return topup.state == TopUp.State.PAID or topup.failure == settling.MISMATCH


def send(reversal_id: UUID) -> Reversal:
    """Ask Stripe for a refund that is not known there yet. Raises StripeFailed. Asking twice refunds once.

    It is looked for there first: Stripe forgets a key after a day, and a refund made twice is money lost.
    """
    with transaction.atomic():
        reversal = Reversal.objects.select_for_update(of=("self",)).select_related("topup").get(pk=reversal_id)
        if reversal.state != State.REQUESTED:
            return reversal
        refusal: stripe_api.StripeFailed | None = None
        payment_id = reversal.topup.stripe_payment_intent_id
        known = [one for one in stripe_payments.refunds_of(payment_id) if one.reversal_id == reversal.pk]
        try:
            faults.point("refund.asked")
            found = known[0] if known else _ask_for(reversal, payment_id)
        except stripe_api.StripeUnavailable:
            raise
        except stripe_api.StripeFailed as refused:
            refusal = refused
        else:
            faults.point("refund.sent")
            Reversal.objects.filter(pk=reversal.pk).update(stripe_id=found.id)
    if refusal is not None:
        _give_up(reversal_id)
        raise refusal
    return follow_refund(found.id) or reversal


def _ask_for(reversal: Reversal, payment_id: str) -> stripe_payments.Refund:
    return stripe_payments.create_refund(
        f"refund-{reversal.pk}", payment_id=payment_id, amount_cents=reversal.amount_cents, reversal_id=reversal.pk
    )


@transaction.atomic
def _give_up(reversal_id: UUID) -> None:
    """Stripe refused: nothing was sent, so the credits come back."""
    topup = settling.locked(Reversal.objects.get(pk=reversal_id).topup_id)
    reversal = Reversal.objects.select_for_update().get(pk=reversal_id)
    if reversal.state == State.REQUESTED:
        reversal.failure = "refused"
        _end(reversal, topup, State.UNDONE, "", clock.now())


# ── News ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def follow_refund(refund_id: str) -> Reversal | None:
    """Bring a refund's row to what Stripe says now, making one for a refund of somebody else's hand.

    None where it is of no payment here. Raises StripeFailed.
    """
    try:
        news = stripe_payments.retrieve_refund(refund_id)
    except stripe_api.NotAtStripe:
        return None
    topup = _topup_of(news.payment_id)
    if topup is None:
        return None
    with transaction.atomic():
        topup = settling.locked(topup.pk)
        news = stripe_payments.retrieve_refund(refund_id)  # under the lock: nobody has newer news
        reversal = _row(topup, Kind.REFUND, news.id, news.amount_cents, news.reason, news.reversal_id)
        reversal.failure = news.failure
        _apply(reversal, topup, _REFUND_STATES.get(news.status, State.FINAL), news.status)
    return reversal


def follow_charge(charge_id: str) -> bool:
    """Every refund of a charge. False where it is of no payment here. Raises StripeFailed."""
    try:
        payment_id = stripe_payments.payment_of_charge(charge_id)
    except stripe_api.NotAtStripe:
        return False
    if _topup_of(payment_id) is None:
        return False
    for one in stripe_payments.refunds_of(payment_id):
        follow_refund(one.id)
    return True


def follow_dispute(dispute_id: str) -> Reversal | None:
    """Bring a dispute's row to what Stripe says now. None where it is of no payment here. Raises StripeFailed."""
    try:
        news = stripe_payments.retrieve_dispute(dispute_id)
    except stripe_api.NotAtStripe:
        return None
    topup = _topup_of(news.payment_id)
    if topup is None:
        return None
    with transaction.atomic():
        topup = settling.locked(topup.pk)
        news = stripe_payments.retrieve_dispute(dispute_id)
        reversal = _row(topup, Kind.DISPUTE, news.id, news.amount_cents, news.reason, None)
        _apply(reversal, topup, _DISPUTE_STATES.get(news.status, State.FINAL), news.status)
    return reversal


def _topup_of(payment_id: str) -> TopUp | None:
    """The top-up of a payment. Money must come before it can go back: an open one is settled first."""
    if not payment_id:
        return None
    topup = TopUp.objects.filter(stripe_payment_intent_id=payment_id).first()
    if topup is None or not _money_came(topup):
        topup = topups.reconcile_payment(payment_id) or topup
    return topup


def _row(topup: TopUp, kind: Kind, stripe_id: str, amount_cents: int, reason: str, ours: UUID | None) -> Reversal:
    """The reversal's row under the top-up's lock; a refund of ours is known by our id where Stripe's got lost."""
    mine = Reversal.objects.filter(topup=topup)
    known = mine.filter(stripe_id=stripe_id).first() or (mine.filter(pk=ours, stripe_id=None).first() if ours else None)
    if known is not None:
        known.stripe_id = stripe_id
        known.amount_cents = amount_cents
        return known
    return Reversal.objects.create(
        topup=topup,
        kind=kind,
        state=State.OPEN,
        stripe_id=stripe_id,
        amount_cents=amount_cents,
        reason=reason[:REASON_LENGTH],
    )


# ── Credits ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def _apply(reversal: Reversal, topup: TopUp, state: State, status: str) -> None:
    """Write down where it stands, and take or give what that means."""
    faults.point("reversal.read")
    now = clock.now()
    if state == State.UNDONE:
        _end(reversal, topup, state, status, now)
        return
    changed = (reversal.state, reversal.stripe_status) != (state, status)
    reversal.state, reversal.stripe_status = state, status
    reversal.ended_at = (reversal.ended_at or now) if state == State.FINAL else None
    reversal.run_after = None if state == State.FINAL else now + _pause(reversal)
    reversal.save()
    if status not in _ONLY_ASKED:
        _take(reversal, topup, now)
    if changed:
        _record(f"{reversal.kind}.{state.value}", reversal, audit.SYSTEM, {"status": status})
        if state == State.FINAL and reversal.kind == Kind.REFUND:
            _tell(reversal, topup)


def _tell(reversal: Reversal, topup: TopUp) -> None:
    data = {
        "refundId": reversal.pk,
        "topupId": topup.pk,
        "amountCents": reversal.amount_cents,
        "currency": topup.currency,
        "credits": money.credits_json(reversal.taken_microcredits),
    }
    outbox.tell(topup.wallet_id, "refund.completed", data)


def _end(reversal: Reversal, topup: TopUp, state: State, status: str, now: datetime) -> None:
    """The money came back, or never left: so do the credits."""
    if reversal.taken_microcredits:
        _give_back(reversal, topup, now)
    changed = reversal.state != state
    reversal.state, reversal.stripe_status, reversal.run_after = state, status, None
    reversal.ended_at = reversal.ended_at or now
    reversal.save()
    # Another one of the same payment may have found too little left while this one had it.
    for other in (
        Reversal.objects.filter(topup=topup).exclude(state=State.UNDONE).exclude(stripe_status__in=_ONLY_ASKED)
    ):
        _take(other, topup, now)
    if changed:
        _record(f"{reversal.kind}.{state.value}", reversal, audit.SYSTEM, {"status": status})


def _take(reversal: Reversal, topup: TopUp, now: datetime) -> None:
    """Take what this reversal's money had bought, once. A payment that brought no credits takes none."""
    owed = _share(reversal, topup) - reversal.taken_microcredits
    if topup.lot_id is None or owed <= 0:
        return
    ledger.take_back(
        topup.wallet_id,
        amount_microcredits=owed,
        transfer_kind=_transfer_kind(reversal),
        reference=reversal.pk,
        to_account=settling.source_account(topup),
        at=now,
        first_lots=_lots_of(topup),
    )
    faults.point("reversal.taken")
    reversal.taken_microcredits += owed
    reversal.save(update_fields=["taken_microcredits"])


def _share(reversal: Reversal, topup: TopUp) -> int:
    """The part of the credits that this part of the payment bought; all reversals together never more than all."""
    paid = paid_cents(topup)
    part = money.round_half_up(topup.credits_microcredits * min(reversal.amount_cents, paid), paid)
    others = Reversal.objects.filter(topup=topup).exclude(pk=reversal.pk)
    amounts = list(others.values_list("amount_cents", "taken_microcredits"))
    taken = sum(one for _, one in amounts)
    left = topup.credits_microcredits - taken
    # The last part takes the rest, so that parts add up although each was rounded.
    gone = sum(cents for cents, one in amounts if one) + reversal.amount_cents
    return left if gone >= paid else min(part, left)


def _give_back(reversal: Reversal, topup: TopUp, now: datetime) -> None:
    ledger.give_back(
        topup.wallet_id,
        kind=CreditLot.Kind.DEMO if topup.is_demo else CreditLot.Kind.PAID,
        amount_microcredits=reversal.taken_microcredits,
        transfer_kind=_transfer_kind(reversal),
        reference=reversal.pk,
        source_account=settling.source_account(topup),
        at=now,
    )
    reversal.taken_microcredits = 0


def _lots_of(topup: TopUp) -> set[UUID]:
    """The lot that a top-up brought, and those in which its credits came back."""
    returned = Transfer.objects.filter(
        reference__in=topup.reversals.values("pk"), credit_account=topup.wallet_id, lot_id__isnull=False
    )
    lots = {lot_id for lot_id in returned.values_list("lot_id", flat=True) if lot_id is not None}
    return lots | ({topup.lot_id} if topup.lot_id else set())


def _transfer_kind(reversal: Reversal) -> str:
    return Transfer.Kind.REFUND if reversal.kind == Kind.REFUND else Transfer.Kind.DISPUTE


def _record(action: str, reversal: Reversal, actor: audit.Actor, details: dict[str, object]) -> None:
    told = {**details, "kind": reversal.kind, "stripe_id": reversal.stripe_id, "topup": str(reversal.topup_id)}
    audit.record(
        action,
        actor=actor,
        target=audit.Target("reversal", reversal.pk, topups.cents_text(reversal.amount_cents)),
        workspace_id=reversal.topup.wallet_id,
        details=told,
    )


# ── The sweep ────────────────────────────────────────────────────────────────────────────────────────────────────────
def sweep(now: datetime | None = None, *, most: int = 100) -> int:
    """Go on with refunds that were not sent, ask about what is open. Returns how many were looked at.

    Safe at any time and twice at once. Ends early where Stripe does not answer.
    """
    now = now or clock.now()
    due = Reversal.objects.filter(run_after__lte=now, topup__is_demo=settings.DEMO_PAYMENTS).order_by("run_after")
    looked = 0
    for reversal in due[:most]:
        attempts = min(reversal.attempts + 1, MAX_ATTEMPTS)
        reversal.attempts = attempts
        claimed = Reversal.objects.filter(pk=reversal.pk, run_after=reversal.run_after).update(
            run_after=now + _pause(reversal), attempts=attempts
        )
        if not claimed:
            continue
        looked += 1
        try:
            _look(reversal)
        except stripe_api.StripeUnavailable:
            break
        except stripe_api.StripeFailed:
            log.warning("refund %s was refused", reversal.pk)
        except Exception:
            log.exception("reversal %s could not be swept", reversal.pk)
    return looked


def _look(reversal: Reversal) -> None:
    if reversal.stripe_id is None:
        send(reversal.pk)
    elif reversal.kind == Kind.REFUND:
        follow_refund(reversal.stripe_id)
    else:
        follow_dispute(reversal.stripe_id)


def _pause(reversal: Reversal) -> timedelta:
    pause: timedelta = min(FIRST_LOOK * 2 ** min(reversal.attempts, 12), LONGEST_PAUSE)
    return pause


def total_cents(reversals: Iterable[Reversal]) -> int:
    """What of a payment went back for good or may yet, in cents."""
    return sum(
        one.amount_cents for one in reversals if one.state != State.UNDONE and one.stripe_status not in _ONLY_ASKED
    )

"""A small team's calls, top-ups and keys, written by the product's own functions at moments gone by.

The books agree: every call passed the neck, every charge is its tokens at the catalog's price. The same seed and the
same moment give the same history.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final
from uuid import UUID

import time_machine
from django.db import transaction
from django.test import override_settings

from accounts.models import User
from billing import stripe_api, topups
from billing.models import SpendMeter, StripeReport, TopUp
from catalog import pricing, snapshot
from catalog.entries import ModelEntry
from core import clock, ids, money
from events import audit
from keys import issuing
from keys.models import ApiKey
from tests.support.money import Payer
from tests.usage import rows
from upstreams.wire import Usage
from usage.models import RequestLog

SEED: Final = 7
CREDIT: Final = money.MICROCREDITS_PER_CREDIT


@dataclass(frozen=True)
class Habit:
    """How one model is used: its share of the calls, usual input and output tokens, and how much of it is cached."""

    share: int
    input_tokens: int
    output_tokens: int
    cached: float
    provider: str
    milliseconds_a_token: float
    endpoint: str = "chat"


HABITS: Final[Mapping[str, Habit]] = {
    "claude-sonnet-4-6": Habit(24, 92_000, 2_300, 0.74, "anthropic", 16, "messages"),
    "gpt-5.5": Habit(17, 46_000, 1_900, 0.72, "openai", 16),
    "gemini-3.1-pro": Habit(18, 74_000, 2_600, 0.5, "google-openai", 14),
    "gpt-5.4": Habit(12, 52_000, 2_000, 0.55, "openai", 15),
    "glm-5": Habit(12, 110_000, 2_900, 0.5, "zai", 18),
    "kimi-k2.5": Habit(9, 96_000, 2_300, 0.3, "moonshot", 17),
    "gpt-5.4-mini": Habit(12, 21_000, 1_400, 0.35, "openai", 9),
    "deepseek-v3.2": Habit(6, 24_000, 1_100, 0.4, "deepseek", 20),
    "qwen3.5-flash": Habit(8, 6_000, 400, 0.0, "alibaba", 8),
}
#: Key names and their shares of the calls.
KEYS: Final = {"prod-eu": 46, "prod-us": 31, "coding-laptops": 14, "ci-smoke": 6, "notebook": 3}
#: What of a hundred calls does not go well.
FAILURES: Final = ((502, "upstream_error"), (429, "rate_limit_error"), (400, "invalid_request_error"))
CALLS_A_WEEKDAY: Final = 64
TOPUPS: Final = ((58, 20_000), (41, 25_000), (33, 10_000), (19, 25_000), (6, 20_000))


@override_settings(DEMO_PAYMENTS=True, STRIPE_SECRET_KEY="sk_test_history")
@transaction.atomic
def write(person: User, *, days: int = 60) -> None:
    """Give the person's own workspace a past of so many days up to now. The test database has the catalog."""
    now = clock.now()
    dice = random.Random(SEED)
    _top_up(person, now)
    payers = [_payer(person, name, now - timedelta(days=days)) for name in KEYS]
    models = snapshot.build().models
    for at in _moments(dice, now, days):
        payer = dice.choices(payers, list(KEYS.values()))[0]
        slug = dice.choices(list(HABITS), [habit.share for habit in HABITS.values()])[0]
        _call(dice, payer, models[slug], HABITS[slug], at)
    for payer in payers:
        _limit(payer.key)


def _moments(dice: random.Random, now: datetime, days: int) -> Iterator[datetime]:
    """When calls ended: many on working days, few at weekends, most in the daytime, slowly more."""
    for back in reversed(range(days)):
        day = now.date() - timedelta(days=back)
        count = CALLS_A_WEEKDAY * (0.34 if day.weekday() >= 5 else 1) * (1.15 - back / 150) * dice.uniform(0.75, 1.25)
        midnight = datetime.combine(day, time.min, UTC)
        seconds = sorted(min(max(dice.gauss(13.2, 3.6), 0.2), 23.8) * 3600 for _ in range(round(count)))
        yield from (at for at in (midnight + timedelta(seconds=each) for each in seconds) if at < now)


def _call(dice: random.Random, payer: Payer, model: ModelEntry, habit: Habit, at: datetime) -> None:
    about: dict[str, Any] = {"endpoint": habit.endpoint, "model": model.slug, "user_id": payer.user.pk}
    if dice.random() < 0.006:
        status, kind = dice.choice(FAILURES)
        rows.refused(payer, at=at, status=status, error_type=kind, latency_ms=dice.randint(8, 900), **about)
        return
    assert model.price is not None
    usage = _usage(dice, habit)
    charge = pricing.charge(model.price.rates, usage).amount_microcredits
    at_full_rate = Usage(input_tokens=usage.input_tokens, output_tokens=usage.output_tokens)
    first = dice.randint(240, 1_400)
    latency = first + round(usage.output_tokens * habit.milliseconds_a_token * dice.uniform(0.7, 1.3))
    rows.call(
        payer,
        charge,
        at=at,
        lasted=timedelta(milliseconds=latency),
        input_tokens=usage.input_tokens,
        cached_input_tokens=usage.cached_input_tokens,
        output_tokens=usage.output_tokens,
        saved_microcredits=pricing.charge(model.price.rates, at_full_rate).amount_microcredits - charge,
        price_id=model.price.id,
        provider=habit.provider,
        target=f"{habit.provider}//{model.slug}",
        attempts=2 if dice.random() < 0.02 else 1,
        stream=dice.random() < 0.8,
        latency_ms=latency,
        ttfb_ms=first,
        client_disconnected=dice.random() < 0.008,
        **about,
    )


def _usage(dice: random.Random, habit: Habit) -> Usage:
    size = dice.lognormvariate(0, 0.7)
    input_tokens = round(habit.input_tokens * size)
    cached = round(input_tokens * habit.cached * dice.uniform(0.5, 1.2)) if dice.random() < 0.85 else 0
    output_tokens = max(20, round(habit.output_tokens * dice.lognormvariate(0, 0.6)))
    return Usage(input_tokens=input_tokens, cached_input_tokens=cached, output_tokens=output_tokens)


# ── Money that came in ───────────────────────────────────────────────────────────────────────────────────────────────
def _top_up(person: User, now: datetime) -> None:
    for back, cents in TOPUPS:
        at = now - timedelta(days=back, hours=back % 7, minutes=back)
        topup = _started(person, cents, at)
        with time_machine.travel(at + timedelta(minutes=1), tick=False):
            assert topups.complete(topup.pk, _paid(topup)).state == TopUp.State.PAID
    topups.expire(_started(person, 5_000, now - timedelta(days=20)).pk)


def disregard_comparisons() -> None:
    """Take these top-ups out of the reports on Stripe: no payment of theirs was ever made there."""
    for report in StripeReport.objects.all():
        report.differences = [each for each in report.differences if each["stripe_id"] != _payment(each["topup_id"])]
        report.save(update_fields=["differences"])


def _payment(topup_id: UUID | str) -> str:
    return f"pi_{str(topup_id).replace('-', '')}"


def _started(person: User, cents: int, at: datetime) -> TopUp:
    return TopUp.objects.create(
        id=rows.id_at(at),
        wallet_id=person.personal_workspace.pk,
        created_by=person,
        amount_cents=cents,
        credits_microcredits=money.from_cents(cents),
        is_demo=True,
        form_token=ids.uuid7(),
        created_at=at,
        run_after=at + timedelta(days=365),
    )


def _paid(topup: TopUp) -> stripe_api.Session:
    return stripe_api.Session(
        id=f"cs_test_{topup.pk.hex}",
        url="",
        status="complete",
        payment_status="paid",
        amount_subtotal_cents=topup.amount_cents,
        amount_discount_cents=0,
        amount_total_cents=topup.amount_cents,
        currency=topup.currency,
        livemode=False,
        topup_id=topup.pk,
        expires_at=topup.created_at + timedelta(hours=2),
        payment_intent_id=_payment(topup.pk),
        charge_id=f"ch_{topup.pk.hex}",
        receipt_url=f"https://pay.example/receipts/{topup.pk.hex}",
    )


# ── Keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def _payer(person: User, name: str, at: datetime) -> Payer:
    actor = audit.Actor(person.pk, person.email)
    workspace = person.personal_workspace
    # In the order of their names here, the first on top of the page, which shows the newest first.
    with time_machine.travel(at - timedelta(hours=list(KEYS).index(name)), tick=True):
        key = issuing.create(workspace, issuing.Terms(name=name), actor=actor, created_by=person).key
    return Payer(person, workspace, key)


def _limit(key: ApiKey) -> None:
    """A limit that makes the month look lived in, and the moment of the last call."""
    month = clock.month_of(clock.now())
    meter = SpendMeter.objects.filter(scope_id=key.pk, month=month).first()
    spent = meter.spent_microcredits if meter else 0
    limits: dict[str, dict[str, Any]] = {
        "prod-eu": {"spending_limit_microcredits": _limit_for(spent, 83)},
        "prod-us": {"spending_limit_microcredits": _limit_for(spent, 41)},
        "coding-laptops": {
            "spending_limit_microcredits": spent,
            "enabled": False,
            "auto_disable": True,
            "disabled_reason": ApiKey.DisabledReason.SPENDING_LIMIT,
        },
        "ci-smoke": {"spending_limit_microcredits": _limit_for(spent, 28)},
        "notebook": {},
    }
    last = RequestLog.objects.filter(key_id=key.pk).order_by("-id").first()
    ApiKey.objects.filter(pk=key.pk).update(last_used_at=last.billed_at if last else None, **limits[key.name])


def _limit_for(spent: int, percent: int) -> int:
    """A round limit of which about so much is used."""
    return max(1, round(spent * 100 / percent / CREDIT / 500)) * 500 * CREDIT

"""Refuses a start whose payments would lie: about being real, or about being a demo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps.config import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

from billing import stripe_keys
from core import startup


@register(startup.TAG)
def payments(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """What is wrong with the payment settings, as Django's system checks want it."""
    return _demo() if settings.DEMO_PAYMENTS else _real()


def _demo() -> list[CheckMessage]:
    found: list[CheckMessage] = []
    if not settings.ALLOW_DEMO_PAYMENTS:
        found.append(
            Error(
                "DEMO_PAYMENTS is on: anybody could top up without paying.",
                hint="Unset DEMO_PAYMENTS and set STRIPE_SECRET_KEY, or set ALLOW_DEMO_PAYMENTS=1 if that is meant.",
                id="billing.E001",
            )
        )
    if not settings.STRIPE_API_BASE or stripe_keys.expects_livemode():
        found.append(
            Error(
                "DEMO_PAYMENTS is on, but payments would go to Stripe itself: pages would say that no card is charged.",
                hint="Unset DEMO_PAYMENTS, or point STRIPE_API_BASE at the demo's own server with a test key.",
                id="billing.E002",
            )
        )
    return found


def _real() -> list[CheckMessage]:
    found: list[CheckMessage] = []
    if settings.STRIPE_API_BASE:
        found.append(
            Error(
                "STRIPE_API_BASE is not Stripe, so nobody really pays there, but DEMO_PAYMENTS is off.",
                hint="Unset STRIPE_API_BASE, or set DEMO_PAYMENTS=1 so that every billing page says it.",
                id="billing.E003",
            )
        )
    if not stripe_keys.is_configured():
        return [*found, Warning("STRIPE_SECRET_KEY is not set: nobody can top up.", id="billing.W001")]
    if not settings.STRIPE_WEBHOOK_SECRETS:
        found.append(
            Warning(
                "STRIPE_WEBHOOK_SECRETS is not set: webhooks are refused, credits come with the sweep a minute later.",
                id="billing.W002",
            )
        )
    if not stripe_keys.expects_livemode():
        found.append(Warning("STRIPE_SECRET_KEY is a key of test mode: no real money moves.", id="billing.W003"))
    return found

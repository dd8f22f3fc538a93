"""Payment settings that would lie stop the start."""

from __future__ import annotations

import pytest
from django.core.checks import run_checks
from pytest_django import Settings

REAL = {
    "DEMO_PAYMENTS": False,
    "ALLOW_DEMO_PAYMENTS": False,
    "STRIPE_API_BASE": "",
    "STRIPE_SECRET_KEY": "sk_live_x",
    "STRIPE_WEBHOOK_SECRETS": ["whsec_x"],
}
DEMO = {
    "DEMO_PAYMENTS": True,
    "ALLOW_DEMO_PAYMENTS": True,
    "STRIPE_API_BASE": "http://127.0.0.1:9",
    "STRIPE_SECRET_KEY": "sk_test_x",
    "STRIPE_WEBHOOK_SECRETS": ["whsec_x"],
}


@pytest.mark.parametrize(
    ("base", "changes", "found"),
    [
        (REAL, {}, []),
        (DEMO, {}, []),
        (DEMO, {"ALLOW_DEMO_PAYMENTS": False}, ["billing.E001"]),
        (DEMO, {"STRIPE_API_BASE": ""}, ["billing.E002"]),
        (DEMO, {"STRIPE_SECRET_KEY": "sk_live_x"}, ["billing.E002"]),
        (REAL, {"STRIPE_API_BASE": "http://127.0.0.1:9"}, ["billing.E003"]),
        (REAL, {"STRIPE_SECRET_KEY": ""}, ["billing.W001"]),
        (REAL, {"STRIPE_WEBHOOK_SECRETS": []}, ["billing.W002"]),
        (REAL, {"STRIPE_SECRET_KEY": "sk_test_x"}, ["billing.W003"]),
        (REAL, {"STRIPE_SECRET_KEY": "rk_live_x"}, []),
    ],
)
def test_what_is_found(
    settings: Settings, base: dict[str, object], changes: dict[str, object], found: list[str]
) -> None:
    for name, value in {**base, **changes}.items():
        setattr(settings, name, value)
    messages = [message.id for message in run_checks() if (message.id or "").startswith("billing.")]
    assert messages == found

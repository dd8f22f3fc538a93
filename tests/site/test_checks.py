"""Misconfiguration is named: each check on a setting that is wrong, and silence where all is right."""

from __future__ import annotations

from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.core.checks import run_checks
from django.db import connections

from catalog.models import Provider
from core import secrets
from hypereal_site import checks
from sso.models import SsoConnection
from tests import factories

RIGHT: dict[str, Any] = {
    "DEBUG": False,
    "DEMO": False,
    "SITE_URL": "https://hypereal.example",
    "SECURE_SITE": True,
    "ALLOWED_HOSTS": ["hypereal.example"],
    "TRUSTED_PROXY_COUNT": 1,
    "SANDBOX_BASE_URL": "",
    "EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend",
    "SECRET_KEY": "a0b1c2d3e4f5g6h7" * 4,
    "API_KEY_PEPPER": "p" * 32,
    "SECURE_HSTS_SECONDS": 31_536_000,
    "SESSION_COOKIE_SECURE": True,
    "CSRF_COOKIE_SECURE": True,
    "DEMO_PAYMENTS": False,
    "STRIPE_API_BASE": "",
    "STRIPE_SECRET_KEY": "sk_live_" + "x" * 24,
    "STRIPE_WEBHOOK_SECRETS": ["whsec_" + "x" * 24],
}
OTHER_KEY = "b3RoZXItb3RoZXItb3RoZXItb3RoZXItb3RoZXItMDE="


@pytest.fixture
def production(settings: Any) -> Any:
    for name, value in RIGHT.items():
        setattr(settings, name, value)
    return settings


def found() -> set[str]:
    return {str(message.id) for message in run_checks(include_deployment_checks=True)}


def test_a_right_production_site_is_silent(production: Any) -> None:
    assert found() - set(production.SILENCED_SYSTEM_CHECKS) == set()


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"ENCRYPTION_KEYS": []}, {"hypereal.E001"}),
        ({"ENCRYPTION_KEYS": ["short"]}, {"hypereal.E002"}),
        ({"ENCRYPTION_KEYS": [OTHER_KEY, "short", "é" * 44]}, {"hypereal.E002"}),
        ({"COMMIT_MODE": "eventually"}, {"hypereal.E003"}),
        ({"EGRESS_ALLOW": ["everything"]}, {"hypereal.E005"}),
        ({"EGRESS_ALLOW": ["webhook=10.0.0.0/8", "mail=10.0.0.1"]}, {"hypereal.E005"}),
        ({"EGRESS_ALLOW": ["webhook=10.0.0.0/8", "identity_provider=idp.internal:8443"]}, set()),
        ({"API_KEY_PEPPER": "p" * 31}, {"hypereal.E010"}),
        ({"API_KEY_PEPPER": RIGHT["SECRET_KEY"]}, {"hypereal.E011"}),
        ({"SITE_URL": "http://hypereal.example", "SECURE_SITE": False}, {"hypereal.E012"}),
        ({"ALLOWED_HOSTS": ["*"]}, {"hypereal.E013"}),
        ({"ALLOWED_HOSTS": ["www.hypereal.example"]}, {"hypereal.E014"}),
        ({"DEMO": True}, {"hypereal.E015"}),
        ({"SANDBOX_BASE_URL": "http://127.0.0.1:1"}, {"hypereal.E016"}),
        ({"TRUSTED_PROXY_COUNT": 0}, {"hypereal.W001"}),
        ({"EMAIL_BACKEND": "django.core.mail.backends.console.EmailBackend"}, {"hypereal.W002"}),
        ({"GPU_LOCAL_URL": "http://127.0.0.1:8093"}, {"hypereal.W003"}),
        ({"DEBUG": True}, {"security.W018"}),
        ({"DEMO_PAYMENTS": True, "ALLOW_DEMO_PAYMENTS": False}, {"billing.E001", "billing.E002"}),
    ],
)
def test_each_wrong_setting_is_named(production: Any, wrong: dict[str, Any], expected: set[str]) -> None:
    for name, value in wrong.items():
        setattr(production, name, value)
    assert found() - set(production.SILENCED_SYSTEM_CHECKS) == expected


def test_another_database_engine_is_refused(production: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(production.DATABASES["default"], "ENGINE", "django.db.backends.sqlite3")
    assert "hypereal.E004" in {message.id for message in checks.database_engine(None)}


def database_ids() -> set[str]:
    return {str(message.id) for message in checks.database_server(None, databases=["default"])}


@pytest.mark.django_db
def test_the_database_is_looked_at() -> None:
    Provider.objects.create(slug="x", name="X", adapter="openai", secret_sealed=secrets.encrypt("key"))
    Authenticator.objects.create(user=factories.user(), type="totp", data={"secret": secrets.encrypt("SEED").decode()})
    assert database_ids() == set()


@pytest.mark.django_db
@pytest.mark.parametrize("what", ["provider", "second factor", "saml key", "oidc secret"])
def test_keys_that_open_nothing_are_noticed(settings: Any, what: str) -> None:
    sealed_columns = {"saml key": ("saml", "sp_private_key_sealed"), "oidc secret": ("oidc", "client_secret_sealed")}
    if what in sealed_columns:
        kind, column = sealed_columns[what]
        SsoConnection.objects.create(workspace=factories.organization(), kind=kind, **{column: secrets.encrypt("key")})
    elif what == "provider":
        Provider.objects.create(slug="x", name="X", adapter="openai", secret_sealed=secrets.encrypt("key"))
    else:
        seed = secrets.encrypt("SEED").decode()
        Authenticator.objects.create(user=factories.user(), type="totp", data={"secret": seed})
    old = settings.ENCRYPTION_KEYS
    settings.ENCRYPTION_KEYS = [OTHER_KEY]
    assert database_ids() == {"hypereal.E008"}
    settings.ENCRYPTION_KEYS = [OTHER_KEY, *old]
    assert database_ids() == set()


@pytest.mark.django_db
def test_an_old_server_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "LEAST_POSTGRESQL", 990_000)
    assert database_ids() == {"hypereal.E006"}
    assert connections["default"].is_usable()

"""Refuses or questions settings that cannot be meant; each complaint has an id and says what to do.

Those of payments are in `billing.checks`. Errors that would break things at once stop every command and every start of
a server (`core.startup`); those that need a database are found by ``check --database default`` and before the
migrations of a start by one command; those of a production site by ``manage.py check --deploy``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from allauth.mfa.models import Authenticator
from cryptography.fernet import Fernet
from django.apps.config import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import DatabaseError, connections
from django.http.request import validate_host

from catalog.models import Provider
from core import outbound, secrets, startup
from sso.models import SsoConnection

LEAST_POSTGRESQL = 170_000
LEAST_PEPPER_CHARACTERS = 32
COMMIT_MODES = ("durable", "fast")
#: Sealed second factors that are opened to see whether the keys fit: one would do, a rotation may have left a few.
_SAMPLE = 20

_Apps = Sequence[AppConfig] | None


# ── Always ───────────────────────────────────────────────────────────────────────────────────────────────────────────
@register(Tags.security, startup.TAG)
def encryption_keys(app_configs: _Apps, **_: Any) -> list[CheckMessage]:
    """The keys that seal provider keys and second factors."""
    if not settings.ENCRYPTION_KEYS:
        return [
            Error(
                "ENCRYPTION_KEYS is empty: no secret can be stored.",
                hint="Set it to the output of: python -c 'from cryptography.fernet import Fernet as F; "
                "print(F.generate_key().decode())'",
                id="hypereal.E001",
            )
        ]
    return [
        Error(
            f"Key {number} of ENCRYPTION_KEYS is no Fernet key (32 bytes in URL-safe base64).",
            hint="Several keys are parted by commas, the newest first.",
            id="hypereal.E002",
        )
        for number, key in enumerate(settings.ENCRYPTION_KEYS, 1)
        if not _is_fernet_key(key)
    ]


def _is_fernet_key(key: str) -> bool:
    try:
        Fernet(key)
    except ValueError:
        return False
    return True


@register(startup.TAG)
def commit_mode(app_configs: _Apps, **_: Any) -> list[CheckMessage]:
    """When a settlement counts as done."""
    if settings.COMMIT_MODE in COMMIT_MODES:
        return []
    words = " or ".join(COMMIT_MODES)
    return [Error(f"COMMIT_MODE is {settings.COMMIT_MODE!r}; it must be {words}.", id="hypereal.E003")]


@register(startup.TAG)
def database_engine(app_configs: _Apps, **_: Any) -> list[CheckMessage]:
    """PostgreSQL only: row locks, notifications and partitions are what the ledger stands on."""
    if settings.DATABASES["default"].get("ENGINE") == "django.db.backends.postgresql":
        return []
    return [Error("DATABASE_URL must name a PostgreSQL database (postgres://…).", id="hypereal.E004")]


@register(Tags.security, startup.TAG)
def egress_allow(app_configs: _Apps, **_: Any) -> list[CheckMessage]:
    """Private hosts that the guarded outbound client may reach."""
    try:
        outbound.allowed()
    except ValueError as error:
        hint = "Write purpose=host, purpose=host:port or purpose=network, parted by commas."
        return [Error(f"EGRESS_ALLOW can't be read: {error}", hint=hint, id="hypereal.E005")]
    return []


# ── With a database ──────────────────────────────────────────────────────────────────────────────────────────────────
@register(Tags.database, startup.TAG)
def database_server(app_configs: _Apps, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """The server's version, and whether the keys open what is sealed in it."""
    found: list[CheckMessage] = []
    for alias in databases or ():
        found += _version(alias)
        found += _sealed(alias)
    return found


def _version(alias: str) -> list[CheckMessage]:
    connection = connections[alias]
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version_num")
        number = int(cursor.fetchone()[0])
        cursor.execute("SHOW server_encoding")
        encoding = cursor.fetchone()[0]
    found: list[CheckMessage] = []
    if number < LEAST_POSTGRESQL:
        text = f"PostgreSQL {number // 10_000} is too old: 17 is the oldest that settlements can be made durable on."
        found.append(Error(text, id="hypereal.E006"))
    if encoding != "UTF8":
        found.append(Error(f"The database is encoded in {encoding}; it must be UTF8.", id="hypereal.E007"))
    return found


def _sealed(alias: str) -> list[CheckMessage]:
    try:
        shut = [name for name, sealed in _sealed_values(alias) if not _opens(sealed)]
    except DatabaseError:  # before the first migration
        return []
    if not shut:
        return []
    return [
        Error(
            f"ENCRYPTION_KEYS does not open what is stored: {', '.join(sorted(set(shut)))}.",
            hint="Put the key that sealed it back, behind the newest one.",
            id="hypereal.E008",
        )
    ]


def _sealed_values(alias: str) -> Iterator[tuple[str, bytes]]:
    providers = Provider.objects.using(alias).exclude(secret_sealed=None)
    for slug, sealed in providers.values_list("slug", "secret_sealed"):
        yield f"the key of provider {slug}", bytes(sealed or b"")
    for column, what in (("client_secret_sealed", "client secret"), ("sp_private_key_sealed", "private key")):
        connections_with = SsoConnection.objects.using(alias).exclude(**{column: None})
        for provider_id, sealed in connections_with.values_list("provider_id", column):
            yield f"the {what} of sign-on {provider_id}", bytes(sealed)
    for data in Authenticator.objects.using(alias).filter(type="totp").values_list("data", flat=True)[:_SAMPLE]:
        yield "second factors", str(data.get("secret", "")).encode()


def _opens(sealed: bytes) -> bool:
    try:
        secrets.decrypt(sealed)
    except (secrets.Unreadable, ValueError):
        return False
    return True


# ── In production ────────────────────────────────────────────────────────────────────────────────────────────────────
@register(Tags.security, deploy=True)
def site_secrets(app_configs: _Apps, **_: Any) -> list[CheckMessage]:
    """Secrets that can be guessed, or that are one where there should be two. Django itself looks at SECRET_KEY."""
    found: list[CheckMessage] = []
    if len(settings.API_KEY_PEPPER) < LEAST_PEPPER_CHARACTERS:
        text = f"API_KEY_PEPPER has fewer than {LEAST_PEPPER_CHARACTERS} characters."
        found.append(Error(text, hint="Changing it invalidates all API keys.", id="hypereal.E010"))
    if settings.API_KEY_PEPPER in (settings.SECRET_KEY, *settings.ENCRYPTION_KEYS):
        text = "API_KEY_PEPPER is another secret's value: one leak would open both."
        found.append(Error(text, id="hypereal.E011"))
    return found


@register(deploy=True)
def site_address(app_configs: _Apps, **_: Any) -> list[CheckMessage]:
    """Where people reach the site."""
    found: list[CheckMessage] = []
    host = urlsplit(settings.SITE_URL).hostname or ""
    if not settings.SECURE_SITE:
        text = "SITE_URL is not https: passwords and API keys would cross the network in the clear."
        found.append(Error(text, id="hypereal.E012"))
    if "*" in settings.ALLOWED_HOSTS:
        text = "ALLOWED_HOSTS has a *: links in mails could be made to lead anywhere."
        found.append(Error(text, id="hypereal.E013"))
    if not validate_host(host, settings.ALLOWED_HOSTS):
        text = f"ALLOWED_HOSTS does not name {host or 'a host'}, which SITE_URL does: every page would answer 400."
        found.append(Error(text, id="hypereal.E014"))
    if settings.SECURE_SITE and not settings.TRUSTED_PROXY_COUNT:
        found.append(
            Warning(
                "TRUSTED_PROXY_COUNT is 0: behind a proxy, everybody seems to come from its address.",
                hint="Set it to the number of proxies that append to X-Forwarded-For. A limit on sign-ins would "
                "otherwise hit everybody at once.",
                id="hypereal.W001",
            )
        )
    return found


@register(deploy=True)
def stand_ins(app_configs: _Apps, **_: Any) -> list[CheckMessage]:
    """What plays for real services in a demo and has no place on a site for customers."""
    found: list[CheckMessage] = []
    if settings.DEMO:
        text = "HYPEREAL_DEMO is on: this installation has a demo account whose password stands in a file."
        found.append(Error(text, id="hypereal.E015"))
    if settings.SANDBOX_BASE_URL:
        text = "SANDBOX_BASE_URL is set: models without a provider's key are answered with made-up text, for money."
        found.append(Error(text, id="hypereal.E016"))
    if settings.GPU_LOCAL_URL:
        text = "GPU_LOCAL_URL is set: the development engine runs the sample worker on this machine, for money."
        hint = "Set RUNPOD_API_KEY and leave GPU_LOCAL_URL and GPU_LOCAL_SECRET out."
        found.append(Warning(text, hint=hint, id="hypereal.W003"))
    if settings.EMAIL_BACKEND != "django.core.mail.backends.smtp.EmailBackend":
        text = "EMAIL_URL sends no mail: nobody can confirm an address or reset a password."
        found.append(Warning(text, hint="EMAIL_URL=smtp+tls://user:password@host:587", id="hypereal.W002"))
    return found

"""Who may open which door: every URL of the web face, every role, and somebody else's things behind the same URL.

`DOORS` is the table. A URL that is missing in it fails the suite: a new page is closed until somebody writes down here
who may use it. Expectations are written out once more on purpose instead of being read from `orgs.permissions`: two
hands must agree before a role can do more.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import async_to_sync
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from accounts.models import User
from billing.models import TopUp
from core import clock, secrets
from events.models import Outbox
from infra.models import Deployment
from keys.models import ApiKey
from orgs.models import Invitation, Membership
from sso.models import OrgDomain, SsoConnection
from storage.models import StoredObject
from tests import cast, factories
from webhooks import signing
from webhooks.models import Delivery, Endpoint

pytestmark = pytest.mark.django_db

OWNER, ADMIN, DEVELOPER, BILLING, VIEWER = cast.ROLES
MEMBERS = frozenset(cast.ROLES)
KEYS_READ = frozenset({OWNER, ADMIN, DEVELOPER, VIEWER})
KEYS_WRITE = frozenset({OWNER, ADMIN, DEVELOPER})
STORAGE_READ, STORAGE_WRITE = KEYS_READ, KEYS_WRITE
BILLING_READ = frozenset({OWNER, ADMIN, BILLING, VIEWER})
BILLING_WRITE = frozenset({OWNER, BILLING})
USAGE_READ = MEMBERS
JOBS_WRITE = frozenset({OWNER, ADMIN, DEVELOPER})
MEMBERS_WRITE = ORG_WRITE = frozenset({OWNER, ADMIN})
AUDIT_READ = frozenset({OWNER, ADMIN, BILLING, VIEWER})
OWNERS = frozenset({OWNER})
WEBHOOKS_READ = frozenset({OWNER, ADMIN, DEVELOPER, VIEWER})
WEBHOOKS_WRITE = frozenset({OWNER, ADMIN})
THIS_MONTH = f"{clock.now():%Y-%m}"


@dataclass(frozen=True)
class Things:
    """What the organization has, for URLs that name one thing."""

    key: str
    topup: str
    call: str
    #: The membership of somebody beside the cast, an invitation, a key whose maker left, and the organization itself.
    member: str
    invitation: str
    orphan: str
    organization: str
    #: An e-mail domain, and a draft of a connection to an identity provider (by the id in its URLs).
    domain: str
    connection: str
    #: A job that a provider is at.
    job: str
    #: A webhook, and a message on its way to it.
    webhook: str
    delivery: str
    deployment: str

    @classmethod
    def invented(cls) -> Things:
        """Ids of nothing."""
        return cls(*(str(uuid4()) for _ in fields(cls)))


@dataclass(frozen=True)
class Door:
    """One method of one URL: for whom it opens, and what is sent.

    ``path`` fills the URL with the organization's things. ``own``: the URL names nothing, so a stranger gets the same
    page about their own workspace.
    """

    route: str
    method: str
    roles: frozenset[str]
    path: Callable[[Things], str]
    data: Mapping[str, Any] = field(default_factory=dict)
    json: bool = False
    opened: tuple[int, ...] = (200,)
    own: bool = True
    #: A page of organizations alone: a personal workspace answers 404.
    organizations_only: bool = False

    @property
    def is_api(self) -> bool:
        return self.route.startswith("api/")


def page(route: str, roles: frozenset[str], method: str = "GET", *, path: str = "", **rest: Any) -> Door:
    """A door whose URL names nothing that is somebody's."""
    return Door(route, method, roles, lambda _: path or f"/{route}", **rest)


def thing(route: str, path: Callable[[Things], str], roles: frozenset[str], method: str = "GET", **rest: Any) -> Door:
    """A door whose URL names one of the organization's things."""
    return Door(route, method, roles, path, own=False, **rest)


def org_page(route: str, roles: frozenset[str], method: str = "GET", **rest: Any) -> Door:
    """A tab of an organization's settings, which personal workspaces do not have."""
    return page(route, roles, method, organizations_only=True, **rest)


KEY_PAGE, KEY_API = "manage-api-keys/<uuid:key_id>", "api/api-keys/<key_id>"
ORG = "settings/organization"
ORG_API = "api/orgs/<org_id>"
MEMBER_PAGE, INVITATION_PAGE = f"{ORG}/members/<uuid:member_id>", f"{ORG}/invitations/<uuid:invitation_id>"
FILE = "storage/<uuid:object_id>/delete"
TOPUP_PAGE = "billing/topups/<uuid:topup_id>"
SSO_WRITE = frozenset({OWNER, ADMIN})
GPU_WRITE = frozenset({OWNER, ADMIN, DEVELOPER})
DEPLOYMENT = "infra/deployments/<uuid:deployment_id>"
TRY = "gpu-recommend/<str:slug>/try"


def sso_page(rest: str, method: str = "GET", **more: Any) -> Door:
    """A settings page of the organization's connection or domain."""
    kind = rest.partition("/")[0]
    place = "<str:provider_id>" if kind == "sso" else "<uuid:domain_id>"
    route = f"{ORG}/{rest.replace('*', place)}"
    name = "connection" if kind == "sso" else "domain"
    return thing(route, lambda t: f"/{ORG}/{rest.replace('*', getattr(t, name))}", SSO_WRITE, method, **more)


def sso_api(rest: str, method: str = "GET", **more: Any) -> Door:
    """An endpoint about the organization's connections or domains."""
    kind = rest.partition("/")[0]
    place = "<provider_id>" if kind == "sso" else "<domain_id>"
    name = "connection" if kind == "sso" else "domain"

    def path(t: Things) -> str:
        return f"/api/orgs/{t.organization}/{rest.replace('*', getattr(t, name))}"

    return thing(f"{ORG_API}/{rest.replace('*', place)}", path, SSO_WRITE, method, **more)


SSO_DOORS = [
    org_page(f"{ORG}/sso", SSO_WRITE),
    org_page(f"{ORG}/sso/new", SSO_WRITE, "POST", data={"type": "oidc"}, opened=(302,)),
    sso_page("sso/*"),
    sso_page("sso/*", "POST", data={"issuer": ""}, opened=(422,)),
    sso_page("sso/*/roles", "POST", data={"default_role": VIEWER}, opened=(302,)),
    sso_page("sso/*/state", "POST", data={"status": "disabled"}, opened=(302,)),
    sso_page("sso/*/check", "POST", opened=(302,)),
    sso_page("sso/*/test", "POST", opened=(302,)),
    sso_page("sso/*/delete"),
    sso_page("sso/*/delete", "POST", opened=(302,)),
    org_page(f"{ORG}/domains", SSO_WRITE),
    org_page(f"{ORG}/domains", SSO_WRITE, "POST", data={"domain": "new.example"}, opened=(302,)),
    sso_page("domains/*/verify", "POST", opened=(302,)),
    sso_page("domains/*/route", "POST", opened=(302,)),
    sso_page("domains/*/remove"),
    sso_page("domains/*/remove", "POST", opened=(302,)),
    sso_api("sso"),
    sso_api("sso", "POST", data={"type": "saml"}, json=True, opened=(201,)),
    sso_api("sso/*"),
    sso_api("sso/*", "PATCH", data={"name": "x"}, json=True),
    sso_api("sso/*", "DELETE", opened=(204,)),
    sso_api("sso/*/check", "POST", json=True),
    sso_api("domains"),
    sso_api("domains", "POST", data={"domain": "new.example"}, json=True, opened=(201,)),
    sso_api("domains/*/verify", "POST", json=True, opened=(409,)),
    sso_api("domains/*", "DELETE", opened=(204,)),
]

HOOKS, HOOK_API = "settings/webhooks", "api/webhooks"
HOOK = {"url": "https://1.1.1.1/hook", "events": ["job.failed"]}


def hook_page(rest: str, roles: frozenset[str] = WEBHOOKS_WRITE, method: str = "GET", **more: Any) -> Door:
    """A page of the organization's webhook."""
    return thing(f"{HOOKS}/<uuid:webhook_id>{rest}", lambda t: f"/{HOOKS}/{t.webhook}{rest}", roles, method, **more)


def hook_api(rest: str, roles: frozenset[str] = WEBHOOKS_WRITE, method: str = "GET", **more: Any) -> Door:
    """An endpoint about the organization's webhook."""
    return thing(f"{HOOK_API}/<webhook_id>{rest}", lambda t: f"/{HOOK_API}/{t.webhook}{rest}", roles, method, **more)


def message(start: str, place: str, rest: str, roles: frozenset[str], method: str = "GET", **more: Any) -> Door:
    """A page of, or an endpoint about, a message on its way to the organization's webhook."""
    route = f"{start}/deliveries/{place}{rest}"
    return thing(route, lambda t: f"/{start}/deliveries/{t.delivery}{rest}", roles, method, **more)


HOOK_DOORS = [
    page(HOOKS, WEBHOOKS_READ),
    page(f"{HOOKS}/new", WEBHOOKS_WRITE),
    page(f"{HOOKS}/new", WEBHOOKS_WRITE, "POST", data={**HOOK, "form_token": str(uuid4())}),
    page(f"{HOOKS}/secret", WEBHOOKS_WRITE),
    page(f"{HOOKS}/secret", WEBHOOKS_WRITE, "POST"),
    page(f"{HOOKS}/deliveries", WEBHOOKS_READ),
    hook_page("", WEBHOOKS_READ),
    hook_page("/edit"),
    hook_page("/edit", method="POST", data=HOOK, opened=(302,)),
    hook_page("/state"),
    hook_page("/state", method="POST", data={"enabled": "1"}, opened=(302,)),
    hook_page("/rotate"),
    hook_page("/rotate", method="POST", data={"seen": ""}, opened=(422,)),
    hook_page("/delete"),
    hook_page("/delete", method="POST", opened=(302,)),
    hook_page("/test", method="POST", opened=(302,)),
    hook_page("/recover", method="POST", opened=(302,)),
    message(HOOKS, "<uuid:delivery_id>", "", WEBHOOKS_READ),
    message(HOOKS, "<uuid:delivery_id>", "/replay", WEBHOOKS_WRITE, "POST", opened=(302,)),
    page(HOOK_API, WEBHOOKS_READ),
    page(HOOK_API, WEBHOOKS_WRITE, "POST", data=HOOK, json=True, opened=(201,)),
    page(f"{HOOK_API}/secret/reveal", WEBHOOKS_WRITE, "POST", json=True),
    page(f"{HOOK_API}/secret/rotate", WEBHOOKS_WRITE, "POST", json=True),
    page(f"{HOOK_API}/deliveries", WEBHOOKS_READ),
    message(HOOK_API, "<delivery_id>", "", WEBHOOKS_READ),
    message(HOOK_API, "<delivery_id>", "/replay", WEBHOOKS_WRITE, "POST", json=True),
    hook_api("", WEBHOOKS_READ),
    hook_api("", method="PATCH", data={"description": "x"}, json=True),
    hook_api("", method="DELETE", opened=(204,)),
    hook_api("/rotate-secret", method="POST", json=True),
    hook_api("/test", method="POST", json=True, opened=(202,)),
    hook_api("/recover", method="POST", json=True),
    hook_api("/deliveries", WEBHOOKS_READ),
]

DOORS = [
    # Console
    page("", MEMBERS),
    page("workspace", MEMBERS, "POST", data={"workspace": "@personal"}, opened=(302,)),
    page("settings/account", MEMBERS),
    page("settings/account", MEMBERS, "POST", data={"name": "x"}, opened=(302,)),
    page("manage-api-keys", KEYS_READ),
    page("manage-api-keys/new", KEYS_WRITE),
    page("manage-api-keys/new", KEYS_WRITE, "POST", data={"name": "new", "form_token": str(uuid4())}),
    thing(KEY_PAGE, lambda t: f"/manage-api-keys/{t.key}", KEYS_WRITE),
    thing(KEY_PAGE, lambda t: f"/manage-api-keys/{t.key}", KEYS_WRITE, "POST", data={"name": "x"}, opened=(302,)),
    thing(f"{KEY_PAGE}/state", lambda t: f"/manage-api-keys/{t.key}/state", KEYS_WRITE),
    thing(f"{KEY_PAGE}/state", lambda t: f"/manage-api-keys/{t.key}/state", KEYS_WRITE, "POST", opened=(302,)),
    thing(f"{KEY_PAGE}/delete", lambda t: f"/manage-api-keys/{t.key}/delete", KEYS_WRITE),
    thing(f"{KEY_PAGE}/delete", lambda t: f"/manage-api-keys/{t.key}/delete", KEYS_WRITE, "POST", opened=(302,)),
    thing(
        f"{KEY_PAGE}/take-over", lambda t: f"/manage-api-keys/{t.orphan}/take-over", KEYS_WRITE, "POST", opened=(302,)
    ),
    page("settings/account/activity", MEMBERS),
    # Organizations
    page(ORG, MEMBERS),
    org_page(ORG, ORG_WRITE, "POST", data={"name": "Renamed"}, opened=(302,)),
    page(f"{ORG}/new", MEMBERS),
    page(f"{ORG}/new", MEMBERS, "POST", data={"name": "New", "form_token": str(uuid4())}, opened=(302,)),
    page(f"{ORG}/second-factor", MEMBERS, opened=(302,)),
    org_page(f"{ORG}/members", MEMBERS),
    thing(MEMBER_PAGE, lambda t: f"/{ORG}/members/{t.member}", MEMBERS_WRITE),
    thing(
        MEMBER_PAGE,
        lambda t: f"/{ORG}/members/{t.member}",
        MEMBERS_WRITE,
        "POST",
        data={"role": BILLING},
        opened=(302,),
    ),
    thing(f"{MEMBER_PAGE}/remove", lambda t: f"/{ORG}/members/{t.member}/remove", MEMBERS_WRITE),
    thing(f"{MEMBER_PAGE}/remove", lambda t: f"/{ORG}/members/{t.member}/remove", MEMBERS_WRITE, "POST", opened=(302,)),
    org_page(f"{ORG}/leave", MEMBERS),
    org_page(f"{ORG}/leave", MEMBERS, "POST", opened=(302, 422)),
    org_page(
        f"{ORG}/invitations",
        MEMBERS_WRITE,
        "POST",
        data={"email": "next@people.example", "role": VIEWER},
        opened=(302,),
    ),
    thing(
        f"{INVITATION_PAGE}/resend",
        lambda t: f"/{ORG}/invitations/{t.invitation}/resend",
        MEMBERS_WRITE,
        "POST",
        opened=(302,),
    ),
    thing(
        f"{INVITATION_PAGE}/revoke",
        lambda t: f"/{ORG}/invitations/{t.invitation}/revoke",
        MEMBERS_WRITE,
        "POST",
        opened=(302,),
    ),
    org_page(f"{ORG}/audit", AUDIT_READ),
    org_page(f"{ORG}/audit.csv", AUDIT_READ),
    org_page(f"{ORG}/danger", OWNERS),
    org_page(f"{ORG}/transfer", OWNERS, "POST", data={"member": "@member"}, opened=(302,)),
    org_page(f"{ORG}/delete", OWNERS, "POST", data={"name": "Acme"}, opened=(302,)),
    # Jobs
    page("playground", KEYS_WRITE),
    page("playground/key", KEYS_WRITE, "POST", opened=(201,)),
    page("storage", STORAGE_READ),
    page("storage/upload", STORAGE_WRITE, "POST", data={"kind": ""}, opened=(422,)),
    thing(FILE, lambda t: f"/storage/{t.key}/delete", STORAGE_WRITE),
    thing(FILE, lambda t: f"/storage/{t.key}/delete", STORAGE_WRITE, "POST", opened=(302,)),
    page("jobs", USAGE_READ),
    thing("jobs/<uuid:job_id>", lambda t: f"/jobs/{t.job}", USAGE_READ),
    thing("jobs/<uuid:job_id>/row", lambda t: f"/jobs/{t.job}/row", USAGE_READ),
    thing("jobs/<uuid:job_id>/cancel", lambda t: f"/jobs/{t.job}/cancel", JOBS_WRITE),
    thing("jobs/<uuid:job_id>/cancel", lambda t: f"/jobs/{t.job}/cancel", JOBS_WRITE, "POST", opened=(302,)),
    # Usage
    page("usage", USAGE_READ),
    page("usage/requests", USAGE_READ),
    thing("usage/requests/<uuid:row_id>", lambda t: f"/usage/requests/{t.call}", USAGE_READ),
    # Billing
    page("billing", BILLING_READ),
    page("billing/topups", BILLING_WRITE, "POST", data={"amount": "nonsense"}, opened=(422,)),
    page("billing/topups.csv", BILLING_READ),
    page("billing/auto-topup", BILLING_READ),
    page("billing/auto-topup/change", BILLING_WRITE, "POST", data={"below": "x"}, opened=(422,)),
    page("billing/card/remove", BILLING_WRITE, opened=(302,)),
    page("billing/card/remove", BILLING_WRITE, "POST", opened=(302,)),
    page("billing/portal", BILLING_WRITE, "POST", opened=(302,)),
    thing(f"{TOPUP_PAGE}/return", lambda t: f"/billing/topups/{t.topup}/return", BILLING_READ),
    thing(f"{TOPUP_PAGE}/state", lambda t: f"/billing/topups/{t.topup}/state", BILLING_READ),
    page("billing/statements", BILLING_READ),
    *(
        page(f"billing/statements/<str:month>{end}", BILLING_READ, path=f"/billing/statements/{THIS_MONTH}{end}")
        for end in ("", ".csv", ".pdf", "/calls.csv")
    ),
    page("billing/limits", BILLING_READ),
    page("billing/limits", BILLING_WRITE, "POST", data={"workspace": "5", "low_balance": "1"}, opened=(302,)),
    page("billing/profile", BILLING_READ),
    page("billing/profile", BILLING_WRITE, "POST", data={"legal_name": "Acme Ltd"}, opened=(302,)),
    page("billing/voucher", BILLING_WRITE),
    page("billing/voucher", BILLING_WRITE, "POST", data={"code": ""}, opened=(422,)),
    # Management API
    page("api/me", MEMBERS),
    # For operators of the installation, whom no role makes one
    page("status/targets", frozenset(), opened=()),
    page("api/status/targets", frozenset(), opened=()),
    page("api/api-keys", KEYS_READ),
    page("api/api-keys", KEYS_WRITE, "POST", data={"name": "new"}, json=True, opened=(201,)),
    thing("api/api-keys/<key_id>", lambda t: f"/api/api-keys/{t.key}", KEYS_READ),
    thing(
        "api/api-keys/<key_id>", lambda t: f"/api/api-keys/{t.key}", KEYS_WRITE, "PATCH", data={"name": "x"}, json=True
    ),
    thing("api/api-keys/<key_id>", lambda t: f"/api/api-keys/{t.key}", KEYS_WRITE, "DELETE", opened=(204,)),
    page("api/billing", BILLING_READ),
    page("api/billing/topups", BILLING_READ),
    page("api/billing/topups", BILLING_WRITE, "POST", data={"credits": 1}, json=True, opened=(400,)),
    thing("api/billing/topups/<topup_id>", lambda t: f"/api/billing/topups/{t.topup}", BILLING_READ),
    page(
        "api/billing/auto-topup",
        BILLING_WRITE,
        "PUT",
        data={"enabled": False, "belowCredits": 1, "amountCredits": 1, "monthlyCapCredits": 1},
        json=True,
        opened=(400,),
    ),
    page("api/billing/card", BILLING_WRITE, "DELETE", opened=(204,)),
    page("api/billing/portal", BILLING_WRITE, "POST", json=True, opened=(404,)),
    page("api/limits", BILLING_READ),
    page("api/limits", BILLING_WRITE, "PUT", data={"lowBalance": 5}, json=True),
    page("api/api-usage", USAGE_READ),
    page("api/api-usage/export", USAGE_READ),
    page("api/billing/statements/<month>", BILLING_READ, path=f"/api/billing/statements/{THIS_MONTH}"),
    page("api/billing/profile", BILLING_READ),
    page("api/billing/profile", BILLING_WRITE, "PATCH", data={"taxId": "x"}, json=True),
    page("api/vouchers/redeem", BILLING_WRITE, "POST", data={"code": "none"}, json=True, opened=(404,)),
    page("api/orgs", MEMBERS),
    page("api/orgs", MEMBERS, "POST", data={"name": "New"}, json=True, opened=(201,)),
    thing(ORG_API, lambda t: f"/api/orgs/{t.organization}", MEMBERS),
    thing(ORG_API, lambda t: f"/api/orgs/{t.organization}", ORG_WRITE, "PATCH", data={"name": "Renamed"}, json=True),
    thing(
        ORG_API,
        lambda t: f"/api/orgs/{t.organization}",
        OWNERS,
        "DELETE",
        data={"name": "Acme"},
        json=True,
        opened=(204,),
    ),
    thing(
        f"{ORG_API}/transfer",
        lambda t: f"/api/orgs/{t.organization}/transfer",
        OWNERS,
        "POST",
        data={"memberId": "@member"},
        json=True,
    ),
    thing(f"{ORG_API}/members", lambda t: f"/api/orgs/{t.organization}/members", MEMBERS),
    thing(
        f"{ORG_API}/members/<member_id>",
        lambda t: f"/api/orgs/{t.organization}/members/{t.member}",
        MEMBERS_WRITE,
        "PATCH",
        data={"role": BILLING},
        json=True,
    ),
    thing(
        f"{ORG_API}/members/<member_id>",
        lambda t: f"/api/orgs/{t.organization}/members/{t.member}",
        MEMBERS_WRITE,
        "DELETE",
        opened=(204,),
    ),
    thing(f"{ORG_API}/invitations", lambda t: f"/api/orgs/{t.organization}/invitations", MEMBERS),
    thing(
        f"{ORG_API}/invitations",
        lambda t: f"/api/orgs/{t.organization}/invitations",
        MEMBERS_WRITE,
        "POST",
        data={"email": "next@people.example", "role": VIEWER},
        json=True,
        opened=(201,),
    ),
    thing(
        f"{ORG_API}/invitations/<invitation_id>/resend",
        lambda t: f"/api/orgs/{t.organization}/invitations/{t.invitation}/resend",
        MEMBERS_WRITE,
        "POST",
        json=True,
    ),
    thing(
        f"{ORG_API}/invitations/<invitation_id>",
        lambda t: f"/api/orgs/{t.organization}/invitations/{t.invitation}",
        MEMBERS_WRITE,
        "DELETE",
        opened=(204,),
    ),
    thing(f"{ORG_API}/audit-log", lambda t: f"/api/orgs/{t.organization}/audit-log", AUDIT_READ),
    thing(f"{ORG_API}/audit-log/export", lambda t: f"/api/orgs/{t.organization}/audit-log/export", AUDIT_READ),
    # GPU
    page("infra", USAGE_READ),
    page("infra/deployments", USAGE_READ),
    page("infra/deployments/new", GPU_WRITE),
    page(
        "infra/deployments/new",
        GPU_WRITE,
        "POST",
        data={"step": "0", "name": "Mine", "slug": "mine", "docker_image": "hypereal/sample"},
    ),
    thing(DEPLOYMENT, lambda t: f"/infra/deployments/{t.deployment}", USAGE_READ),
    thing(f"{DEPLOYMENT}/state", lambda t: f"/infra/deployments/{t.deployment}/state", USAGE_READ),
    thing(f"{DEPLOYMENT}/edit", lambda t: f"/infra/deployments/{t.deployment}/edit", GPU_WRITE),
    thing(
        f"{DEPLOYMENT}/edit",
        lambda t: f"/infra/deployments/{t.deployment}/edit",
        GPU_WRITE,
        "POST",
        data={"name": "Renamed"},
        opened=(422,),
    ),
    thing(f"{DEPLOYMENT}/delete", lambda t: f"/infra/deployments/{t.deployment}/delete", GPU_WRITE),
    thing(
        f"{DEPLOYMENT}/delete", lambda t: f"/infra/deployments/{t.deployment}/delete", GPU_WRITE, "POST", opened=(302,)
    ),
    # A hosted model that is not there; `tests.infra.test_trying` has one that is.
    Door(TRY, "GET", KEYS_WRITE, lambda t: "/gpu-recommend/none/try", opened=(404,)),
    Door(TRY, "POST", KEYS_WRITE, lambda t: "/gpu-recommend/none/try", opened=(404,)),
    *SSO_DOORS,
    *HOOK_DOORS,
    # One's own account: any signed-in person, about themselves
    page("accounts/email/", MEMBERS),
    page("accounts/password/change/", MEMBERS),
    page("accounts/password/set/", MEMBERS, opened=(302,)),
    page("accounts/reauthenticate/", MEMBERS),
    page("accounts/2fa/", MEMBERS),
    page("accounts/2fa/reauthenticate/", MEMBERS, opened=(302,)),
    page("accounts/2fa/totp/activate/", MEMBERS, opened=(302,)),
    page("accounts/2fa/totp/deactivate/", MEMBERS, "POST", opened=(302, 404)),
    page("accounts/2fa/recovery-codes/", MEMBERS, opened=(302, 404)),
    page("accounts/2fa/recovery-codes/generate/", MEMBERS, opened=(302,)),
    page("accounts/2fa/recovery-codes/download/", MEMBERS, opened=(302, 404)),
    page("accounts/2fa/webauthn/", MEMBERS),
    page("accounts/2fa/webauthn/add/", MEMBERS, opened=(302,)),
    page("accounts/2fa/webauthn/reauthenticate/", MEMBERS, opened=(200, 302)),
    page("accounts/sessions/", MEMBERS),
]

#: Doors for everybody, and why. Their own tests hold what they give away.
PUBLIC = {
    "api/orgs/roles": "what each role may do is no secret",
    "invitations/<str:token>": "the secret link in a mail; tests.console hold whom it lets in",
    "accounts/login/": "sign-in",
    "accounts/logout/": "signs out whoever is in",
    "accounts/inactive/": "says that an account is deactivated",
    "accounts/signup/": "sign-up",
    "accounts/confirm-email/": "says that a mail is on its way",
    r"accounts/^confirm-email/(?P<key>[-:\w]+)/$": "the signed link in a mail",
    "accounts/password/reset/": "asks for a mail",
    "accounts/password/reset/done/": "says that a mail is on its way",
    "accounts/password/reset/key/done/": "says that the password is set",
    r"accounts/^password/reset/key/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>.+)/$": "the signed link in a mail",
    "accounts/login/code/confirm/": "second step of a sign-in that a session carries",
    "accounts/2fa/authenticate/": "second step of a sign-in that a session carries",
    "accounts/2fa/webauthn/login/": "sign-in by passkey",
    "api/auth/sso/<str:provider_id>": "the answer of an identity provider, which proves itself",
    "api/auth/sso/<str:provider_id>/login": "the way to an identity provider",
    "api/auth/sso/<str:provider_id>/logout": "the way back from a provider's sign-out; signs nobody in or out",
    "api/auth/sso/<str:provider_id>/finish": "the end of a sign-in that a cookie and a token carry",
    "api/auth/sso/<str:provider_id>/metadata": "what is registered at an identity provider",
    "api/openapi.json": "the API's description",
    "api/": "nothing is there",
    "language": "the language of pages",
    "models": "the price list",
    "gpu-recommend": "the price list of hosted models",
    "files/<str:token>/<str:filename>": "the signed address of a file; tests.storage hold what it opens",
    "healthz": "for load balancers",
    "status": "for people",
    "billing/webhooks/stripe": "signed by Stripe",
    "scim/v2/^ServiceProviderConfig/?$": "bears a token of provisioning",
    "scim/v2/^ResourceTypes/?$": "bears a token of provisioning",
    "scim/v2/^ResourceTypes/(?P<key>[^/]+)/?$": "bears a token of provisioning",
    "scim/v2/^Schemas/?$": "bears a token of provisioning",
    "scim/v2/^Schemas/(?P<key>[^/]+)/?$": "bears a token of provisioning",
    "scim/v2/^Users/?$": "bears a token of provisioning",
    r"scim/v2/^Users/\.search/?$": "bears a token of provisioning",
    "scim/v2/^Users/(?P<key>[^/]+)/?$": "bears a token of provisioning",
    "scim/v2/^Groups/?$": "bears a token of provisioning",
    r"scim/v2/^Groups/\.search/?$": "bears a token of provisioning",
    "scim/v2/^Groups/(?P<key>[^/]+)/?$": "bears a token of provisioning",
    r"scim/v2/^\.search/?$": "bears a token of provisioning",
    "scim/v2/^(?P<path>.*)$": "nothing is there",
}
#: Doors that are tried in `tests.accounts`, since they need a session or a passkey of one's own.
ELSEWHERE = {
    "accounts/sessions/<int:session_id>/end/",
    "accounts/2fa/webauthn/keys/<int:pk>/remove/",
    "accounts/2fa/webauthn/keys/<int:pk>/edit/",
    # In `tests.sso.test_scim_tokens`: they name a token of a connection.
    "settings/organization/sso/<str:provider_id>/provisioning",
    "settings/organization/sso/<str:provider_id>/provisioning/<uuid:token_id>/revoke",
    "api/orgs/<org_id>/sso/<provider_id>/scim-tokens",
    "api/orgs/<org_id>/sso/<provider_id>/scim-tokens/<token_id>",
}


#: Whose tables a refused request must leave alone.
OWN_APPS = frozenset(
    (
        "accounts",
        "billing",
        "catalog",
        "events",
        "idempotency",
        "infra",
        "jobs",
        "keys",
        "media",
        "orgs",
        "sso",
        "statements",
        "storage",
        "usage",
        "vouchers",
        "webhooks",
    )
)


# ── The table is complete ────────────────────────────────────────────────────────────────────────────────────────────
def routes(resolver: URLResolver | None = None, before: str = "") -> Iterator[str]:
    for pattern in (resolver or get_resolver()).url_patterns:
        route = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from routes(pattern, route)
        else:
            assert isinstance(pattern, URLPattern)
            yield route


def test_every_url_stands_in_the_table() -> None:
    known = {door.route for door in DOORS} | set(PUBLIC) | ELSEWHERE
    found = {route for route in routes() if not route.startswith("admin/")}
    assert found - known == set(), "say in DOORS who may use these"
    assert known - found == set(), "these URLs are gone"


# ── The table is true ────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def company() -> cast.Cast:
    cache.clear()
    return cast.assemble()


@pytest.fixture
def things(company: cast.Cast) -> Things:
    workspace = company.organization
    key = factories.api_key(workspace, created_by=company[OWNER]).key
    a_file(workspace.pk, key.pk)
    topup = TopUp.objects.create(
        wallet_id=workspace.pk, amount_cents=1_000, credits_microcredits=10**9, state=TopUp.State.EXPIRED
    )
    call = factories.call(workspace, key_id=key.pk, charged_microcredits=0)  # the ledger knows of no charge, either
    somebody = factories.member(workspace, VIEWER)
    member = Membership.objects.get(workspace=workspace, user=somebody)
    invitation = Invitation.objects.create(
        workspace=workspace,
        email="invited@people.example",
        role=VIEWER,
        token_hash=b"x" * 32,
        invited_by=company[OWNER],
        expires_at=clock.now() + timedelta(days=1),
        sent_at=clock.now() - timedelta(days=1),
    )
    orphan = factories.api_key(workspace, created_by=factories.user("gone@people.example"), name="orphan").key
    rows = (key, topup, call, member, invitation, orphan, workspace)
    elsewhere = factories.organization("Elsewhere")  # holds the domain: nothing is looked up to prove it
    OrgDomain.objects.create(workspace=elsewhere, domain="acme.example", verified_at=clock.now())
    domain = OrgDomain.objects.create(workspace=workspace, domain="acme.example")
    connection = SsoConnection.objects.create(workspace=workspace, kind=SsoConnection.Kind.OIDC, name="Draft")
    job = factories.running_job(workspace, key)
    webhook = Endpoint.objects.create(workspace=workspace, **WEBHOOK)
    delivery = a_delivery(webhook)
    return Things(
        *[
            *(str(row.pk) for row in rows),
            str(domain.pk),
            connection.provider_id,
            str(job.pk),
            str(webhook.pk),
            str(delivery.pk),
            str(a_deployment(workspace.pk).pk),
        ]
    )


def a_deployment(workspace_id: Any) -> Deployment:
    values = {"docker_image": "hypereal/sample", "gpu_types": ["ADA_24"], "max_seconds": 60, "engine": "local"}
    return Deployment.objects.create(workspace_id=workspace_id, slug="painter", name="Painter", **values)


WEBHOOK = {"url": "https://1.1.1.1/", "events": ["job.failed"], "sealed_secret": secrets.encrypt(signing.new_secret())}


def a_delivery(webhook: Endpoint, pk: str = "") -> Delivery:
    """A message that waits on its way to ``webhook``."""
    message = Outbox.objects.create(workspace_id=webhook.workspace_id, event="job.failed", fanned_out_at=clock.now())
    chosen = {"pk": pk} if pk else {}
    return Delivery.objects.create(
        message=message, endpoint=webhook, workspace_id=webhook.workspace_id, place=webhook.pk, **chosen
    )


def a_file(workspace_id: Any, pk: Any) -> None:
    """A stored file under the id of a key: no two tables share a name."""
    given = {"kind": "file", "source": "upload", "filename": "x", "size_bytes": 1, "stored_at": clock.now()}
    StoredObject.objects.get_or_create(pk=pk, defaults={"workspace_id": workspace_id, "place": f"00/{pk}", **given})


def restore(things: Things) -> None:
    """Undo what one role's knock did to what the next one knocks at."""
    ApiKey.objects.filter(pk=things.key).update(deleted_at=None)
    Deployment.objects.filter(pk=things.deployment).update(state=Deployment.State.READY)
    gone = User.objects.get(email="gone@people.example")
    ApiKey.objects.filter(pk=things.orphan).update(created_by=gone)
    long_ago = clock.now() - timedelta(days=1)
    Invitation.objects.filter(pk=things.invitation).update(revoked_at=None, sent_at=long_ago)
    a_file(things.organization, things.key)
    OrgDomain.objects.get_or_create(
        pk=things.domain, defaults={"workspace_id": things.organization, "domain": "acme.example"}
    )
    SsoConnection.objects.get_or_create(
        provider_id=things.connection, defaults={"workspace_id": things.organization, "kind": "oidc"}
    )
    Membership.objects.get_or_create(
        pk=things.member,
        defaults={"workspace_id": things.organization, "user": factories.user(), "role": VIEWER},
    )
    webhook, made = Endpoint.objects.get_or_create(
        pk=things.webhook, defaults={"workspace_id": things.organization, **WEBHOOK}
    )
    if made:
        a_delivery(webhook, things.delivery)


def knock(client: Client, door: Door, things: Things, personal: str = "") -> Any:
    known = {"@personal": personal, "@member": things.member}
    data: Any = {
        name: known.get(value, value) if isinstance(value, str) else value for name, value in door.data.items()
    }
    send = getattr(client, door.method.lower())
    if door.json:
        return send(door.path(things), data, content_type="application/json")
    return send(door.path(things), data) if door.method in ("GET", "POST") else send(door.path(things))


def everything() -> str:
    """A digest of every row of the product's own tables; sessions and migrations aside."""
    digest = hashlib.sha256()
    with connection.cursor() as cursor:
        for table in sorted(connection.introspection.table_names(cursor)):
            if table.partition("_")[0] in OWN_APPS:
                rows = "string_agg(t::text, chr(10) ORDER BY t::text)"
                cursor.execute(f"SELECT md5(coalesce({rows}, '')) FROM {table} t")
                digest.update(f"{table} {cursor.fetchone()}".encode())
    return digest.hexdigest()


def name_of(door: Door) -> str:
    return f"{door.method} /{door.route}"


@pytest.mark.parametrize("door", DOORS, ids=name_of)
def test_a_door_opens_for_its_roles_alone(door: Door, company: cast.Cast, things: Things) -> None:
    for who in cast.ROLES:
        if who not in door.roles:
            client, before = company.client(who), everything()
            answer = knock(client, door, things)
            assert answer.status_code == 403, f"{who} got {answer.status_code}"
            assert everything() == before, f"refused {who}, and yet something changed"
    for who in sorted(door.roles):  # afterwards, since deleting really deletes
        restore(things)
        personal = str(company[who].personal_workspace.pk)
        answer = knock(company.client(who), fresh(door), things, personal)
        assert answer.status_code in door.opened, f"{who} got {answer.status_code}"


def fresh(door: Door) -> Door:
    """The same form filled in anew: a token counts once."""
    if "form_token" not in door.data:
        return door
    return Door(**{**vars(door), "data": {**door.data, "form_token": str(uuid4())}})


@pytest.mark.parametrize("door", DOORS, ids=name_of)
def test_nobody_gets_in_without_signing_in(door: Door, company: cast.Cast, things: Things) -> None:
    if door.route == "":
        pytest.skip("strangers see the landing page there")
    before = everything()
    answer = knock(Client(), door, things)
    if door.is_api:
        assert answer.status_code == 401
        assert answer.json()["error"]["type"] == "authentication_error"
    else:
        assert answer.status_code == 302
        assert answer["Location"].startswith(("/accounts/login/", "/accounts/reauthenticate/"))
    assert everything() == before


@pytest.mark.parametrize("door", [door for door in DOORS if not door.own], ids=name_of)
def test_what_belongs_to_others_is_not_there(door: Door, company: cast.Cast, things: Things) -> None:
    client, before = company.client("stranger"), everything()
    foreign = knock(client, door, things)
    made_up = Things.invented()
    invented = knock(client, door, made_up)
    assert foreign.status_code == invented.status_code == 404
    assert without_ids(foreign, things) == without_ids(invented, made_up)
    assert everything() == before


def without_ids(answer: Any, things: Things) -> str:
    text = answer.content.decode()
    for name in vars(things).values():
        text = text.replace(name, "id")
    return re.sub(r'(csrfmiddlewaretoken" value|hx-headers)=[\'"][^>]*', "", text)


@pytest.mark.parametrize("door", [door for door in DOORS if door.organizations_only], ids=name_of)
def test_personal_workspaces_have_no_such_page(door: Door, company: cast.Cast, things: Things) -> None:
    client, before = company.client("stranger"), everything()
    assert knock(client, door, things).status_code == 404
    assert everything() == before


OWN_PAGES = [d for d in DOORS if d.own and d.method == "GET" and d.opened == (200,) and not d.organizations_only]


@pytest.mark.parametrize("door", OWN_PAGES, ids=name_of)
def test_a_stranger_s_pages_show_nothing_of_the_organization(door: Door, company: cast.Cast, things: Things) -> None:
    answer = knock(company.client("stranger"), door, things)
    assert answer.status_code == 200
    text, key = text_of(answer), ApiKey.objects.get(pk=things.key)
    for secret in (company.organization.name, company.organization.slug, key.prefix, *vars(things).values()):
        assert secret not in text


def text_of(answer: Any) -> str:
    if not answer.streaming:
        return str(answer.content.decode(errors="replace"))  # a PDF is no text

    async def parts() -> bytes:
        return b"".join([part async for part in answer])

    return async_to_sync(parts)().decode()


@pytest.mark.parametrize("door", [door for door in DOORS if door.method != "GET"], ids=name_of)
def test_writes_carry_a_csrf_token(door: Door, company: cast.Cast, things: Things) -> None:
    client, before = company.client(OWNER, enforce_csrf_checks=True), everything()
    answer = knock(client, door, things)
    assert answer.status_code == 403
    assert everything() == before


def test_the_admin_is_for_operators_alone(company: cast.Cast) -> None:
    for who in ("stranger", *cast.ROLES):
        for path in ("/admin/", "/admin/accounts/user/", "/admin/keys/apikey/", "/admin/billing/wallet/", "/admin/x/"):
            answer = company.client(who).get(path, follow=True)
            assert answer.status_code in (403, 404), f"{who} {path}"
    assert Client().get("/admin/accounts/user/", follow=True).redirect_chain[-1][0].startswith("/accounts/login/")

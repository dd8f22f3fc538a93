"""Two people save the same form in the same instant: one is saved, the other is told, whoever was first."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import Model
from pytest_django import Settings

from billing.models import AutoTopUp, Wallet
from core import ids, secrets
from infra import rates
from infra.models import Deployment
from keys.models import ApiKey
from orgs.models import Membership, Workspace
from sso import connections
from sso.models import OrgDomain, SsoConnection
from statements import profiles
from tests import cast, factories
from tests.fakes import stripe
from tests.sso.company import domain
from tests.webhooks.conftest import endpoint
from webhooks import rules as webhook_rules
from webhooks.models import Endpoint

pytestmark = pytest.mark.usefixtures("committed")

TOLD = "Somebody changed this"
ORGANIZATION = "/settings/organization"


@dataclass(frozen=True)
class Case:
    """A form: where it stands and goes to, the row that whoever saves it holds, what two people change in it, and
    whether the wish of either stands.
    """

    page: str
    path: str
    held: Model
    shown: Mapping[str, Any]
    wishes: tuple[Mapping[str, Any], Mapping[str, Any]]
    stands: Callable[[], tuple[bool, bool]]
    #: Which of the forms on the page.
    number: int = 0


@pytest.fixture
def company() -> Iterator[cast.Cast]:
    made = cast.assemble()
    yield made
    # What sweeps would look at in other tests.
    for model in (Deployment, OrgDomain, SsoConnection, Endpoint):
        model._default_manager.filter(workspace=made.organization).delete()


def key(company: cast.Cast) -> Case:
    row = factories.api_key(company.organization, created_by=company["developer"]).key
    path = f"/manage-api-keys/{row.pk}"

    def stands() -> tuple[bool, bool]:
        now = ApiKey.objects.get(pk=row.pk)
        return now.name == "Ours", now.allowed_networks == ["192.0.2.0/24"]

    wishes = {"name": "Ours"}, {"allowed_networks": "192.0.2.0/24"}
    return Case(path, path, row, {"name": row.name}, wishes, stands)


def organization(company: cast.Cast) -> Case:
    row = company.organization

    def stands() -> tuple[bool, bool]:
        now = Workspace.objects.get(pk=row.pk)
        return now.name == "Ours", now.require_second_factor

    wishes = {"name": "Ours"}, {"require_second_factor": "on"}
    return Case(ORGANIZATION, ORGANIZATION, row, {"name": row.name}, wishes, stands)


def member(company: cast.Cast) -> Case:
    row = Membership.objects.get(workspace=company.organization, user=company["developer"])
    path = f"{ORGANIZATION}/members/{row.pk}"

    def stands() -> tuple[bool, bool]:
        now = Membership.objects.get(pk=row.pk).role
        return now == "viewer", now == "admin"

    return Case(path, path, company.organization, {}, ({"role": "viewer"}, {"role": "admin"}), stands)


def profile(company: cast.Cast) -> Case:
    def stands() -> tuple[bool, bool]:
        now = profiles.newest(company.organization.pk)
        return now.legal_name == "Acme GmbH", now.tax_id == "DE1"

    wishes = {"legal_name": "Acme GmbH"}, {"tax_id": "DE1"}
    return Case("/billing/profile", "/billing/profile", company.organization, {}, wishes, stands)


def automatic_top_up(company: cast.Cast) -> Case:
    def stands() -> tuple[bool, bool]:
        now = AutoTopUp.objects.get(pk=company.organization.pk)
        return now.amount_cents == 2_500, now.monthly_cap_cents == 7_500

    return Case(
        "/billing/auto-topup",
        "/billing/auto-topup/change",
        Wallet.objects.get(pk=company.organization.pk),
        {"below": "500", "amount": "20", "cap": "100"},
        ({"amount": "25"}, {"cap": "75"}),
        stands,
    )


def webhook(company: cast.Cast) -> Case:
    row = endpoint(company.organization, "https://hooks.example/one", "job.failed").endpoint
    path = f"/settings/webhooks/{row.pk}/edit"

    def stands() -> tuple[bool, bool]:
        now = Endpoint.objects.get(pk=row.pk)
        return now.description == "ours", "balance.low" in now.events

    shown = {"url": row.url, "description": "", "events": ["job.failed"]}
    wishes = {"description": "ours"}, {"events": ["job.failed", "balance.low"]}
    return Case(path, path, row, shown, wishes, stands)


def deployment(company: cast.Cast) -> Case:
    shown = {
        "name": "Painter", "docker_image": "acme/painter:1", "gpu_types": ["ADA_24"], "min_workers": 0,
        "max_workers": 3, "idle_timeout_seconds": 5, "max_seconds": 60,
    }  # fmt: skip
    row = Deployment.objects.create(workspace=company.organization, slug="painter", engine="local", **shown)
    path = f"/infra/deployments/{row.pk}/edit"

    def stands() -> tuple[bool, bool]:
        now = Deployment.objects.get(pk=row.pk)
        return now.name == "Ours", now.max_workers == 1

    return Case(path, path, row, shown, ({"name": "Ours"}, {"max_workers": 1}), stands)


def a_connection(company: cast.Cast) -> SsoConnection:
    return SsoConnection.objects.create(
        workspace=company.organization,
        kind=SsoConnection.Kind.OIDC,
        issuer="https://idp.example",
        client_id="gateway",
        client_secret_sealed=secrets.encrypt("secret"),
    )


def provider(company: cast.Cast) -> Case:
    row = a_connection(company)
    path = f"{ORGANIZATION}/sso/{row.provider_id}"

    def stands() -> tuple[bool, bool]:
        now = SsoConnection.objects.get(pk=row.pk)
        return now.name == "Ours", now.client_id == "other"

    shown = {"issuer": row.issuer, "client_id": row.client_id}
    return Case(path, path, row, shown, ({"name": "Ours"}, {"client_id": "other"}), stands)


def roles(company: cast.Cast) -> Case:
    row = a_connection(company)
    page = f"{ORGANIZATION}/sso/{row.provider_id}"

    def stands() -> tuple[bool, bool]:
        now = SsoConnection.objects.get(pk=row.pk)
        return now.default_role == "developer", now.role_claim == "groups"

    wishes = {"default_role": "developer"}, {"role_claim": "groups"}
    return Case(page, f"{page}/roles", row, {"default_role": row.default_role}, wishes, stands, number=1)


def route(company: cast.Cast) -> Case:
    row = domain(company.organization, f"{ids.uuid7().hex}.example")
    first, second = a_connection(company), a_connection(company)

    def stands() -> tuple[bool, bool]:
        now = OrgDomain.objects.get(pk=row.pk).connection
        return now == first, now == second

    wishes = {"connection": first.provider_id}, {"connection": second.provider_id}
    return Case(f"{ORGANIZATION}/domains", f"{ORGANIZATION}/domains/{row.pk}/route", row, {}, wishes, stands)


def waiting() -> int:
    """How many connections to this database wait for a lock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return int(cursor.fetchone()[0])


@pytest.mark.parametrize(
    "made",
    [key, organization, member, profile, automatic_top_up, webhook, deployment, provider, roles, route],
    ids=lambda made: made.__name__,
)
def test_one_is_saved_and_the_other_is_told(
    made: Callable[[cast.Cast], Case], company: cast.Cast, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.STRIPE_SECRET_KEY = stripe.KEY
    monkeypatch.setattr(rates, "table", lambda: [rates.GpuPrice("ADA_24", 1, 1)])
    monkeypatch.setattr(webhook_rules, "url", lambda text: text)  # no name of this test is looked up
    monkeypatch.setattr(connections, "refresh", lambda row: None)
    case, browsers = made(company), [company.client("owner") for _ in range(2)]
    seen = browsers[0].get(case.page).content.decode().split('name="seen" value="')[case.number + 1].split('"')[0]

    def save(number: int) -> str:
        try:
            form = {**case.shown, **case.wishes[number], "seen": seen}
            return browsers[number].post(case.path, form, follow=True).content.decode()
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        with transaction.atomic():
            type(case.held)._default_manager.select_for_update(no_key=True).get(pk=case.held.pk)
            saving = [pool.submit(save, number) for number in range(2)]
            until = time.monotonic() + 120
            while waiting() < 2:  # both have come as far as they can
                assert not any(each.done() for each in saving), "saved without the row"
                assert time.monotonic() < until
                time.sleep(0.02)
        pages = [each.result() for each in saving]
        told = [TOLD in page for page in pages]
    assert sorted(told) == [False, True], pages
    assert case.stands() == (not told[0], not told[1])

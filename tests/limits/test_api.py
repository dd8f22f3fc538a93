"""``/api/limits`` over HTTP: the page's rules, for scripts."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from billing.models import SpendMeter
from core import clock, money
from events.models import AuditEvent
from limits import setting
from limits.models import LowBalance, SpendingLimit
from orgs.models import Membership
from tests import cast

pytestmark = pytest.mark.django_db

URL = "/api/limits"
CREDIT = money.MICROCREDITS_PER_CREDIT


@pytest.fixture
def company() -> cast.Cast:
    return cast.assemble()


@pytest.fixture
def client(company: cast.Cast) -> Client:
    return company.client("billing")


@pytest.fixture
def developer(company: cast.Cast) -> Membership:
    return Membership.objects.get(workspace=company.organization, user=company["developer"])


def put(client: Client, body: Any, **headers: str) -> Any:
    return client.put(URL, body, content_type="application/json", headers=headers)


def test_limits_are_set_shown_and_taken_away(client: Client, company: cast.Cast, developer: Membership) -> None:
    body = {
        "spendingLimit": 500,
        "lowBalance": 20.5,
        "members": [{"memberId": str(developer.pk), "spendingLimit": 12.5}],
    }
    SpendMeter.objects.create(
        scope="member",
        scope_id=developer.pk,
        month=clock.month_of(clock.now()),
        spent_microcredits=5 * CREDIT,
        held_microcredits=250_000,
    )
    answer = put(client, body)
    assert answer.status_code == 200
    told = answer.json()
    assert told == client.get(URL).json()
    assert (told["organizationId"], told["spendingLimit"], told["lowBalance"]) == (
        str(company.organization.pk),
        500,
        20.5,
    )
    [row] = [row for row in told["members"] if row["memberId"] == str(developer.pk)]
    assert row == {
        "memberId": str(developer.pk),
        "userId": str(developer.user_id),
        "email": developer.user.email,
        "name": developer.user.name,
        "spendingLimit": 12.5,
        "spent": 5,
        "held": 0.25,
    }
    assert len(told["members"]) == 5
    assert setting.uses(company.organization)[developer.pk].limit == 12_500_000
    assert AuditEvent.objects.filter(workspace_id=company.organization.pk, action="limit.set").count() == 2
    gone = {
        "spendingLimit": None,
        "lowBalance": None,
        "members": [{"memberId": str(developer.pk), "spendingLimit": None}],
    }
    assert put(client, gone).json()["spendingLimit"] is None
    assert SpendingLimit.objects.count() == LowBalance.objects.count() == 0


def test_what_is_left_out_stays_and_what_is_so_already_is_not_recorded(client: Client, company: cast.Cast) -> None:
    put(client, {"spendingLimit": 500, "lowBalance": 20})
    rows = AuditEvent.objects.count()
    assert put(client, {"lowBalance": 20}).json()["spendingLimit"] == 500
    assert put(client, {}).json()["lowBalance"] == 20
    assert AuditEvent.objects.count() == rows
    assert put(client, {"lowBalance": 30}).json()["spendingLimit"] == 500
    assert AuditEvent.objects.count() == rows + 1


WRONG: dict[str, tuple[Any, str]] = {
    "zero": ({"spendingLimit": 0}, "spendingLimit"),
    "negative": ({"lowBalance": -1}, "lowBalance"),
    "seven decimals": ({"spendingLimit": 0.0000001}, "spendingLimit"),
    "text": ({"spendingLimit": "much"}, "spendingLimit"),
    "true": ({"spendingLimit": True}, "spendingLimit"),
    "far too much": ({"spendingLimit": 10**12}, "spendingLimit"),
    "misspelt": ({"spendinglimit": 5}, "spendinglimit"),
    "no member": ({"members": [{"memberId": str(uuid4()), "spendingLimit": 1}]}, "members.0.memberId"),
    "no amount": ({"members": [{"memberId": str(uuid4())}]}, "members.0.spendingLimit"),
    "no list": ({"members": 5}, "members"),
}


@pytest.mark.parametrize(("body", "param"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named_and_changes_nothing(client: Client, body: Any, param: str) -> None:
    body = {"lowBalance": 7, "spendingLimit": 7, **body}
    answer = put(client, body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert SpendingLimit.objects.count() == LowBalance.objects.count() == 0


def test_a_member_named_twice_and_one_of_somebody_else(client: Client, developer: Membership) -> None:
    foreign = Membership.objects.filter(workspace=cast.assemble().organization).first()
    assert foreign is not None
    one = {"memberId": str(developer.pk), "spendingLimit": 5}
    for second in (one, {**one, "memberId": str(foreign.pk)}):
        answer = put(client, {"members": [one, second]})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "members.1.memberId")
    assert SpendingLimit.objects.count() == 0


def test_a_personal_workspace_has_a_warning_only(company: cast.Cast) -> None:
    client = company.client("stranger")
    assert put(client, {"lowBalance": 5}).json() | {"month": ""} == {
        "organizationId": None, "month": "", "spendingLimit": None, "spent": 0, "held": 0, "lowBalance": 5,
        "members": [],
    }  # fmt: skip
    answer = put(client, {"spendingLimit": 5})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "spendingLimit")


@pytest.mark.parametrize("who", ["developer", "viewer"])
def test_who_may_not_write(company: cast.Cast, who: str) -> None:
    assert put(company.client(who), {"lowBalance": 5}).status_code == 403
    assert not LowBalance.objects.exists()


def test_another_organization_is_not_there(client: Client) -> None:
    other = cast.assemble().organization
    answer = client.put(f"{URL}?organizationId={other.pk}", {"lowBalance": 5}, content_type="application/json")
    assert answer.status_code == 404
    assert client.get(f"{URL}?organizationId={other.pk}").status_code == 404
    assert not LowBalance.objects.exists()


def test_it_asks_who_is_there(client: Client) -> None:
    session = client.session
    session.pop("account_authentication_methods")
    session.save()
    answer = put(client, {"lowBalance": 5})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "reauthentication_required")
    assert client.get(URL).status_code == 200


def test_the_same_request_again_gets_the_same_answer(client: Client) -> None:
    name = {"Idempotency-Key": "limits-of-june"}
    first = put(client, {"lowBalance": 5}, **name)
    put(client, {"lowBalance": 9})
    again = put(client, {"lowBalance": 5}, **name)
    assert (again.status_code, again.content, again["Idempotency-Replayed"]) == (200, first.content, "true")
    assert LowBalance.objects.get().below_microcredits == 9 * CREDIT
    answer = put(client, {"lowBalance": 6}, **name)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "idempotency_key_reused")


def test_it_is_in_the_api_s_description(client: Client) -> None:
    paths = client.get("/api/openapi.json").json()["paths"]
    assert set(paths["/api/limits"]) == {"get", "put"}

"""What happens in the product is told: in its transaction, to whom it concerns, without secrets."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import transaction

from billing import reversals, topups
from billing.models import SpendMeter, Wallet
from core import clock, money
from events import audit
from events.models import Outbox
from keys import issuing
from limits import setting, watch
from orgs import members
from orgs.members import Source
from orgs.models import Workspace
from orgs.permissions import Role
from sso import connections
from tests import factories
from tests.billing.conftest import fake, stripe  # noqa: F401  (fixtures)
from tests.billing.support import start
from tests.fakes.stripe import FakeStripe
from tests.support.money import Payer, new_payer
from tests.webhooks.test_docs import examples

pytestmark = pytest.mark.django_db

CREDIT = money.MICROCREDITS_PER_CREDIT


@pytest.fixture
def payer(db: None) -> Payer:
    return new_payer()


def told(workspace: Workspace, event: str) -> list[dict[str, Any]]:
    """The data of each message of that kind, as a receiver gets it."""
    rows = Outbox.objects.filter(workspace_id=workspace.pk, event=event).order_by("id")
    for row in rows:
        assert row.data.keys() == examples()[event]["data"].keys(), "docs/webhooks.md shows other members"
    return [row.data for row in rows]


def test_a_limit_tells_at_80_and_at_100_percent_and_so_does_the_key_that_stops(workspace: Workspace) -> None:
    key = factories.api_key(workspace, spending_limit_microcredits=100 * CREDIT, auto_disable=True).key
    month = clock.month_of(clock.now())
    meter = SpendMeter.objects.create(
        scope="key", scope_id=key.pk, month=month, spent_microcredits=85 * CREDIT, held_microcredits=0
    )
    watch.watch()
    watch.watch()
    [almost] = told(workspace, "limit.reached_80")
    assert almost == {
        "scope": "key", "id": str(key.pk), "name": "prod", "month": f"{month:%Y-%m}", "spentCredits": 85,
        "limitCredits": 100, "keyDisabled": False,
    }  # fmt: skip
    meter.spent_microcredits = 100 * CREDIT
    meter.save()
    watch.watch()
    [full] = told(workspace, "limit.reached_100")
    assert (full["keyDisabled"], full["spentCredits"]) == (True, 100)
    [stopped] = told(workspace, "key.disabled")
    assert stopped == {"keyId": str(key.pk), "name": "prod", "prefix": key.prefix, "reason": "spending_limit"}


def test_a_low_balance_tells_once(workspace: Workspace) -> None:
    setting.set_low_balance(workspace, 50 * CREDIT, actor=audit.SYSTEM)
    assert Wallet.objects.get(pk=workspace.pk).balance_microcredits == 0
    watch.watch()
    watch.watch()
    assert told(workspace, "balance.low") == [{"balanceCredits": 0, "belowCredits": 50}]


def test_a_key_disabled_by_hand_tells_and_an_enabled_one_does_not(workspace: Workspace) -> None:
    issued = factories.api_key(workspace)
    issuing.change(issued.key, actor=audit.SYSTEM, enabled=False)
    issuing.change(issued.key, actor=audit.SYSTEM, enabled=True)
    [data] = told(workspace, "key.disabled")
    assert data["reason"] == "by_hand"
    assert issued.secret not in json.dumps(data)


def test_members_coming_going_and_changing_tell(workspace: Workspace) -> None:
    owner = factories.member(workspace, Role.OWNER)
    person = factories.user()
    by = audit.Actor(owner.pk, owner.email)
    members.add_member(workspace, person, Role.VIEWER, by, Source.MEMBER)
    members.change_role(workspace, person, Role.DEVELOPER, by, Source.MEMBER)
    key = factories.api_key(workspace, created_by=person).key
    members.remove_member(workspace, person, by, Source.MEMBER)
    who = {"userId": str(person.pk), "email": person.email, "name": person.display_name}
    assert told(workspace, "member.joined") == [{**who, "role": "viewer"}]
    assert told(workspace, "member.role_changed") == [{**who, "before": "viewer", "role": "developer"}]
    assert told(workspace, "member.left") == [{**who, "role": "developer"}]
    [stopped] = told(workspace, "key.disabled")
    assert (stopped["keyId"], stopped["reason"]) == (str(key.pk), "member_left")


def test_what_is_rolled_back_tells_nothing(workspace: Workspace) -> None:
    person = factories.user()
    with pytest.raises(RuntimeError), transaction.atomic():
        members.add_member(workspace, person, Role.VIEWER, audit.SYSTEM, Source.OPERATOR)
        raise RuntimeError
    assert told(workspace, "member.joined") == []


def test_single_sign_on_tells_of_each_change_and_of_no_secret(workspace: Workspace) -> None:
    made = connections.create(workspace, "oidc", {"client_id": "a", "client_secret": "hush-hush"}, by=audit.SYSTEM)
    connections.change(made, {"name": "Okta"}, by=audit.SYSTEM)
    connections.change(made, {"name": "Okta"}, by=audit.SYSTEM)
    provider_id = made.provider_id
    connections.delete(made, by=audit.SYSTEM)
    data = told(workspace, "sso.connection_changed")
    assert [each["change"] for each in data] == ["created", "changed", "deleted"]
    assert {each["connectionId"] for each in data} == {provider_id}
    assert data[1]["name"] == "Okta"
    assert "hush" not in json.dumps(data)


def test_a_top_up_and_its_refund_tell_once(
    stripe: FakeStripe,  # noqa: F811
    payer: Payer,
) -> None:
    topup = start(payer, 2_500)
    stripe.pay(topup)
    topup = topups.reconcile(topup)
    topups.reconcile(topup)
    [arrived] = told(payer.workspace, "topup.completed")
    assert arrived == {
        "topupId": str(topup.pk), "source": "checkout", "amountCents": 2_500, "currency": "usd", "credits": 2_500,
    }  # fmt: skip
    made = reversals.refund(topup, 1_000, "too much", audit.SYSTEM)
    assert made.stripe_id
    reversals.follow_refund(made.stripe_id)
    [back] = told(payer.workspace, "refund.completed")
    assert back == {
        "refundId": str(made.pk), "topupId": str(topup.pk), "amountCents": 1_000, "currency": "usd", "credits": 1_000,
    }  # fmt: skip

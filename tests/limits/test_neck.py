"""Limits of members and of organizations, at the neck that every paid call passes."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest

from billing.models import Hold, SpendMeter
from core import clock, errors, ids
from events import audit
from events.models import AuditEvent
from keys.models import ApiKey
from limits import setting
from limits.models import SpendingLimit
from orgs.models import Membership
from orgs.permissions import Role
from tests import factories
from tests.support.money import Payer, new_payer
from usage import verify
from usage.items import Admitted, Extended, Refused
from usage.metering import apply_now
from usage.sweep import sweep

pytestmark = pytest.mark.django_db


def member(balance: int = 1000, organization: Payer | None = None) -> Payer:
    """A developer of an organization, with a key of theirs."""
    workspace = organization.workspace if organization else factories.organization()
    user = factories.member(workspace, Role.DEVELOPER)
    key = ApiKey.objects.create(
        workspace=workspace, created_by=user, name="test", secret_hash=os.urandom(32), prefix="ck_test…test"
    )
    payer = Payer(user, workspace, key)
    if organization is None:
        payer.give(balance)
    return payer


def membership(payer: Payer) -> Membership:
    return Membership.objects.get(workspace=payer.workspace, user=payer.user)


def limit_member(payer: Payer, amount: int | None) -> None:
    setting.set_member(membership(payer), amount, actor=audit.SYSTEM)


def limit_all(payer: Payer, amount: int | None) -> None:
    setting.set_workspace(payer.workspace, amount, actor=audit.SYSTEM)


def used(payer: Payer) -> dict[str, tuple[int, int]]:
    """Spent and held by the scopes that this payer's calls count on."""
    scopes = {payer.key.pk, payer.workspace.pk, membership(payer).pk}
    meters = SpendMeter.objects.filter(scope_id__in=scopes)
    return {meter.scope: (meter.spent_microcredits, meter.held_microcredits) for meter in meters}


def refusal(result: object) -> errors.ProductError:
    assert isinstance(result, Refused)
    return result.error()


def test_a_call_counts_for_its_key_its_member_and_its_organization() -> None:
    one = member()
    other = member(organization=one)
    admit = one.admit(60)
    apply_now(admit)
    assert used(one) == {"key": (0, 60), "member": (0, 60), "workspace": (0, 60)}
    apply_now(one.settle(admit, 40))
    second = other.admit(10)
    apply_now(second)
    apply_now(other.void(second))
    assert used(one) == {"key": (40, 0), "member": (40, 0), "workspace": (40, 0)}
    assert used(other) == {"key": (0, 0), "member": (0, 0), "workspace": (40, 0)}
    assert verify.verify().findings == ()


def test_a_personal_call_counts_for_its_key_alone() -> None:
    payer = new_payer(100)
    apply_now(payer.admit(10))
    assert list(SpendMeter.objects.filter(scope_id=payer.workspace.pk)) == []
    assert Hold.objects.get(wallet_id=payer.workspace.pk).meter_ids is None


@pytest.mark.parametrize(("who", "words"), [("member", "Your monthly"), ("organization", "Your organization's")])
def test_what_runs_beside_counts(who: str, words: str) -> None:
    payer = member()
    (limit_member if who == "member" else limit_all)(payer, 100)
    assert isinstance(apply_now(payer.admit(60)), Admitted)
    error = refusal(apply_now(payer.admit(60)))
    assert (error.status, error.type) == (402, "spending_limit_exceeded")
    assert error.message.startswith(words)
    expected = {"limit_of": who, "spending_limit_credits": 0.0001, "spent_credits": 0, "held_credits": 0.00006}
    assert error.extra == expected
    assert isinstance(apply_now(payer.admit(40)), Admitted)
    assert payer.books().held == 100
    assert verify.verify().findings == ()


def test_a_members_limit_binds_that_member_alone() -> None:
    one = member()
    other = member(organization=one)
    limit_member(one, 0)
    assert refusal(apply_now(one.admit(1))).type == "spending_limit_exceeded"
    assert isinstance(apply_now(other.admit(1)), Admitted)


def test_a_stream_may_not_grow_over_any_of_the_limits() -> None:
    payer = member()
    limit_all(payer, 100)
    admit = payer.admit(60)
    apply_now(admit)
    assert apply_now(payer.extend(admit, 100)) == Extended(True)
    assert apply_now(payer.extend(admit, 101)) == Extended(False)
    limit_all(payer, 200)
    assert apply_now(payer.extend(admit, 150)) == Extended(True)
    assert used(payer)["member"] == (0, 150)


def test_a_call_is_charged_to_the_month_of_its_hold() -> None:
    payer = member()
    now = clock.now()
    earlier = (now.replace(day=1) - timedelta(days=1)).replace(hour=12)
    admit = payer.admit(60, hold_id=ids.first_at(earlier))
    apply_now(admit, now=earlier)
    limit_all(payer, 60)
    assert isinstance(apply_now(payer.admit(60), now=now), Admitted)
    apply_now(payer.settle(admit, 30), now=now)
    months = {
        meter.month: (meter.spent_microcredits, meter.held_microcredits)
        for meter in SpendMeter.objects.filter(scope_id=payer.workspace.pk)
    }
    assert months == {clock.month_of(earlier): (30, 0), clock.month_of(now): (0, 60)}
    assert verify.verify().findings == ()


def test_what_was_swept_and_served_all_the_same_counts() -> None:
    payer = member()
    admit = payer.admit(60, owner_id=ids.uuid7())
    now = clock.now()
    apply_now(admit, now=now)
    for seconds in range(0, 200, 5):
        sweep(now + timedelta(seconds=seconds))
    assert used(payer)["workspace"] == (0, 0)
    assert apply_now(payer.settle(admit, 50)).late  # type: ignore[union-attr]
    assert used(payer) == {"key": (50, 0), "member": (50, 0), "workspace": (50, 0)}
    assert verify.verify().findings == ()


def test_the_refusal_that_reaches_a_limit_is_noted_once() -> None:
    payer = member()
    limit_member(payer, 50)
    running = payer.admit(40)
    apply_now(running)
    refusal(apply_now(payer.admit(20)))
    meter = SpendMeter.objects.get(scope_id=membership(payer).pk)
    assert meter.reached_at is None, "something is in flight: it may yet give back"
    apply_now(payer.void(running))
    refusal(apply_now(payer.admit(60)))
    meter.refresh_from_db()
    first = meter.reached_at
    assert first is not None
    refusal(apply_now(payer.admit(60)))
    meter.refresh_from_db()
    assert (meter.reached_at, meter.spent_microcredits, meter.held_microcredits) == (first, 0, 0)


def test_limits_are_of_organizations_and_not_absurd() -> None:
    payer = member()
    personal = payer.user.personal_workspace
    with pytest.raises(errors.InvalidRequest):
        setting.set_workspace(personal, 5, actor=audit.SYSTEM)
    for amount in (-1, setting.MOST_MICROCREDITS + 1):
        with pytest.raises(errors.InvalidRequest):
            limit_all(payer, amount)
    assert SpendingLimit.objects.count() == 0


def test_setting_is_recorded_and_taking_away_too() -> None:
    payer = member()
    limit_all(payer, 100)
    limit_all(payer, 100)
    limit_all(payer, None)
    rows = AuditEvent.objects.filter(action="limit.set").order_by("id")
    assert [row.details for row in rows] == [
        {"from_credits": None, "to_credits": "0.0001"},
        {"from_credits": "0.0001", "to_credits": None},
    ]
    assert setting.uses(payer.workspace)[payer.workspace.pk].limit is None


def test_a_person_without_a_membership_has_no_key_that_works() -> None:
    payer = member()
    membership(payer).delete()
    assert refusal(apply_now(payer.admit(1))).status == 401
    assert payer.books().held == 0

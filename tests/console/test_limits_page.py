"""The page of limits: what is set, what is used, and what a wrong amount changes (nothing)."""

from __future__ import annotations

import pytest

from billing.models import SpendMeter
from core import clock, money
from limits import setting
from limits.models import LowBalance, SpendingLimit
from orgs.models import Membership
from tests.cast import Cast, assemble

pytestmark = pytest.mark.django_db


@pytest.fixture
def cast() -> Cast:
    return assemble()


CREDIT = money.MICROCREDITS_PER_CREDIT


def test_limits_are_set_shown_and_taken_away(cast: Cast) -> None:
    client = cast.client("owner")
    developer = Membership.objects.get(workspace=cast.organization, user=cast["developer"])
    name = f"member-{developer.pk}"
    sent = {"workspace": "500", name: "12.5", "low_balance": "20"}
    assert client.post("/billing/limits", sent).status_code == 302
    uses = setting.uses(cast.organization)
    assert uses[cast.organization.pk].limit == 500 * CREDIT
    assert uses[developer.pk].limit == 12_500_000
    assert LowBalance.objects.get(pk=cast.organization.pk).below_microcredits == 20 * CREDIT
    SpendMeter.objects.create(
        scope="member",
        scope_id=developer.pk,
        month=clock.month_of(clock.now()),
        spent_microcredits=5 * CREDIT,
        held_microcredits=0,
    )
    page = client.get("/billing/limits").content.decode()
    assert 'value="12.5"' in page
    assert client.post("/billing/limits", {}).status_code == 302
    assert SpendingLimit.objects.count() == LowBalance.objects.count() == 0


@pytest.mark.parametrize("wrong", ["0", "-1", "abc", "1e400", "0.0000001"])
def test_a_wrong_amount_is_named_and_changes_nothing(cast: Cast, wrong: str) -> None:
    client = cast.client("billing")
    answer = client.post("/billing/limits", {"workspace": wrong, "low_balance": "20"})
    assert answer.status_code == 422
    assert 'id="id_workspace' in answer.content.decode()
    assert SpendingLimit.objects.count() == LowBalance.objects.count() == 0


def test_a_viewer_sees_but_has_no_form(cast: Cast) -> None:
    page = cast.client("viewer").get("/billing/limits").content.decode()
    assert "<input class" not in page
    assert 'type="submit"' not in page.split("<main")[1].split("</main>")[0]

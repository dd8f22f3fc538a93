"""The page of limits: what is set, what is used, and what a wrong amount changes (nothing)."""

from __future__ import annotations

import re

import pytest

from billing.models import SpendMeter
from core import clock, money
from events import audit
from limits import setting
from limits.models import LowBalance, SpendingLimit
from orgs.models import Membership
from tests import factories
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
    assert client.post("/billing/limits", {"workspace": "", name: "", "low_balance": ""}).status_code == 302
    assert SpendingLimit.objects.count() == LowBalance.objects.count() == 0


def sent_by(page: str) -> dict[str, str]:
    """What a browser would send of the form on the page as it was loaded."""
    form = page.split('action="/billing/limits"')[1].split("</form>")[0]
    inputs = [dict(re.findall(r'(name|value)="([^"]*)"', tag)) for tag in re.findall(r"<input[^>]*>", form)]
    return {one["name"]: one.get("value", "") for one in inputs if one["name"] != "csrfmiddlewaretoken"}


def test_two_people_at_once_undo_nothing_of_each_other(cast: Cast) -> None:
    one, other = cast.client("owner"), cast.client("billing")
    rows = Membership.objects.filter(workspace=cast.organization)
    developer, viewer = rows.get(user=cast["developer"]), rows.get(user=cast["viewer"])
    setting.set_workspace(cast.organization, 500 * CREDIT, actor=audit.SYSTEM)
    old = sent_by(other.get("/billing/limits").content.decode())
    assert old["workspace"] == old["was-workspace"] == "500"
    new = rows.get(user=factories.member(cast.organization, "developer"))
    assert one.post("/billing/limits", {"workspace": "50", f"member-{developer.pk}": "5"}).status_code == 302
    setting.set_member(new, 7 * CREDIT, actor=audit.SYSTEM)
    wrong = other.post("/billing/limits", {**old, f"member-{viewer.pk}": "x"})
    assert sent_by(wrong.content.decode())["was-workspace"] == "500", "a wrong form still knows what it showed"
    assert other.post("/billing/limits", {**old, f"member-{viewer.pk}": "3"}).status_code == 302
    uses = setting.uses(cast.organization)
    limits = [uses[row].limit for row in (cast.organization.pk, developer.pk, viewer.pk, new.pk)]
    assert limits == [50 * CREDIT, 5 * CREDIT, 3 * CREDIT, 7 * CREDIT]
    assert other.post("/billing/limits", {**old, "workspace": ""}).status_code == 302
    assert setting.uses(cast.organization)[cast.organization.pk].limit is None


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

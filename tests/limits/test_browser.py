"""The page of limits in a real browser: sound in every window, set by somebody who pays, wrong amounts named."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from playwright.sync_api import expect

from accounts import reauth
from accounts.models import User
from billing.models import SpendMeter
from core import clock, money
from events import audit
from limits import setting
from orgs import access
from orgs.models import Workspace
from orgs.permissions import Role
from tests import factories
from tests.look.conftest import Visit, Visitor, browser, person, server, site, visit  # noqa: F401  (fixtures)

pytestmark = pytest.mark.browser

CREDIT = money.MICROCREDITS_PER_CREDIT
WINDOWS = pytest.mark.parametrize(
    "window", [{}, {"dark": True}, {"phone": True}, {"phone": True, "dark": True}],
    ids=["light", "dark", "phone", "phone-dark"],
)  # fmt: skip


@pytest.fixture
def company(person: User) -> Workspace:  # noqa: F811
    """An organization that has nearly spent its month, one member whose month is over, and one without a limit."""
    workspace = factories.organization("Kites & Daughters")
    rows = [factories.member(workspace, role) for role in (Role.DEVELOPER, Role.VIEWER)]
    factories.member(workspace, Role.OWNER, person)
    first = workspace.memberships.get(user=rows[0])
    setting.set_workspace(workspace, 1_000 * CREDIT, actor=audit.SYSTEM)
    setting.set_member(first, 250 * CREDIT, actor=audit.SYSTEM)
    setting.set_low_balance(workspace, 50 * CREDIT, actor=audit.SYSTEM)
    for scope, scope_id, spent in (("workspace", workspace.pk, 870), ("member", first.pk, 250)):
        SpendMeter.objects.create(
            scope=scope,
            scope_id=scope_id,
            month=clock.month_of(clock.now()),
            spent_microcredits=spent * CREDIT,
            held_microcredits=12 * CREDIT,
        )
    return workspace


def opened(visit: Visit, who: User, workspace: Workspace, **window: bool) -> Visitor:  # noqa: F811
    """Signed in and at work in the organization, on the page."""
    visitor = visit(who, **window)
    name = django_settings.SESSION_COOKIE_NAME
    [key] = [cookie["value"] for cookie in visitor.page.context.cookies() if cookie["name"] == name]
    session = import_module(django_settings.SESSION_ENGINE).SessionStore(key)
    session[access.SESSION_KEY] = str(workspace.pk)
    session.save()
    visitor.go("/billing/limits")
    return visitor


@WINDOWS
def test_the_page_is_sound(visit: Visit, person: User, company: Workspace, window: dict[str, bool]) -> None:  # noqa: F811
    visitor = opened(visit, person, company, **window)
    if folder := os.environ.get("SCREENSHOTS"):
        visitor.page.screenshot(path=Path(folder, f"limits-{'-'.join(window) or 'light'}.png"), full_page=True)
    visitor.assert_sound()


def test_limits_are_set_with_a_double_click(
    visit: Visit,  # noqa: F811
    person: User,  # noqa: F811
    company: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reauth, "is_recent", lambda request: True)
    page = opened(visit, person, company).page
    page.get_by_label("Monthly limit (optional)", exact=True).fill("nonsense")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_label("Monthly limit (optional)", exact=True)).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Monthly limit (optional)", exact=True).fill("1500")
    page.get_by_role("button", name="Save").dblclick()
    expect(page.get_by_text("Saved.")).to_have_count(1)
    assert setting.uses(company)[company.pk].limit == 1_500 * CREDIT

"""An organization as its people live through it: founded, joined by mail, worked in by every role, left and ended."""

from __future__ import annotations

import re
from typing import Any

import openai
import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from playwright.sync_api import Page, expect

from accounts.models import User
from core import ids
from events.models import AuditEvent
from keys.models import ApiKey
from orgs.models import Membership, Workspace
from tests import cast, factories
from tests.journeys.installation import Installation
from tests.look.conftest import PASSWORD, Visit, Visitor
from tests.support.gateway import wait_for

pytestmark = pytest.mark.browser

OWNER, ADMIN, DEVELOPER, BILLING, VIEWER = cast.ROLES
HOME = "/settings/organization"
WINDOWS: dict[str, dict[str, Any]] = {"light": {}, "dark": {"dark": True}, "390px": {"phone": True}}
#: What each role's side bar and tabs lead to, and what is closed to it.
PAGES = {
    OWNER: ("/", "/manage-api-keys", "/usage", "/billing", HOME, f"{HOME}/members", f"{HOME}/audit", f"{HOME}/danger"),
    ADMIN: ("/", "/manage-api-keys", "/usage", "/billing", HOME, f"{HOME}/members", f"{HOME}/audit"),
    DEVELOPER: ("/", "/manage-api-keys", "/usage", HOME, f"{HOME}/members"),
    BILLING: ("/", "/usage", "/billing", HOME, f"{HOME}/members", f"{HOME}/audit"),
    VIEWER: ("/", "/manage-api-keys", "/usage", "/billing", HOME, f"{HOME}/members", f"{HOME}/audit"),
}
CLOSED = {
    ADMIN: (f"{HOME}/danger",),
    DEVELOPER: ("/billing", f"{HOME}/audit", f"{HOME}/danger"),
    BILLING: ("/manage-api-keys", f"{HOME}/danger"),
    VIEWER: ("/manage-api-keys/new", f"{HOME}/danger"),
}


def person(name: str) -> User:
    return factories.user(f"{name.lower()}.{ids.uuid7().hex[-8:]}@example.com", name=name, password=PASSWORD)


def furnished() -> tuple[Workspace, dict[str, User]]:
    """An organization with a member of every role, a key, and one whose maker left."""
    workspace = factories.organization("Kites & Daughters, Makers of Paper Kites since 1887")
    people = {role: factories.member(workspace, role, person(role.title())) for role in cast.ROLES}
    factories.api_key(workspace, created_by=people[DEVELOPER])
    factories.api_key(workspace, created_by=person("Gone"), name="left-behind")
    return workspace, people


def enter(visitor: Visitor, workspace: Workspace) -> None:
    """Switch in the header."""
    visitor.go("/")
    visitor.page.locator("[popovertarget=workspace-menu]").click()
    visitor.page.locator("#workspace-menu").get_by_role("button", name=workspace.name).click()
    expect(visitor.page.locator("[popovertarget=workspace-menu]")).to_contain_text(workspace.name)


@pytest.mark.parametrize("role", cast.ROLES)
def test_the_pages_of_every_role_are_sound(visit: Visit, installation: Installation, role: str) -> None:
    """The owner sees each page in every window; the others share the windows among their pages."""
    workspace, people = furnished()
    for number, options in enumerate(WINDOWS.values()):
        visitor = visit(people[role], **options)
        enter(visitor, workspace)
        for path in PAGES[role] if role == OWNER else PAGES[role][number :: len(WINDOWS)]:
            answer = visitor.page.goto(visitor.site + path)
            assert answer is not None
            assert answer.status == 200, path
            visitor.page.wait_for_load_state("networkidle")
            visitor.assert_sound()
    for path in CLOSED.get(role, ()):
        answer = visitor.page.goto(visitor.site + path)
        assert answer is not None
        assert answer.status == 403, path


def test_founded_joined_worked_in_and_ended(visit: Visit, installation: Installation) -> None:
    sana = person("Sana")
    hasher = PBKDF2PasswordHasher()  # the installation knows nothing of the tests' cheap hashes
    sana.password = hasher.encode(PASSWORD, hasher.salt())
    sana.save(update_fields=["password"])
    owner = visit(sana)
    workspace = _found(owner)
    address = f"dev.{ids.uuid7().hex[-8:]}@example.com"
    _invite(owner, address)
    developer = visit()
    _join(developer, installation, address)
    secret = _make_a_key(developer)
    _top_up(owner)
    with openai.OpenAI(api_key=secret, base_url=f"{installation.url}/api/v1", max_retries=0, timeout=90) as client:
        answer = client.chat.completions.create(model="gpt-5.5", messages=[{"role": "user", "content": "Hello"}])
        assert answer.choices[0].message.content
    _remove(owner, workspace, developer)
    wait_for(lambda: _is_refused(installation, secret))  # as soon as the gateway has heard of it
    _take_over(owner)
    _read_the_trail(owner, address)
    _end(owner, workspace)
    assert workspace.name not in owner.page.locator("#workspace-menu").inner_text()
    assert secret not in installation.log("hypereal_site.serve")


def _is_refused(installation: Installation, secret: str) -> bool:
    with openai.OpenAI(api_key=secret, base_url=f"{installation.url}/api/v1", max_retries=0, timeout=90) as client:
        try:
            client.chat.completions.create(model="gpt-5.5", messages=[{"role": "user", "content": "Hello"}])
        except openai.AuthenticationError:
            return True
    return False


def _found(visitor: Visitor) -> Workspace:
    page = visitor.page
    visitor.go("/")
    page.get_by_role("navigation", name="Primary").get_by_role("link", name="Organization").click()
    expect(page.get_by_text("Work with others")).to_be_visible()
    visitor.assert_sound()
    page.get_by_role("main").get_by_role("link", name="Create an organization").click()
    visitor.assert_sound()
    name = f"Kites {ids.uuid7().hex[-6:]}"
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Create").dblclick()
    expect(page.get_by_text(f"“{name}” is ready")).to_be_visible()
    visitor.assert_sound()
    return Workspace.objects.get(name=name)


def _invite(visitor: Visitor, address: str) -> None:
    page = visitor.page
    page.get_by_label("E-mail address").fill(address)
    page.get_by_label("Role", exact=True).select_option(label="Developer")
    page.get_by_role("button", name="Invite").dblclick()
    expect(page.get_by_text(f"{address} is invited.")).to_be_visible()
    expect(page.get_by_role("heading", name="Open invitations")).to_be_visible()
    visitor.assert_sound()


def _join(visitor: Visitor, installation: Installation, address: str) -> None:
    page = visitor.page
    page.goto(_link(installation, address))
    expect(page.get_by_role("heading", name=re.compile("Join “Kites"))).to_be_visible()
    visitor.assert_sound()
    page.get_by_role("button", name="Make an account").click()
    expect(page.get_by_label("Email")).to_have_value(address)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("Password (again)").fill(PASSWORD)
    page.get_by_role("button", name="Make account").click()
    visitor.assert_sound()
    page.get_by_role("button", name="Join").dblclick()
    expect(page.get_by_text("Welcome to “Kites")).to_be_visible()
    assert len(installation.mails_to(address)) == 1  # the invitation proved the address


def _link(installation: Installation, address: str) -> str:
    wait_for(lambda: bool(installation.mails_to(address)))
    [mail] = installation.mails_to(address)
    text = mail.get_body(("plain",))
    assert text is not None
    found = re.search(rf"{re.escape(installation.url)}/invitations/\S+", text.get_content())
    assert found, text.get_content()
    return found[0]


def _make_a_key(visitor: Visitor) -> str:
    page = visitor.page
    _side(page, "API keys")
    page.get_by_role("link", name="Create your first key").click()
    dialog = page.get_by_role("dialog", name="Create a key")
    dialog.get_by_label("Name").fill("kite-bot")
    dialog.get_by_role("button", name="Create key").dblclick()
    secret = page.locator("#new-key-secret")
    expect(secret).to_be_visible()
    expect(page.get_by_role("navigation", name="Primary").get_by_role("link", name="Billing")).to_have_count(0)
    return secret.inner_text()


def _side(page: Page, name: str) -> None:
    page.get_by_role("navigation", name="Primary").get_by_role("link", name=name).click()


def _top_up(visitor: Visitor) -> None:
    page = visitor.page
    visitor.go("/billing")
    page.get_by_role("button", name="Continue to payment").click()
    page.get_by_role("button", name=re.compile(r"^Pay \$")).click()
    expect(page.get_by_role("heading", name="1,000 credits added")).to_be_visible()


def _remove(owner: Visitor, workspace: Workspace, developer: Visitor) -> None:
    page = owner.page
    owner.go(f"{HOME}/members")
    row = Membership.objects.get(workspace=workspace, role=DEVELOPER)
    page.locator(f"[popovertarget=member-menu-{row.pk}]").click()
    page.get_by_role("link", name="Remove").click()
    expect(page.get_by_text("kite-bot")).to_be_visible()
    owner.assert_sound()
    page.get_by_role("button", name="Remove").dblclick()
    expect(page.get_by_text("is no longer a member.")).to_be_visible()
    developer.page.reload()
    expect(developer.page).to_have_url(re.compile(r"/accounts/login/\?next=/manage-api-keys"))


def _take_over(visitor: Visitor) -> None:
    page = visitor.page
    _side(page, "API keys")
    expect(page.get_by_text("1 key has nobody who answers for it")).to_be_visible()
    visitor.assert_sound()
    page.get_by_role("button", name="Take over").click()
    expect(page.get_by_text("“kite-bot” is yours now.")).to_be_visible()
    assert ApiKey.objects.get(name="kite-bot", workspace__memberships__role=OWNER, enabled=True)


def _read_the_trail(visitor: Visitor, address: str) -> None:
    page = visitor.page
    _side(page, "Organization")
    page.get_by_role("link", name="Audit log").click()
    visitor.assert_sound()
    rows = page.locator("main tbody tr")
    expect(rows.first).to_contain_text("api_key.reassign")
    page.get_by_label("Search").fill(address)
    page.get_by_role("button", name="Show").click()
    expect(rows.first).to_contain_text("member.remove")
    visitor.assert_sound()
    page.get_by_label("Search").fill("nothing like that")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("Nothing fits")).to_be_visible()
    with page.expect_download() as download:
        visitor.page.get_by_role("link", name="Download CSV").click()
    assert download.value.path().read_text("utf-8").startswith("createdAt,actor,action,")


def _end(visitor: Visitor, workspace: Workspace) -> None:
    page = visitor.page
    page.get_by_role("link", name="Danger zone").click()
    visitor.assert_sound()
    page.get_by_label("Type the organization's name").fill(workspace.name)
    page.get_by_role("button", name="Delete for good").click()
    page.get_by_label("Password", exact=True).fill(PASSWORD)  # the session was not begun with one just now
    visitor.assert_sound()
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_text(f"“{workspace.name}” is deleted.")).to_be_visible()
    assert AuditEvent.objects.filter(workspace_id=workspace.pk, action="organization.delete").count() == 1

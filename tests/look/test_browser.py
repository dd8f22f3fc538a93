"""The look and its small scripts in a real browser, under the product's own content security policy."""

from __future__ import annotations

import re

import pytest
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value, yield_hotp_counters_from_time
from playwright.sync_api import Page, Route, expect

from accounts.models import User
from tests.look.conftest import PASSWORD, Visit

pytestmark = pytest.mark.browser

ENTRANCE = [
    "/accounts/login/",
    "/accounts/signup/",
    "/accounts/password/reset/",
    "/accounts/password/reset/done/",
    "/accounts/confirm-email/",
    "/accounts/confirm-email/no-such-key/",
    "/accounts/inactive/",
    "/",
]
ACCOUNT = [
    "/settings/account",
    "/accounts/email/",
    "/accounts/password/change/",
    "/accounts/2fa/",
    "/accounts/2fa/webauthn/",
    "/accounts/sessions/",
    "/accounts/logout/",
]


@pytest.mark.parametrize(
    "window",
    [{}, {"dark": True}, {"phone": True}, {"phone": True, "dark": True}],
    ids=["light", "dark", "phone", "phone-dark"],
)
def test_the_component_sheet_is_sound(visit: Visit, person: User, window: dict[str, bool]) -> None:
    visitor = visit(person, **window)
    visitor.go("/look/sheet")
    expect(visitor.page.locator(".js-plotly-plot")).to_have_count(2)
    visitor.assert_sound()


def test_the_component_sheet_mirrors(visit: Visit, person: User, settings: object) -> None:
    settings.LANGUAGES = [("en", "English"), ("ur", "Urdu")]  # type: ignore[attr-defined]
    visitor = visit(person, locale="ur-PK")
    visitor.go("/look/sheet")
    assert visitor.page.locator("html").get_attribute("dir") == "rtl"
    sidebar = visitor.page.locator("nav.fixed").bounding_box()
    assert sidebar is not None
    assert sidebar["x"] > 1000
    visitor.assert_sound()


def test_pages_before_sign_in_are_sound(visit: Visit) -> None:
    for window in ({}, {"phone": True, "dark": True}):
        visitor = visit(**window)
        for path in ENTRANCE:
            visitor.go(path)
            visitor.assert_sound()


def test_account_pages_are_sound(visit: Visit, person: User) -> None:
    for window in ({}, {"phone": True, "dark": True}):
        visitor = visit(person, **window)
        for path in ACCOUNT:
            visitor.go(path)
            visitor.assert_sound()


def test_a_chosen_theme_stays_and_recolours_charts(visit: Visit, person: User) -> None:
    visitor = visit(person)
    visitor.go("/look/sheet")
    page = visitor.page
    bar = page.locator(".js-plotly-plot .bars path").first
    light_bar = bar.evaluate("node => getComputedStyle(node).fill")
    page.get_by_role("switch", name="Dark mode").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(bar).not_to_have_css("fill", light_bar)
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page.get_by_role("switch", name="Dark mode")).to_have_attribute("aria-checked", "true")


def test_the_theme_stands_before_the_first_paint(visit: Visit) -> None:
    visitor = visit()
    visitor.go("/accounts/login/")
    theme_script = visitor.page.locator("head script").first
    assert "js/theme" in (theme_script.get_attribute("src") or "")
    assert theme_script.get_attribute("defer") is None
    assert theme_script.get_attribute("type") is None


def test_the_drawer_opens_and_escape_closes_it(visit: Visit, person: User) -> None:
    visitor = visit(person, phone=True)
    visitor.go("/look/sheet")
    page = visitor.page
    opener = page.get_by_role("button", name="Open navigation")
    opener.click()
    drawer = page.get_by_role("dialog", name="Navigation")
    expect(drawer).to_be_visible()
    expect(drawer.get_by_role("link", name="Overview")).to_be_visible()
    page.keyboard.press("Escape")
    expect(drawer).to_be_hidden()
    expect(opener).to_be_focused()


def test_the_first_tab_stop_skips_to_the_content(visit: Visit, person: User) -> None:
    visitor = visit(person)
    visitor.go("/look/sheet")
    visitor.page.keyboard.press("Tab")
    skip = visitor.page.get_by_role("link", name="Skip to content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.locator("main")).to_be_focused()


def test_menus_are_walked_by_arrow_keys(visit: Visit, person: User) -> None:
    visitor = visit(person)
    visitor.go("/look/sheet")
    page = visitor.page
    button = page.get_by_role("button", name="Actions for the key").first
    button.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Edit", exact=True)).to_be_visible()
    expect(button).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("link", name="Edit", exact=True)).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("button", name="Disable")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("link", name="Edit", exact=True)).to_be_hidden()
    expect(button).to_be_focused()


def test_a_menu_opens_inside_the_window(visit: Visit, person: User) -> None:
    visitor = visit(person, phone=True)
    visitor.go("/look/sheet")
    visitor.page.get_by_role("button", name="Actions for the key").last.click()
    box = visitor.page.locator("[popover]:popover-open").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    assert box["y"] + box["height"] <= 844


def test_dialogs_hold_the_focus_and_close(visit: Visit, person: User) -> None:
    visitor = visit(person)
    visitor.go("/look/sheet")
    page = visitor.page
    opener = page.get_by_role("button", name="Create key").first
    opener.click()
    dialog = page.get_by_role("dialog", name="Create key")
    expect(dialog).to_be_visible()
    assert page.evaluate("document.querySelector('#new-key').contains(document.activeElement)")
    assert visitor.barriers() == []
    page.mouse.click(5, 5)
    expect(dialog).to_be_hidden()
    expect(opener).to_be_focused()


def test_what_is_announced_over_a_dialog_is_heard_and_comes_home(visit: Visit, person: User) -> None:
    visitor = visit(person)
    visitor.go("/look/sheet")
    page = visitor.page
    page.get_by_role("button", name="Create key").first.click()
    page.evaluate("document.dispatchEvent(new CustomEvent('toast', { detail: { text: 'Not saved', tone: 'error' } }))")
    expect(page.locator("dialog[open] #toasts")).to_contain_text("Not saved")
    page.keyboard.press("Escape")
    expect(page.locator("body > #toasts")).to_be_visible()


def test_a_dialog_stays_when_a_selection_ends_beside_it(visit: Visit, person: User) -> None:
    visitor = visit(person)
    visitor.go("/look/sheet")
    page = visitor.page
    page.get_by_role("button", name="Create key").first.click()
    dialog = page.get_by_role("dialog", name="Create key")
    box = dialog.locator("input").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 40, box["y"] + 10)
    page.mouse.down()
    page.mouse.move(5, 5)
    page.mouse.up()
    expect(dialog).to_be_visible()


def test_a_copy_button_copies_and_says_so(visit: Visit, person: User) -> None:
    visitor = visit(person, permissions=["clipboard-read", "clipboard-write"])
    visitor.go("/look/sheet")
    page = visitor.page
    button = page.get_by_role("button", name="Copy", exact=True).first
    button.click()
    expect(page.get_by_role("button", name="Copied").first).to_be_visible()
    expect(page.locator("#toasts")).to_contain_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == "ck_Ww81hJk2mZ0sVtq7Yb4cRf9Xn3LdGpKdE5uA6iOo0pKd"
    expect(page.get_by_role("button", name="Copied")).to_have_count(0)


def test_tabs_follow_the_arrow_keys(visit: Visit, person: User) -> None:
    visitor = visit(person)
    visitor.go("/look/sheet")
    page = visitor.page
    page.get_by_role("tab", name="curl").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Python")).to_be_focused()
    expect(page.locator("#p-py")).to_be_visible()
    expect(page.locator("#p-curl")).to_be_hidden()


def _take_posts(page: Page) -> list[str]:
    """Collect what is posted, and answer nothing."""
    asked: list[str] = []

    def take(route: Route) -> None:
        if route.request.method == "POST":
            asked.append(route.request.url)
            route.fulfill(status=204)  # the page stays, as if the answer took for ever
        else:
            route.continue_()

    page.route("**/*", take)
    return asked


def test_a_second_click_sends_nothing(visit: Visit, person: User) -> None:
    visitor = visit(person)
    visitor.go("/look/sheet")
    page = visitor.page
    asked = _take_posts(page)
    button = page.get_by_role("button", name="Pay with card")
    state = button.evaluate("node => { node.click(); node.click(); return node.getAttribute('aria-busy'); }")
    assert state == "true"
    page.wait_for_timeout(300)
    assert len(asked) == 1


def test_a_form_is_free_again_after_the_back_button(visit: Visit, person: User) -> None:
    visitor = visit(person)
    visitor.go("/look/sheet")
    page = visitor.page
    page.evaluate(
        """() => {
            document.querySelector('form:has([name=amount])').dataset.submitting = '';
            document.querySelector('form:has([name=amount]) [type=submit]').setAttribute('aria-busy', 'true');
            dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }));
        }"""
    )
    expect(page.get_by_role("button", name="Pay with card")).not_to_have_attribute("aria-busy", "true")


def test_sign_in_asks_for_the_email_first(visit: Visit, person: User) -> None:
    visitor = visit()
    visitor.go("/accounts/login/")
    page = visitor.page
    password = page.get_by_label("Password")
    expect(password).to_be_hidden()
    page.get_by_role("button", name="Continue").click()
    expect(password).to_be_hidden()
    page.get_by_label("Email").fill(person.email)
    page.keyboard.press("Enter")
    expect(password).to_be_focused()
    password.fill("wrong")
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_role("alert")).to_be_visible()
    expect(password).to_be_visible()
    assert visitor.barriers() == []
    password.fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_role("button", name=re.compile("Account menu"))).to_be_visible()
    page.get_by_role("button", name=re.compile("Account menu")).click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("link", name="Sign in").first).to_be_visible()


def test_sign_in_works_without_scripts(visit: Visit, person: User) -> None:
    visitor = visit(java_script_enabled=False)
    visitor.page.goto(visitor.site + "/accounts/login/")
    visitor.page.get_by_label("Email").fill(person.email)
    visitor.page.get_by_role("button", name="Continue").click()
    visitor.page.get_by_label("Password").fill(PASSWORD)
    visitor.page.get_by_role("button", name="Sign in", exact=True).click()
    expect(visitor.page.get_by_role("heading", name="Overview")).to_be_visible()


def _sign_in(page: Page, site: str, person: User) -> None:
    page.goto(site + "/accounts/login/")
    page.get_by_label("Email").fill(person.email)
    page.keyboard.press("Enter")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()


def _open_guarded(page: Page, address: str) -> None:
    """Open a page of account security: the password is asked for once more."""
    page.goto(address)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Confirm").click()
    page.wait_for_url(address)


def test_a_passkey_is_added_and_signs_in(visit: Visit, person: User, site: str) -> None:
    visitor = visit()
    page = visitor.page
    host = site.replace("127.0.0.1", "localhost")  # an address of digits can't own a passkey
    devtools = page.context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    devtools.send(
        "WebAuthn.addVirtualAuthenticator",
        {
            "options": {
                "protocol": "ctap2",
                "transport": "internal",
                "hasResidentKey": True,
                "hasUserVerification": True,
                "isUserVerified": True,
                "automaticPresenceSimulation": True,
            }
        },
    )
    _sign_in(page, host, person)
    _open_guarded(page, host + "/accounts/2fa/webauthn/add/")
    assert visitor.barriers() == []
    page.get_by_label("Passwordless").check()
    page.locator("#mfa_webauthn_add").click()
    expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()
    expect(page.locator("#recovery-codes")).to_be_visible()
    assert visitor.barriers() == []
    page.goto(host + "/accounts/2fa/webauthn/")
    expect(page.get_by_text("Passkey", exact=True)).to_be_visible()
    assert visitor.barriers() == []
    page.get_by_role("button", name=re.compile("Account menu")).click()
    page.get_by_role("button", name="Sign out").click()
    page.goto(host + "/accounts/login/")
    page.get_by_role("button", name="Sign in with a passkey").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    assert visitor.said == []


def test_an_authenticator_app_is_set_up_and_asked_for(visit: Visit, person: User, site: str) -> None:
    def code(secret: str) -> str:
        return format_hotp_value(hotp_value(secret, next(iter(yield_hotp_counters_from_time()))))

    visitor = visit()
    page = visitor.page
    _sign_in(page, site, person)
    _open_guarded(page, site + "/accounts/2fa/totp/activate/")
    picture = page.get_by_role("img", name=re.compile("QR code"))
    assert picture.evaluate("node => node.complete && node.naturalWidth > 0")
    assert visitor.barriers() == []
    secret = page.locator("#totp-secret").inner_text()
    page.get_by_label("Authenticator code").fill(code(secret))
    page.get_by_role("button", name="Switch on").click()
    expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()
    recovery = page.locator("#recovery-codes").inner_text().split()
    assert len(recovery) == 10
    page.goto(site + "/accounts/2fa/totp/deactivate/")
    assert visitor.barriers() == []
    page.goto(site + "/accounts/2fa/recovery-codes/generate/")
    assert visitor.barriers() == []
    page.get_by_role("button", name=re.compile("Account menu")).click()
    page.get_by_role("button", name="Sign out").click()
    page.goto(site + "/accounts/login/")
    page.get_by_label("Email").fill(person.email)
    page.keyboard.press("Enter")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Second factor")).to_be_visible()
    assert visitor.barriers() == []
    page.get_by_label("Code").fill(recovery[0])
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    assert visitor.said == []

"""The main job as a person does it: sign up, top up, make a key, call, see and export what it cost."""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
import sys
from decimal import Decimal
from typing import Any

import openai
import pytest
from playwright.sync_api import Locator, Page, expect

from accounts.models import User
from billing.models import TopUp, Transfer
from core import ids, money
from core.templatetags import amounts
from keys.models import ApiKey
from orgs.models import Workspace
from tests.journeys.installation import Installation
from tests.look.conftest import DESKTOP, PASSWORD, PHONE, Visit, Visitor
from tests.support.gateway import wait_for
from tests.support.money import new_payer
from usage.models import RequestLog

pytestmark = pytest.mark.browser

CLIPBOARD = ["clipboard-read", "clipboard-write"]
CREDIT = money.MICROCREDITS_PER_CREDIT
MODELS = ("gpt-5.5", "glm-5")
#: The page's snippet once, each model as a whole and as a stream.
PAID_CALLS = 5


@pytest.fixture
def address() -> str:
    """An e-mail address that nobody has."""
    return f"ada.{ids.uuid7().hex[-8:]}@example.com"


def test_from_sign_up_to_the_csv(visit: Visit, installation: Installation, address: str) -> None:
    visitor = visit(permissions=CLIPBOARD)
    earlier = len(installation.log("hypereal_site.serve"))
    _sign_up(visitor, installation, address)
    workspace = User.objects.get(email=address).personal_workspace
    _top_up(visitor, installation, workspace, address)
    secret = _create_key(visitor, workspace)
    _run_the_snippet(visitor, secret)
    _call(installation, secret, workspace)
    charged = _ledger(workspace)
    _read_usage(visitor, workspace, charged)
    _export(visitor, charged)
    _look_at_the_rest(visitor)
    log = installation.log("hypereal_site.serve", since=earlier)
    assert secret not in log
    assert not re.search(r'"level": "(warning|error|critical)"|Traceback', log), log


# ── Sign up ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def _sign_up(visitor: Visitor, installation: Installation, address: str) -> None:
    page = visitor.page
    visitor.go("/")
    _look(visitor)
    compile(page.locator("#start-python code").inner_text(), "landing page", "exec")
    page.get_by_role("link", name="Make an account").click()
    expect(page.get_by_role("heading", name="Make your account")).to_be_visible()
    _look(visitor)
    page.get_by_label("Email").fill(address)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("Password (again)").fill(PASSWORD)
    page.get_by_role("button", name="Make account").click()
    expect(page.get_by_role("heading", name="Look into your inbox")).to_be_visible()
    _look(visitor)
    page.goto(_link_of_the_mail(installation, address))
    _look(visitor)
    page.get_by_role("button", name="Yes, this is my address").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    expect(page.get_by_text("0 of 3 done")).to_be_visible()
    _look(visitor)


def _link_of_the_mail(installation: Installation, address: str) -> str:
    wait_for(lambda: bool(installation.mails_to(address)))
    [mail] = installation.mails_to(address)
    text = mail.get_body(("plain",))
    assert text is not None
    found = re.search(rf"{re.escape(installation.url)}/accounts/confirm-email/\S+", text.get_content())
    assert found, text.get_content()
    return found[0]


# ── Top up ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def _top_up(visitor: Visitor, installation: Installation, workspace: Workspace, address: str) -> None:
    page = visitor.page
    page.get_by_role("link", name="Top up").first.click()
    expect(page.get_by_text("Demo payments: no card is charged.")).to_be_visible()
    _look(visitor)
    page.get_by_role("radio", name="$25 for 2,500 credits").check()
    page.get_by_role("button", name="Continue to payment").dblclick()
    expect(page.get_by_role("heading", name="Pay Hypereal")).to_be_visible()
    _look(visitor)
    page.get_by_role("button", name="Pay $25.00").dblclick()
    expect(page.get_by_role("heading", name="2,500 credits added")).to_be_visible()
    _look(visitor)
    expect(page.locator("#balance-pill")).to_contain_text("2,500")
    assert list(TopUp.objects.filter(wallet_id=workspace.pk).values_list("state", "amount_cents")) == [("paid", 2_500)]
    assert _transfers(workspace, Transfer.Kind.TOPUP) == [2_500 * CREDIT]
    page.get_by_role("link", name="Back to billing").click()
    expect(page.locator("#history tbody tr")).to_have_count(1)
    _look(visitor)
    with page.expect_popup() as opened:
        page.locator("#history").get_by_role("link", name=re.compile("Receipt")).click()
    expect(opened.value.get_by_role("heading", name="Demo receipt")).to_be_visible()
    opened.value.close()
    installation.work()
    subjects = [mail["Subject"] for mail in installation.mails_to(address)]
    assert subjects[1:] == ["2,500 credits added to your Hypereal balance"]


# ── Key ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
def _create_key(visitor: Visitor, workspace: Workspace) -> str:
    page = visitor.page
    page.get_by_role("navigation", name="Primary").get_by_role("link", name="API keys").click()
    expect(page.get_by_text("No keys yet")).to_be_visible()
    _look(visitor)
    page.get_by_role("link", name="Create your first key").click()
    dialog = page.get_by_role("dialog", name="Create a key")
    dialog.get_by_label("Name").fill("laptop")
    dialog.get_by_label("Monthly limit").fill("1500")
    _look(visitor)
    dialog.get_by_role("button", name="Create key").dblclick()
    banner = page.locator("#new-key-secret")
    expect(banner).to_be_visible()
    page.get_by_role("button", name="Copy", exact=True).first.click()
    expect(page.get_by_role("button", name="Copied").first).to_be_visible()
    secret = str(page.evaluate("navigator.clipboard.readText()"))
    assert secret == banner.inner_text()
    assert re.fullmatch(r"ck_[A-Za-z0-9]{30,}", secret)
    _look(visitor)
    assert ApiKey.objects.filter(workspace=workspace).count() == 1
    page.reload()
    expect(page.get_by_text("laptop")).to_be_visible()
    assert secret not in page.content()
    return secret


def _run_the_snippet(visitor: Visitor, secret: str) -> None:
    """The Python that the page offers works as it is copied."""
    page = visitor.page
    page.get_by_role("tab", name="Python").click()
    panel = page.get_by_role("tabpanel", name="Python")
    panel.get_by_role("button", name="Copy").click()
    code = str(page.evaluate("navigator.clipboard.readText()"))
    env = {**os.environ, "HYPEREAL_API_KEY": secret}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


# ── Calls ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def _call(installation: Installation, secret: str, workspace: Workspace) -> None:
    asked: dict[str, Any] = {"messages": [{"role": "user", "content": "Tell me of the sea in 60 words"}]}
    base_url = f"{installation.url}/api/v1"
    with openai.OpenAI(api_key=secret, base_url=base_url, max_retries=0, timeout=90) as client:
        for model in MODELS:
            answer = client.chat.completions.create(model=model, **asked)
            assert answer.choices[0].message.content
            assert answer.usage is not None
            text, used = "", None
            for chunk in client.chat.completions.create(model=model, stream=True, **asked):
                text += "".join(choice.delta.content or "" for choice in chunk.choices)
                used = chunk.usage or used
            assert text.strip() == answer.choices[0].message.content.strip()
            assert used is not None
            assert used.completion_tokens == answer.usage.completion_tokens
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model="no-such-model", **asked)
    paid = RequestLog.objects.filter(workspace_id=workspace.pk, charged_microcredits__gt=0)
    wait_for(lambda: paid.count() == PAID_CALLS)


def _ledger(workspace: Workspace) -> list[int]:
    """What the ledger says that calls cost, one transfer a call, in microcredits."""
    charged = _transfers(workspace, Transfer.Kind.USAGE)
    assert len(charged) == PAID_CALLS
    assert all(charged)
    return charged


def _transfers(workspace: Workspace, kind: str) -> list[int]:
    found = Transfer.objects.filter(workspace_id=workspace.pk, kind=kind)
    return list(found.order_by("id").values_list("amount_microcredits", flat=True))


# ── Usage ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def _read_usage(visitor: Visitor, workspace: Workspace, charged: list[int]) -> None:
    page, total = visitor.page, sum(charged)
    page.get_by_role("navigation", name="Primary").get_by_role("link", name="Usage").click()
    expect(page.locator("[data-drawn]")).to_have_count(2)
    _look(visitor)
    expect(page.get_by_text(f"{amounts.credits_text(total)} credits in 30 days")).to_be_visible()
    expect(page.locator("#usage-log tbody tr")).to_have_count(PAID_CALLS + 1)
    rows = RequestLog.objects.filter(workspace_id=workspace.pk)
    for model in MODELS:
        of_model = sum(rows.filter(model=model).values_list("charged_microcredits", flat=True))
        legend = page.get_by_role("listitem").filter(has=page.get_by_role("link", name=model, exact=True))
        expect(legend).to_contain_text(amounts.usd_text(of_model))
    page.get_by_text("Show the figures as a table").click()
    today = page.get_by_role("region", name="Daily cost by model").locator("tbody tr").first
    expect(today).to_contain_text(amounts.usd_text(total))
    # The dearest call's details have its cost to the microcredit.
    page.get_by_role("link", name=re.compile(r"\d\d:\d\d")).first.click()
    detail = page.get_by_role("dialog", name="Request")
    expect(detail).to_contain_text(f"{amounts.credits_exact_text(max(charged))} credits")
    expect(detail).to_contain_text("Sandbox")
    _look(visitor)
    page.keyboard.press("Escape")


def _export(visitor: Visitor, charged: list[int]) -> None:
    with visitor.page.expect_download() as download:
        visitor.page.get_by_role("link", name="Export CSV").click()
    assert re.fullmatch(r"hypereal-usage-\d{4}-\d\d-\d\d\.csv", download.value.suggested_filename)
    lines = list(csv.DictReader(io.StringIO(download.value.path().read_text("utf-8"))))
    costs = [Decimal(line["costCredits"]) * CREDIT for line in lines]
    assert sum(costs) == sum(charged)
    assert sorted(cost for cost in costs if cost) == sorted(charged)
    assert [line["status"] for line in lines].count("400") == 1


def _look_at_the_rest(visitor: Visitor) -> None:
    for path in ("/", "/models", "/settings/account", "/accounts/2fa/", "/status"):
        visitor.go(path)
        _look(visitor)


def _look(visitor: Visitor) -> None:
    """The page is sound, and fits into 390 px."""
    visitor.page.wait_for_load_state("networkidle")
    visitor.page.set_viewport_size(PHONE)
    wait_for(lambda: visitor.sideways() == 0)  # charts follow a moment later
    visitor.page.set_viewport_size(DESKTOP)
    visitor.assert_sound()


# ── Habits and aids ──────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_chosen_theme_goes_along(visit: Visit, site: str) -> None:
    visitor = visit()
    page = visitor.page
    visitor.go("/")
    light = _background(page)
    page.get_by_role("switch", name="Dark mode").click()
    dark = _background(page)
    assert dark != light
    page.get_by_role("link", name="Sign in").click()
    assert _background(page) == dark
    page.reload()
    expect(page.get_by_role("switch", name="Dark mode")).to_have_attribute("aria-checked", "true")
    assert _background(page) == dark
    page.get_by_role("switch", name="Dark mode").click()
    page.reload()
    assert _background(page) == light
    assert visitor.said == []


def _background(page: Page) -> str:
    """The colour behind everything, once it is what it becomes."""
    page.evaluate("Promise.all(document.getAnimations().map(each => each.finished.catch(() => null)))")
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


def test_a_key_is_made_by_keyboard_alone(visit: Visit, site: str) -> None:
    payer = new_payer(1_000 * CREDIT)
    visitor = visit(payer.user, permissions=CLIPBOARD)
    page = visitor.page
    visitor.go("/manage-api-keys")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    _tab_to(page, page.get_by_role("link", name="Create key"))
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Create a key")
    expect(dialog.get_by_label("Name")).to_be_focused()
    page.keyboard.type("by hand")
    page.keyboard.press("Enter")
    secret = page.locator("#new-key-secret")
    expect(secret).to_be_visible()
    expect(dialog).to_be_hidden()
    expect(secret).to_be_focused()
    _tab_to(page, page.get_by_role("button", name="Copy", exact=True).first, most=1)
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Copied").first).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == secret.inner_text()
    menu = page.get_by_role("button", name="Actions for by hand")
    _tab_to(page, menu)
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("link", name="Edit", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Edit “by hand”").get_by_label("Name")).to_be_focused()
    page.keyboard.press("Escape")
    expect(menu).to_be_focused()
    assert ApiKey.objects.filter(workspace=payer.workspace, name="by hand").count() == 1
    assert visitor.said == []


def _tab_to(page: Page, wanted: Locator, most: int = 30) -> None:
    """Press Tab until ``wanted`` has the focus."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if wanted.evaluate("node => node === document.activeElement"):
            return
    raise AssertionError(f"{most} tabs do not lead to {wanted}")


def test_a_phone_is_enough(visit: Visit, site: str) -> None:
    payer = new_payer(1_000 * CREDIT)
    visitor = visit(payer.user, phone=True, has_touch=True, is_mobile=True)
    page = visitor.page
    visitor.go("/")
    page.get_by_role("button", name="Open navigation").tap()
    drawer = page.get_by_role("dialog", name="Navigation")
    _fits(drawer)
    assert visitor.barriers() == []
    drawer.get_by_role("link", name="API keys").tap()
    page.get_by_role("link", name="Create key").tap()
    dialog = page.get_by_role("dialog", name="Create a key")
    _fits(dialog)
    dialog.get_by_label("Name").fill("pocket")
    dialog.get_by_role("button", name="Create key").tap()
    expect(page.locator("#new-key-secret")).to_be_visible()
    visitor.assert_sound()
    page.get_by_role("button", name="Actions for pocket").tap()
    _fits(page.locator("[popover]:popover-open"))
    page.get_by_role("link", name="Delete").tap()
    page.get_by_role("dialog", name="Delete “pocket”?").get_by_role("button", name="Delete").tap()
    expect(page.get_by_text("pocket", exact=True)).to_have_count(0)
    page.get_by_role("button", name=re.compile("Account menu")).tap()
    _fits(page.locator("[popover]:popover-open"))
    page.get_by_role("link", name="Sessions").tap()
    expect(page.get_by_role("heading", name="Sessions")).to_be_visible()
    visitor.assert_sound()


def _fits(panel: Locator) -> None:
    """The panel lies within the phone's screen."""
    expect(panel).to_be_visible()
    panel.evaluate("node => Promise.all(node.getAnimations().map(each => each.finished))")
    box = panel.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["y"] >= 0
    assert box["x"] + box["width"] <= PHONE["width"]
    assert box["y"] + box["height"] <= PHONE["height"]

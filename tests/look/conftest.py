"""A browser, the product on a port, and somebody signed in."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.conf import settings as django_settings
from django.test import Client
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, ViewportSize, expect, sync_playwright
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from accounts.models import User
from core import ids
from tests.support import chromium

HERE = Path(__file__).parent
AXE = (HERE / "vendor/axe.min.js").read_text("utf-8")
#: Waits for what moves or fades and has an end.
_STILL = """() => Promise.all(document.getAnimations()
    .filter((each) => each.playState === "running" && each.effect.getComputedTiming().endTime !== Infinity)
    .map((each) => each.finished.catch(() => null)))"""
#: What a page may take that needs no time: much else runs on the machine.
PATIENCE_MS = 60_000
PASSWORD = "a long enough passphrase"
DESKTOP = ViewportSize(width=1360, height=900)
PHONE = ViewportSize(width=390, height=844)


@pytest.fixture(scope="module")
def browser(chromium_path: str, django_db_setup: None) -> Iterator[Browser]:
    """One Chromium for the tests of a module.

    Not longer: while Playwright runs, its event loop counts as running in this thread, which pytest-asyncio would trip
    over elsewhere, and Django would take plain queries for asynchronous ones, hence the variable.
    """
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as driver:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        expect.set_options(timeout=PATIENCE_MS)
        running = driver.chromium.launch(
            executable_path=chromium_path, args=chromium.ARGUMENTS, timeout=3 * PATIENCE_MS
        )
        yield running
        running.close()


@pytest.fixture(scope="module")
def server(_pages_database: str) -> Iterator[LiveServer]:
    """The web face on a port. pytest-django's own fixture would empty the tables after each test, which ours refuse."""
    running = LiveServer("127.0.0.1")
    yield running
    running.stop()


@pytest.fixture
def site(server: LiveServer, committed: None, settings: Settings) -> str:
    """The address of the product, with the component sheet at /look/sheet."""
    templates: list[dict[str, Any]] = copy.deepcopy(django_settings.TEMPLATES)
    templates[0]["DIRS"].append(HERE / "templates")
    settings.TEMPLATES = templates
    settings.ROOT_URLCONF = "tests.look.urls"
    settings.ALLOWED_HOSTS = ["*"]
    settings.ACCOUNT_RATE_LIMITS = False
    settings.DEMO_PAYMENTS = True
    return str(server.url)


@pytest.fixture
def person(committed: None) -> User:
    """Somebody with a confirmed address; each test has its own."""
    user = User.objects.create_user(f"sana.{ids.uuid7().hex[-8:]}@example.com", PASSWORD, name="Sana Khan")
    EmailAddress.objects.create(user=user, email=user.email, primary=True, verified=True)
    return user


@dataclass
class Visitor:
    """One open page, and what its console has said."""

    page: Page
    site: str
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))

    def _hear(self, message: ConsoleMessage) -> None:
        self.said.append(f"{message.type}: {message.text}")

    def go(self, path: str) -> None:
        """Open a page and wait until its scripts and charts are there."""
        self.page.goto(self.site + path)
        self.page.wait_for_load_state("networkidle")

    def sideways(self) -> int:
        """How many pixels the page is wider than its window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - innerWidth"))

    def barriers(self) -> list[str]:
        """What axe calls serious or critical."""
        self.page.evaluate(_STILL)  # colours that are on their way are nobody's choice
        self.page.evaluate(AXE)
        found: dict[str, Any] = self.page.evaluate("axe.run()")
        return [
            f"{rule['id']}: {node['target']} {node['failureSummary']}"
            for rule in found["violations"]
            if rule["impact"] in ("serious", "critical")
            for node in rule["nodes"]
        ]

    def assert_sound(self) -> None:
        """Nothing in the console, nothing in the way, nothing sticking out."""
        assert self.said == []
        assert self.barriers() == []
        assert self.sideways() == 0


Visit = Callable[..., Visitor]


@pytest.fixture
def visit(browser: Browser, site: str) -> Iterator[Visit]:
    """Opens windows: ``visit(person, phone=True, dark=True)``; without a person nobody is signed in."""
    contexts: list[BrowserContext] = []

    def open_window(person: User | None = None, *, phone: bool = False, dark: bool = False, **more: Any) -> Visitor:
        context = browser.new_context(
            viewport=PHONE if phone else DESKTOP, color_scheme="dark" if dark else "light", **more
        )
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        if person is not None:
            client = Client()
            client.force_login(person, backend="allauth.account.auth_backends.AuthenticationBackend")
            cookie = client.cookies[django_settings.SESSION_COOKIE_NAME].value
            context.add_cookies([{"name": django_settings.SESSION_COOKIE_NAME, "value": cookie, "url": site}])
        return Visitor(context.new_page(), site)

    yield open_window
    for context in contexts:
        context.close()

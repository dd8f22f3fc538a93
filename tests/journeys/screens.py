"""Pictures of the pages with two months of calls in them: ``python -m tests.journeys.screens``.

They go to var/screens, in every window the pages are made for; ``--readme`` renews those in docs/images as well.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hypereal_site import processes
from tests.support import chromium, services

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, ViewportSize

    from accounts.models import User
    from tests.journeys.installation import Installation

FOLDER: Final = services.ROOT / "var" / "screens"
README_FOLDER: Final = services.ROOT / "docs" / "images"
PUBLIC: Final = {"landing": "/", "login": "/accounts/login/", "signup": "/accounts/signup/", "prices": "/models"}
SIGNED_IN: Final = {
    "overview": "/",
    "usage": "/usage",
    "keys": "/manage-api-keys",
    "billing": "/billing",
    "models": "/models",
    "account": "/settings/account",
    "two-factor": "/accounts/2fa/",
    "sessions": "/accounts/sessions/",
}
#: What opens over a page: where, and what is clicked there.
OPENED: Final = {
    "key-dialog": ("/manage-api-keys", "[data-dialog-open=new-key]:visible"),
    "key-menu": ("/manage-api-keys", "#keys tbody tr:first-child button"),
    "request-dialog": ("/usage", "#usage-log tbody a"),
    "filters": ("/usage", "#usage-filters summary"),
    "user-menu": ("/", "[popovertarget=user-menu]"),
    "drawer": ("/", "[data-dialog-open=nav-drawer]"),
}
#: Pages of somebody who has only just come.
FRESH: Final = {"new-overview": "/", "new-usage": "/usage", "new-keys": "/manage-api-keys", "new-billing": "/billing"}
WINDOWS: Final[dict[str, dict[str, Any]]] = {
    "light": {},
    "dark": {"color_scheme": "dark"},
    "390": {"viewport": {"width": 390, "height": 844}},
    "390-dark": {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"},
    "rtl": {},
}
#: The README's pictures: where, and the card that they end with.
README: Final = {"usage": ("/usage", "Most expensive requests"), "keys": ("/manage-api-keys", "Use it")}
#: The demo's own port, which the pages then show in their snippets, where nobody has it.
PORT: Final = 8000


def main(arguments: Sequence[str] | None = None) -> int:
    """Take the pictures; 0 when all pages answered."""
    parser = argparse.ArgumentParser(prog="python -m tests.journeys.screens", description=__doc__.partition("\n")[0])
    parser.add_argument("--to", type=Path, default=FOLDER, help="the folder for all pictures")
    parser.add_argument("--only", default="", help="only pages or windows whose name contains this")
    parser.add_argument("--readme", action="store_true", help="renew the pictures of the README, too")
    chosen = parser.parse_args(arguments)
    path = chromium.find()
    if path is None:
        print(f"No Chromium here: install it or set {chromium.VARIABLE}.", file=sys.stderr)  # noqa: T201
        return 1
    chosen.to.mkdir(parents=True, exist_ok=True)
    with _services(), _installation() as (installation, people), _browser(path) as browser:
        for window, options in WINDOWS.items():
            _take(browser, installation, people, window, options, chosen.to, chosen.only)
        if chosen.readme:
            _take_for_readme(browser, installation, people["sana"])
    return 0


def _port() -> int:
    try:
        processes.reserve_port(PORT).close()
    except OSError:
        return 0
    return PORT


# ── Stage ────────────────────────────────────────────────────────────────────────────────────────────────────────────
@contextmanager
def _services() -> Iterator[None]:
    services.fix_environment()
    running = services.Services()
    running.reserve()
    running.start()
    try:
        yield
    finally:
        running.stop()


@contextmanager
def _installation() -> Iterator[tuple[Installation, dict[str, User]]]:
    """The product on a database of its own, with somebody who has a past and somebody who has none."""
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import connection
    from django.test.utils import setup_databases, teardown_databases

    from tests import factories
    from tests.journeys import history
    from tests.journeys.installation import Installation
    from usage import verify

    made = setup_databases(verbosity=0, interactive=False)
    try:
        call_command("load_catalog", verbosity=0)
        sana = factories.user("sana@example.com", name="Sana Khan")
        people = {"sana": sana, "nobody": factories.user("new@example.com", name="Omar Siddiqui")}
        history.write(sana)
        assert verify.verify().clean
        with tempfile.TemporaryDirectory(prefix="screens-", dir=services.FOLDER) as folder:
            installation = Installation(connection.settings_dict["NAME"], Path(folder))
            installation.start(_port())
            try:
                yield installation, people
            finally:
                installation.stop()
    finally:
        with connection.cursor() as cursor:  # the browser's thread had connections of its own
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        teardown_databases(made, verbosity=0)


@contextmanager
def _browser(path: str) -> Iterator[Browser]:
    import os

    from playwright.sync_api import sync_playwright

    # While Playwright runs its loop counts as running here, and Django would take plain queries for asynchronous ones.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=path, args=chromium.ARGUMENTS)
        yield running
        running.close()


# ── Pictures ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def _take(
    browser: Browser,
    installation: Installation,
    people: dict[str, User],
    window: str,
    options: dict[str, Any],
    folder: Path,
    only: str,
) -> None:
    for person, pages in ((None, PUBLIC), (people["sana"], SIGNED_IN), (people["nobody"], FRESH)):
        wanted = {name: path for name, path in pages.items() if only in f"{name}-{window}"}
        if not wanted:
            continue
        page = _open(browser, installation, person, **options)
        for name, path in wanted.items():
            _go(page, installation.url + path, mirrored=window == "rtl")
            page.screenshot(path=folder / f"{name}-{window}.png", full_page=True)
        page.context.close()
    for name, (path, opener) in OPENED.items():
        if only not in f"{name}-{window}" or (name == "drawer" and "390" not in window):
            continue
        page = _open(browser, installation, people["sana"], **options)
        _go(page, installation.url + path, mirrored=window == "rtl")
        page.locator(opener).first.click()
        page.wait_for_timeout(600)
        page.screenshot(path=folder / f"{name}-{window}.png")
        page.context.close()


def _take_for_readme(browser: Browser, installation: Installation, person: User) -> None:
    README_FOLDER.mkdir(parents=True, exist_ok=True)
    for name, (path, last) in README.items():
        page = _open(browser, installation, person)
        _go(page, installation.url + path)
        card = page.locator("section.panel", has=page.get_by_role("heading", name=last)).bounding_box()
        assert card is not None
        page.set_viewport_size({"width": 1360, "height": round(card["y"] + card["height"]) + 6})
        page.wait_for_timeout(500)
        page.screenshot(path=README_FOLDER / f"{name}.png")
        page.context.close()


def _open(browser: Browser, installation: Installation, person: User | None, **options: Any) -> Page:
    from django.conf import settings
    from django.test import Client

    desktop: ViewportSize = {"width": 1360, "height": 900}
    context = browser.new_context(**{"viewport": desktop, "color_scheme": "light", **options})
    if person is not None:
        client = Client()
        client.force_login(person, backend="allauth.account.auth_backends.AuthenticationBackend")
        cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
        context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": installation.url}])
    return context.new_page()


def _go(page: Page, url: str, *, mirrored: bool = False) -> None:
    answer = page.goto(url)
    if answer is None or not answer.ok:
        raise RuntimeError(f"{url} answers {answer.status if answer else 'nothing'}")
    page.wait_for_load_state("networkidle")
    if mirrored:
        page.evaluate("document.documentElement.dir = 'rtl'; dispatchEvent(new Event('resize'))")
        page.wait_for_timeout(300)


if __name__ == "__main__":
    sys.exit(main())

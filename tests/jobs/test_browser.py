"""The pages of jobs in a real browser: nothing blocked, nothing in the way, progress that moves by itself."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from playwright.sync_api import expect

from jobs.kinds import Done, Failed, Waiting
from tests.look.conftest import Visit, browser, server, site, visit  # noqa: F401  (fixtures)
from tests.support.jobs import BALANCE, CREDIT, Scripted, declared, drive, step, submit
from tests.support.money import Payer, new_payer
from upstreams.errors import ServerFailed

pytestmark = pytest.mark.browser

WINDOWS = [{}, {"dark": True}, {"phone": True}, {"phone": True, "dark": True}]


@pytest.fixture
def payer(committed: None) -> Payer:
    return new_payer(balance=BALANCE)


@pytest.fixture
def kind(committed: None) -> Iterator[Scripted]:
    scripted = Scripted()
    with declared(scripted):
        yield scripted


def done(url: str, content_type: str) -> Done:
    result = {"data": [{"url": url, "contentType": content_type}]}
    return Done(result=result, charge_microcredits=7 * CREDIT, units=Decimal(7))


@pytest.mark.parametrize("window", WINDOWS, ids=["light", "dark", "phone", "phone-dark"])
def test_the_pages_are_sound(
    visit: Visit,  # noqa: F811
    payer: Payer,
    kind: Scripted,
    window: dict[str, bool],
    tmp_path: Path,
) -> None:
    kind.starts += [done("/static/img/icon.svg", "image/svg+xml"), ServerFailed("down", status=503), Waiting(seconds=1)]
    made = drive(submit(payer).pk)
    running = submit(payer)
    step(running.pk)
    kind.polls.append(Waiting(seconds=600, progress=35))
    step(running.pk)
    step(running.pk)
    kind.starts.append(Failed(error_type="upstream_error", message="No provider could take this job on."))
    failed = drive(submit(payer).pk)
    submit(payer)
    visitor = visit(payer.user, **window)
    for name, path in (
        ("list", "/jobs"), ("made", f"/jobs/{made.pk}"), ("running", f"/jobs/{running.pk}"),
        ("failed", f"/jobs/{failed.pk}"), ("cancel", f"/jobs/{running.pk}/cancel"), ("none", "/jobs?state=expired"),
    ):  # fmt: skip
        visitor.go(path)
        visitor.page.screenshot(path=tmp_path / f"{name}.png", full_page=True)
        visitor.assert_sound()


def test_progress_moves_and_a_cancel_asks_first(visit: Visit, payer: Payer, kind: Scripted) -> None:  # noqa: F811
    job = submit(payer)
    step(job.pk)
    visitor = visit(payer.user)
    visitor.go(f"/jobs/{job.pk}")
    kind.polls.append(Waiting(seconds=600, progress=60))
    step(job.pk)
    expect(visitor.page.locator("#job progress")).to_have_attribute("value", "60")
    visitor.page.locator("#job").get_by_text("Cancel", exact=True).click()
    expect(visitor.page.get_by_role("dialog")).to_be_visible()
    visitor.page.get_by_role("button", name="Cancel the job").click()
    expect(visitor.page.locator("#job")).to_contain_text("Cancelling")
    drive(job.pk)
    expect(visitor.page.locator("#job")).to_contain_text("Cancelled")
    visitor.assert_sound()


def test_rows_of_the_list_follow_their_jobs(visit: Visit, payer: Payer, kind: Scripted) -> None:  # noqa: F811
    job = submit(payer)
    visitor = visit(payer.user)
    visitor.go("/jobs")
    row = visitor.page.locator(f"#job-{job.pk}")
    expect(row).to_contain_text("Queued")
    kind.starts.append(Done(result={}, charge_microcredits=CREDIT))
    drive(job.pk)
    expect(row).to_contain_text("Succeeded")
    visitor.assert_sound()

"""The pages of GPUs in a real browser: three steps, live until ready, sound in every window."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest
from django.db import connections
from playwright.sync_api import expect
from pytest_django import Settings

from catalog import live
from infra.models import Deployment
from tests.fakes import runpod as fake
from tests.infra.conftest import CREDIT, bring_up, deploy, publish_prices, run
from tests.infra.test_api import hosted
from tests.look.conftest import Visit, browser, server, site, visit  # noqa: F401  (fixtures)
from tests.support.jobs import drive, step
from tests.support.money import Payer, new_payer

pytestmark = pytest.mark.browser

T = TypeVar("T")


def aside(work: Callable[[], T]) -> T:
    """Does what asks the engine in a thread of its own: Playwright's event loop counts as running in this one."""

    def task() -> T:
        try:
            return work()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(task).result()


def finished(payer: Payer, runpod: fake.RunPod) -> None:
    """A run that succeeded, and one that waits at the engine."""
    done = run(payer)
    step(done.pk)
    runpod.finish(runpod.only_job(), output={"ok": 1}, executionTime=2_500)
    drive(done.pk)
    step(run(payer).pk)


#: For a machine that is busy with other things.
PATIENCE_MS = 90_000


@pytest.fixture
def payer(committed: None, runpod: fake.RunPod, settings: Settings) -> Iterator[Payer]:
    publish_prices(runpod)
    settings.GPU_ENGINE, settings.RUNPOD_API_KEY = "runpod", fake.KEY
    settings.RUNPOD_REST_URL = f"{runpod.url}/v1"
    live.forget()
    yield new_payer(balance=1_000 * CREDIT)
    live.forget()


def test_the_pages_are_sound(visit: Visit, payer: Payer, runpod: fake.RunPod, tmp_path: Path) -> None:  # noqa: F811
    row = aside(lambda: bring_up(deploy(payer, min_workers=1)))
    aside(lambda: finished(payer, runpod))
    hosted("sdxl", "second", 2 * CREDIT, example={"prompt": "a tabby cat astronaut"})
    live.forget()
    runpod.refused_images["acme/broken:1"] = "No such image."
    broken = deploy(payer, slug="broken", docker_image="acme/broken:1")
    Deployment.objects.filter(pk=broken.pk).update(state="failed", error_message="No such image.")
    here = f"/infra/deployments/{row.pk}"
    pages = {
        "overview": "/infra",
        "list": "/infra/deployments",
        "new": "/infra/deployments/new",
        "one": here,
        "edit": f"{here}/edit",
        "delete": f"{here}/delete",
        "failed": f"/infra/deployments/{broken.pk}",
        "recommend": "/gpu-recommend",
        "try": "/gpu-recommend/sdxl/try",
    }
    # Each page is seen in both themes and both widths, those that hold every part in all four windows.
    telling = ("one", "edit", "recommend")
    for window, names in (
        ({}, pages), ({"dark": True, "phone": True}, pages), ({"dark": True}, telling), ({"phone": True}, telling),
    ):  # fmt: skip
        visitor = visit(payer.user, **window)
        visitor.page.set_default_timeout(PATIENCE_MS)
        for name in names:
            visitor.go(pages[name])
            visitor.page.screenshot(path=tmp_path / f"{'-'.join([*window, name])}.png", full_page=True)
            visitor.assert_sound()


def test_an_image_is_deployed_in_three_steps(visit: Visit, payer: Payer, tmp_path: Path) -> None:  # noqa: F811
    visitor = visit(payer.user)
    page = visitor.page
    page.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    visitor.go("/infra")
    page.get_by_role("link", name="Deploy an image").first.click()
    page.get_by_label("Name", exact=True).fill("My Comfy")
    page.get_by_label("Slug").fill("run")
    page.get_by_label("Docker image").fill("runpod/worker-comfyui:5.5.0")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_text("is reserved")).to_be_visible()
    visitor.said.clear()  # the browser tells of the refusal
    page.get_by_label("Slug").fill("my-comfy")
    page.get_by_role("button", name="Continue").click()
    page.get_by_label(re.compile("ADA_48_PRO")).check()
    page.get_by_label(re.compile("Workers kept warm")).fill("1")
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("button", name="Back").click()
    expect(page.get_by_label(re.compile("ADA_48_PRO"))).to_be_checked()
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_text("What it will cost")).to_be_visible()
    expect(page.get_by_text("1 worker is kept warm")).to_be_visible()
    page.get_by_label(re.compile("Environment variables")).fill("HF_TOKEN=hf_secret")
    page.screenshot(path=tmp_path / "settings.png", full_page=True)
    visitor.assert_sound()
    page.get_by_role("button", name="Create deployment").dblclick()
    expect(page.get_by_role("heading", name="My Comfy")).to_be_visible()
    expect(page.locator("#deployment-state")).to_contain_text("Creating")
    row = Deployment.objects.get(workspace=payer.workspace)
    aside(lambda: bring_up(row))
    expect(page.locator("#deployment-state")).to_contain_text("Ready")
    assert "hf_secret" not in page.content()
    visitor.assert_sound()
    page.get_by_role("link", name="Delete").click()
    page.get_by_role("button", name="Delete deployment").click()
    expect(page.get_by_text("is deleted")).to_be_visible()
    row.refresh_from_db()
    assert row.is_deleted

"""The playground in a browser, on a whole installation with the sandbox behind it: what it says it cost, the wallet
lost."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from core import money
from hypereal_site import processes
from jobs.models import Job
from keys import auth
from keys.models import ApiKey
from keys.secret import new_secret
from tests.journeys.conftest import installation, site  # noqa: F401  (fixtures)
from tests.journeys.installation import Installation
from tests.look.conftest import Visit, Visitor, browser, visit  # noqa: F401  (fixtures)
from tests.support.gateway import wait_for
from tests.support.money import Payer, new_payer
from tests.support.services import ROOT
from usage.models import RequestLog

pytestmark = pytest.mark.browser

CREDIT = money.MICROCREDITS_PER_CREDIT
SLOW_MS = 60_000


@pytest.fixture
def payer(installation: Installation) -> Payer:  # noqa: F811
    return new_payer(1_000 * CREDIT)


@pytest.fixture
def cron(installation: Installation) -> Iterator[None]:  # noqa: F811
    """The process that makes jobs go on."""
    env = {**installation.env, "JOB_SWEEP_SECONDS": "0.5"}
    process = processes.spawn(
        [sys.executable, "manage.py", "run_cron"], log=installation.folder / "cron.log", directory=ROOT, env=env
    )
    yield
    processes.stop([process], [(signal.SIGTERM, 30.0)])


def opened(visit: Visit, payer: Payer, **window: bool) -> Visitor:  # noqa: F811
    visitor = visit(payer.user, **window)
    visitor.page.set_default_timeout(SLOW_MS)
    visitor.go("/playground")
    return visitor


def panel(page: Page, way: str) -> Locator:
    page.get_by_role("tab", name=way).click()
    return page.get_by_role("tabpanel", name=way)


def send(page: Page, form: Locator, prompt: str) -> str:
    """Fill in, wait for the quote, send, wait for the receipt; the text of the latter."""
    form.locator("textarea[name=prompt]").fill(prompt)
    expect(form.locator("[data-quote]")).to_contain_text("credits", timeout=SLOW_MS)
    form.locator("[data-send]").click()
    cost = page.locator("#playground-cost")
    expect(cost).to_contain_text("charged", timeout=SLOW_MS)
    return cost.inner_text()


def charged(cost: str) -> int:
    """Microcredits out of the line about the receipt."""
    found = re.search(r"([\d.]+) credits charged", cost)
    assert found, cost
    return round(float(found[1]) * CREDIT)


def settled(payer: Payer, calls: int) -> list[RequestLog]:
    wait_for(lambda: RequestLog.objects.filter(workspace_id=payer.workspace.pk).count() >= calls)
    return list(RequestLog.objects.filter(workspace_id=payer.workspace.pk).order_by("pk"))


@pytest.mark.parametrize(
    ("wire", "model"),
    [("chat", "gpt-5.5"), ("messages", "claude-sonnet-4-6"), ("responses", "gpt-5.5"), ("gemini", "gemini-3.5-fast")],
)
def test_a_conversation(visit: Visit, payer: Payer, wire: str, model: str) -> None:  # noqa: F811
    visitor = opened(visit, payer)
    page = visitor.page
    form = panel(page, "Chat")
    form.get_by_label("Model").select_option(model)
    form.get_by_label("Wire format").select_option(wire)
    first = charged(send(page, form, "Say hello"))
    answers = page.locator("#playground-output [data-role=assistant]")
    expect(answers).to_have_count(1)
    assert answers.first.inner_text().strip()
    assert "does not work" not in page.locator("#playground-status").inner_text()
    second = charged(send(page, form, "Say it again"))
    expect(answers).to_have_count(2)
    rows = settled(payer, 2)
    assert [row.charged_microcredits for row in rows] == [first, second]
    assert [(row.endpoint, row.model, row.stream, row.key_name) for row in rows] == [
        (wire, model, True, "Playground")
    ] * 2
    assert payer.books().balance == 1_000 * CREDIT - first - second
    expect(page.locator("#balance-pill")).to_contain_text("99")
    visitor.assert_sound()


def test_the_key_is_the_page_s_own_and_ends_with_the_session(visit: Visit, payer: Payer) -> None:  # noqa: F811
    visitor = opened(visit, payer)
    page = visitor.page
    send(page, panel(page, "Chat"), "Say hello")
    [key] = ApiKey.objects.filter(workspace=payer.workspace, internal=True)
    assert key.created_by == payer.user
    assert key.expires_at is not None
    assert (key.expires_at - key.created_at).total_seconds() <= 3601
    kept = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
    assert "ck_" not in kept + page.content()
    visitor.go("/manage-api-keys")
    assert page.locator("#keys").get_by_text("test", exact=True).count() == 1  # the payer's own
    assert page.locator("#keys").get_by_text("Playground").count() == 0
    visitor.go("/accounts/logout/")
    page.get_by_role("main").get_by_role("button").first.click()
    wait_for(lambda: ApiKey.objects.get(pk=key.pk).deleted_at is not None)


def test_pictures(visit: Visit, payer: Payer) -> None:  # noqa: F811
    visitor = opened(visit, payer)
    page = visitor.page
    form = panel(page, "Image")
    form.get_by_label("How many").fill("2")
    cost = charged(send(page, form, "A lighthouse"))
    pictures = page.locator("#playground-output img")
    expect(pictures).to_have_count(2)
    wait_for(
        lambda: bool(
            page.evaluate("[...document.querySelectorAll('#playground-output img')].every(i => i.naturalWidth)")
        )
    )
    [row] = settled(payer, 1)
    assert (row.endpoint, row.units, row.charged_microcredits) == ("images", 2, cost)
    assert payer.books().balance == 1_000 * CREDIT - cost
    visitor.assert_sound()


def test_speech(visit: Visit, payer: Payer) -> None:  # noqa: F811
    visitor = opened(visit, payer)
    page = visitor.page
    cost = charged(send(page, panel(page, "Speech"), "Good morning"))
    expect(page.locator("#playground-output audio")).to_have_count(1)
    [row] = settled(payer, 1)
    assert (row.endpoint, row.charged_microcredits) == ("audio", cost)
    assert payer.books().balance == 1_000 * CREDIT - cost
    visitor.assert_sound()


def test_a_clip(visit: Visit, payer: Payer, cron: None) -> None:  # noqa: F811
    visitor = opened(visit, payer)
    page = visitor.page
    cost = charged(send(page, panel(page, "Video"), "A ship in the harbour"))
    clip = page.locator("#playground-output video")
    expect(clip).to_have_count(1)
    wait_for(lambda: bool(clip.evaluate("clip => clip.src.includes('/files/')")))
    [row] = settled(payer, 1)
    assert (row.endpoint, row.charged_microcredits) == ("videos", cost)
    assert payer.books().balance == 1_000 * CREDIT - cost


def test_a_clip_is_waited_for_over_a_bad_line_and_stopped(visit: Visit, payer: Payer) -> None:  # noqa: F811
    """Nobody makes jobs go on here, so it waits until it is stopped; then nothing is paid, and the page leads to it."""
    visitor = opened(visit, payer)
    page = visitor.page
    asked: list[str] = []

    def bad_line(route: Route) -> None:
        asked.append(route.request.url)
        if len(asked) == 1:
            route.abort()
        elif len(asked) == 2:
            route.fulfill(status=503, json={"error": {"type": "overloaded_error", "message": "busy"}})
        else:
            route.continue_()

    page.route("**/api/v1/jobs/*", bad_line)
    form = panel(page, "Video")
    form.locator("textarea[name=prompt]").fill("A ship in the harbour")
    form.locator("[data-send]").click()
    status = page.locator("#playground-status")
    expect(status).to_contain_text("Waiting for its turn", timeout=SLOW_MS)
    assert len(asked) > 2
    [job] = Job.objects.filter(workspace_id=payer.workspace.pk)
    assert payer.books().held == job.reserved_microcredits > 0
    form.locator("[data-stop]").click()
    expect(status.get_by_role("link", name="The job")).to_have_attribute("href", f"/jobs/{job.pk}")
    expect(page.locator("#playground-cost")).to_contain_text("0 credits charged", timeout=SLOW_MS)
    assert Job.objects.get(pk=job.pk).state == "cancelled"
    assert (payer.books().balance, payer.books().held) == (1_000 * CREDIT, 0)
    assert (visitor.barriers(), visitor.sideways()) == ([], 0)  # the console tells of the bad line


@pytest.mark.parametrize("way", ["Chat", "Image", "Video", "Speech"])
def test_it_is_sound_on_a_phone_in_the_dark_and_says_what_is_wrong(visit: Visit, payer: Payer, way: str) -> None:  # noqa: F811
    visitor = opened(visit, payer, phone=True, dark=True)
    page = visitor.page
    form = panel(page, way)
    form.get_by_text("More parameters").click()
    form.locator("textarea[name=extra]").fill("[1]")
    form.locator("textarea[name=prompt]").fill("Hello")
    expect(form.locator("[data-quote]")).to_contain_text("JSON object", timeout=SLOW_MS)
    form.locator("[data-send]").click()
    expect(page.locator("#playground-status")).to_contain_text("JSON object", timeout=SLOW_MS)
    visitor.assert_sound()
    assert not RequestLog.objects.filter(workspace_id=payer.workspace.pk).exists()


def test_the_code_is_the_call(visit: Visit, payer: Payer) -> None:  # noqa: F811
    """What stands there as Python runs, and asks what the form asked."""
    visitor = opened(visit, payer)
    page = visitor.page
    form = panel(page, "Chat")
    form.locator("textarea[name=prompt]").fill('It\'s "true", null\nand 5')
    form.get_by_text("More parameters").click()
    form.locator("textarea[name=extra]").fill('{"store": false, "stop": null}')
    page.get_by_role("tab", name="Python").click()
    code = page.locator("#playground-python").inner_text()
    asked: dict[str, object] = {}
    post = SimpleNamespace(post=lambda url, **given: asked.update(given, url=url) or _Fine())
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "requests", post)
        patch.setenv("HYPEREAL_API_KEY", "ck_mine")
        exec(compile(code, "playground", "exec"), {})
    assert asked["url"] == f"{visitor.site}/api/v1/chat/completions"
    assert asked["headers"] == {"Authorization": "Bearer ck_mine"}
    assert asked["json"] == {
        "model": "gpt-5.5",
        "messages": [{"role": "user", "content": 'It\'s "true", null\nand 5'}],
        "max_completion_tokens": 512,
        "store": False,
        "stop": None,
    }


#: A prompt that shells, Python and JavaScript would each read otherwise if it were not quoted.
ODD = 'It\'s "true", null $HOME `id` ${x} \\\\ %s\nand 5 é 🚢'
#: How each language is run, by the file that its code is saved as.
RUN = {"curl": ("sh", "call.sh"), "python": (sys.executable, "call.py"), "node": ("node", "call.mjs")}


def shown(page: Page, language: str) -> str:
    """The code of that language, behind its tab or not."""
    return page.locator(f"#playground-{language}").text_content() or ""


def test_the_code_runs_as_it_stands_there(visit: Visit, payer: Payer, tmp_path: Path) -> None:  # noqa: F811
    """Copied into a file and run with a key: each makes the call that the page makes, and the wallet pays it."""
    [key] = ApiKey.objects.filter(workspace=payer.workspace)
    secret = new_secret()
    ApiKey.objects.filter(pk=key.pk).update(secret_hash=auth.hash_of(secret))
    env = {**os.environ, "HYPEREAL_API_KEY": secret}
    languages = [language for language in RUN if language != "node" or shutil.which("node")]
    visitor = opened(visit, payer)
    page = visitor.page
    written: list[tuple[str, str, str]] = []
    for way, kind, wires in (
        ("Chat", "", ("chat", "responses")), ("Image", "images", ()), ("Video", "videos", ()), ("Speech", "audio", ())
    ):  # fmt: skip
        form = panel(page, way)
        form.locator("textarea[name=prompt]").fill(ODD)
        for wire in wires or (kind,):
            if wires:
                form.get_by_label("Wire format").select_option(wire)
            written += [(wire, language, shown(page, language)) for language in languages]
    form = panel(page, "Chat")
    for wire, model in (("messages", "claude-sonnet-4-6"), ("gemini", "gemini-3.5-fast")):
        form.get_by_label("Model").select_option(model)
        form.get_by_label("Wire format").select_option(wire)
        written += [(wire, language, shown(page, language)) for language in languages]
    for wire, language, code in written:
        folder = tmp_path / f"{wire}-{language}"
        folder.mkdir()
        program, name = RUN[language]
        (folder / name).write_text(code)
        ran = subprocess.run([program, name], cwd=folder, env=env, capture_output=True, timeout=240)
        assert ran.returncode == 0, (wire, language, ran.stderr)
        assert b'"error": {' not in ran.stdout and b'"error":{' not in ran.stdout, (wire, language, ran.stdout)
        if wire == "audio":
            assert (folder / "speech.mp3").stat().st_size > 1_000
        else:
            assert ran.stdout.strip()
    rows = settled(payer, len([each for each in written if each[0] != "videos"]))
    jobs = Job.objects.filter(workspace_id=payer.workspace.pk)
    asked = Counter([row.endpoint for row in rows if row.endpoint != "videos"] + [job.kind for job in jobs])
    assert asked == Counter(wire for wire, _language, _code in written)
    assert {row.status for row in rows} == {200}
    assert {job.input["prompt"] for job in jobs} == {ODD}


class _Fine:
    def raise_for_status(self) -> None:
        pass

    def json(self) -> dict[str, object]:
        return {}

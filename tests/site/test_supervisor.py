"""The supervisor over a folder of small stand-in processes, with the real embedded servers where they matter."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from hypereal_site import processes
from hypereal_site.supervisor import MARK, WEB_DRAIN_SECONDS
from tests.support import ports
from tests.support.fake_installation import Installation
from tests.support.services import FOLDER

#: Three seconds on an idle machine of two cores; this one may be running the rest of the tests.
SECOND_START_SECONDS = 60.0


@pytest.fixture
def installation() -> Iterator[Installation]:
    """Below the checkout: the user that PostgreSQL runs as must reach it."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="installation-", dir=FOLDER, ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        it = Installation(Path(name))
        yield it
        it.close()


def _run_note(installation: Installation) -> dict[str, str]:
    return dict(json.loads((installation.folder / "var" / "run.json").read_text()))


def _private(path: Path) -> bool:
    return stat.S_IMODE(path.stat().st_mode) == 0o600


def test_start_stop_and_a_second_start_that_keeps_everything(installation: Installation) -> None:
    var = installation.folder / "var"
    first = installation.start(PORT=str(ports.free_port()))
    shown = installation.until_up(first)
    mark = _run_note(installation)["mark"]
    assert len(processes.bearing(MARK, mark)) == 6
    assert "demo@hypereal.test  a password\n" in shown and "  ck_demo\n" in shown
    assert f"Hypereal runs at {installation.environment['SITE_URL']}\n" in shown
    assert installation.environment["HYPEREAL_DEMO_FILE"] == str(var / "demo.json")
    assert _private(var / "secrets.json") and _private(var / "run.json")
    with psycopg.connect(installation.environment["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS value")

    said = installation.stop(first)
    assert first.returncode == 0, said
    assert installation.living() == []
    ends = [event.removesuffix(" ends") for event in installation.events if event.endswith(" ends")]
    assert [ends[0], set(ends[1:3]), set(ends[3:])] == ["web", {"cron", "worker"}, {"demo-stripe", "sandbox", "gpu"}]
    assert not (var / "run.json").exists()

    before, secrets = time.monotonic(), (var / "secrets.json").read_text()
    second = installation.start(PORT=str(ports.free_port()))
    installation.until_up(second)
    assert time.monotonic() - before < SECOND_START_SECONDS
    assert (var / "secrets.json").read_text() == secrets
    with psycopg.connect(installation.environment["DATABASE_URL"]) as connection:
        assert connection.execute("SELECT value FROM kept").fetchone() == (7,)
    assert "ck_demo" not in "".join(log.read_text() for log in (var / "log").iterdir())
    installation.stop(second, signal.SIGTERM)
    assert second.returncode == 0


def test_kill_9_of_the_supervisor_leaves_nothing_that_blocks_the_next_start(installation: Installation) -> None:
    (installation.folder / "worker.stubborn").touch()  # hears its parent-death signal and goes on
    port = str(ports.free_port())
    first = installation.start(PORT=port)
    installation.until_up(first)
    mark, leftovers = _run_note(installation)["mark"], installation.living()
    first.kill()
    first.communicate()
    installation.wait_for("worker ignores SIGTERM")
    assert installation.living()

    (installation.folder / "worker.stubborn").unlink()
    second = installation.start(PORT=port)
    assert f"port {port} is taken" not in installation.until_up(second)
    assert _run_note(installation)["mark"] != mark
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in leftovers)
    installation.stop(second)


def test_a_killed_database_comes_back_at_the_same_address(installation: Installation) -> None:
    supervisor = installation.start(PORT=str(ports.free_port()))
    installation.until_up(supervisor)
    url = installation.environment["DATABASE_URL"]
    data = installation.folder / "var" / "postgres" / "data"
    postmaster = int((data / "postmaster.pid").read_text().splitlines()[0])
    os.kill(postmaster, signal.SIGKILL)
    assert processes.wait_until(lambda: _postmaster(data) not in (None, postmaster) and _connects(url), 90, every=0.2)
    assert "PostgreSQL ended with status -9" in installation.stop(supervisor)


def _postmaster(data: Path) -> int | None:
    try:
        return int((data / "postmaster.pid").read_text().splitlines()[0])
    except (OSError, ValueError, IndexError):
        return None


def _connects(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def test_a_second_supervisor_leaves_the_first_alone(installation: Installation) -> None:
    first = installation.start(servers=False, PORT=str(ports.free_port()))
    installation.until_up(first)
    url = installation.environment["SITE_URL"]
    second = installation.start(servers=False)
    output, _ = second.communicate(timeout=180)
    assert output == f"Hypereal already runs from this folder at {url} (process {first.pid}).\n"
    assert second.returncode == 1
    assert first.poll() is None
    installation.stop(first)


def test_a_taken_port_is_told_and_the_next_free_one_used(installation: Installation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        supervisor = installation.start(servers=False, PORT=str(port))
        shown = installation.until_up(supervisor)
    other = int(installation.environment["PORT"])
    assert other > port
    assert f"port {port} is taken, so this is port {other}\n" in shown
    assert f"Hypereal runs at http://127.0.0.1:{other}\n" in shown
    installation.stop(supervisor)


def test_a_port_that_is_no_port_is_told_in_one_sentence(installation: Installation) -> None:
    supervisor = installation.start(servers=False, PORT="http")
    output, _ = supervisor.communicate(timeout=180)
    assert output.splitlines()[0] == "PORT must be a number from 1 to 65000, not 'http'."
    assert supervisor.returncode == 1


def test_a_process_that_ends_is_started_again_and_its_last_words_shown(installation: Installation) -> None:
    supervisor = installation.start(servers=False, PORT=str(ports.free_port()))
    installation.until_up(supervisor)
    installation.wait_for("cron starts")
    cron = next(p for p in processes.bearing(MARK, _run_note(installation)["mark"]) if "run_cron" in p.cmdline())
    cron.kill()
    installation.wait_for("cron starts", times=2)
    said = installation.stop(supervisor)
    assert "cron ended with status -9" in said
    assert "    cron says: started" in said
    assert supervisor.returncode == 0


def test_a_process_that_ends_again_and_again_stops_the_installation(installation: Installation) -> None:
    (installation.folder / "worker.broken").touch()
    supervisor = installation.start(servers=False, PORT=str(ports.free_port()))
    output, _ = supervisor.communicate(timeout=180)
    assert supervisor.returncode == 1
    assert "worker ended 6 times within 300 s: giving up." in output
    assert "    worker says: broken" in output
    assert installation.events.count("worker starts") == 6
    assert {"web ends", "cron ends", "sandbox ends"} <= set(installation.events)


@pytest.mark.parametrize(("part", "words"), [("web", "The web process does not answer"), ("prepare", "no such table")])
def test_a_start_that_fails_shows_why_and_leaves_nothing(installation: Installation, part: str, words: str) -> None:
    (installation.folder / f"{part}.broken").touch()
    supervisor = installation.start(servers=False, PORT=str(ports.free_port()))
    output, _ = supervisor.communicate(timeout=180)
    assert supervisor.returncode == 1
    assert words in output and f"    {part} says: " in output
    assert installation.living() == []
    assert not (installation.folder / "var" / "run.json").exists()


def test_asked_twice_the_supervisor_waits_for_nobody(installation: Installation) -> None:
    (installation.folder / "web.stubborn").touch()
    supervisor = installation.start(servers=False, PORT=str(ports.free_port()))
    installation.until_up(supervisor)
    supervisor.send_signal(signal.SIGINT)
    installation.wait_for("web ignores SIGTERM")
    before = time.monotonic()
    installation.stop(supervisor)
    assert time.monotonic() - before < WEB_DRAIN_SECONDS / 2


def test_what_the_outside_brings_replaces_the_stand_ins(installation: Installation) -> None:
    supervisor = installation.start(
        servers=False,
        PORT=str(ports.free_port()),
        STRIPE_SECRET_KEY="sk_live_of_the_operator",
        SANDBOX_BASE_URL="http://elsewhere:1",
        EMAIL_URL="smtp://mail.example",
        HYPEREAL_DEMO="0",
        DJANGO_SECRET_KEY="of the operator",
    )
    shown = installation.until_up(supervisor)
    env = installation.environment
    assert "Sign in" not in shown
    assert env["STRIPE_SECRET_KEY"] == "sk_live_of_the_operator"
    assert env["DJANGO_SECRET_KEY"] == "of the operator"
    assert env["DATABASE_URL"] == "postgresql://elsewhere/hypereal"
    assert env["EMAIL_URL"] == "smtp://mail.example"
    assert not {"STRIPE_API_BASE", "STRIPE_WEBHOOK_SECRETS", "DEMO_PAYMENTS"} & set(env)
    assert not {"sandbox starts", "demo-stripe starts"} & set(installation.events)
    installation.stop(supervisor)

"""The real installation under its supervisor: up, answers, stops without a trace, and comes back as it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypereal_site import processes
from hypereal_site.supervisor import MARK
from tests.support import ports
from tests.support.services import FOLDER, ROOT

#: The second start takes 6 s on an idle machine of two cores; this one may be running the rest of the tests.
SECOND_START_SECONDS = 90.0


@pytest.fixture
def var() -> Iterator[Path]:
    """A data folder of its own, which the user that PostgreSQL runs as can reach."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="var-", dir=FOLDER, ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


def _start(var: Path) -> tuple[subprocess.Popen[str], str]:
    """The supervisor and what it printed until the product was up."""
    passed_on = ("PATH", "HOME", "LANG", "SSL_CERT_FILE", "PYTHONPYCACHEPREFIX")
    env = {name: os.environ[name] for name in passed_on if name in os.environ}
    process = subprocess.Popen(
        [sys.executable, "-m", "hypereal_site.supervisor"],
        cwd=ROOT,
        env={**env, "HYPEREAL_VAR": str(var), "PORT": str(ports.free_port())},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    printed = ""
    for line in process.stdout:
        printed += line
        if "Ctrl-C" in line:
            return process, printed
    raise AssertionError(f"the installation did not come up:\n{printed}")


def _get(url: str, **headers: str) -> bytes:
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=90) as answer:
        return bytes(answer.read())


def test_up_used_stopped_and_up_again(var: Path) -> None:
    first, _ = _start(var)
    try:
        demo = json.loads((var / "demo.json").read_text())
        assert set(demo) == {"url", "api_key", "email", "password"}
        assert (var / "demo.json").stat().st_mode & 0o777 == 0o600
        mark = json.loads((var / "run.json").read_text())["mark"]
        assert b"<html" in _get(demo["url"] + "/")
        models = json.loads(_get(demo["url"] + "/api/v1/models", Authorization=f"Bearer {demo['api_key']}"))
        assert models["data"]
    finally:
        first.send_signal(signal.SIGINT)
        said, _ = first.communicate(timeout=180)
    assert first.returncode == 0, said
    assert processes.bearing(MARK, mark) == []
    assert processes.working_in(var / "postgres" / "data", "postgres") == []
    assert processes.working_in(var / "redis", "redis-server") == []

    before = time.monotonic()
    second, _ = _start(var)
    seconds = time.monotonic() - before
    try:
        again = json.loads((var / "demo.json").read_text())
        assert {**again, "url": demo["url"]} == demo
        assert json.loads(_get(again["url"] + "/api/v1/models", Authorization=f"Bearer {again['api_key']}"))["data"]
    finally:
        second.send_signal(signal.SIGTERM)
        second.communicate(timeout=180)
    assert seconds < SECOND_START_SECONDS
    logs = "".join(log.read_text(errors="replace") for log in (var / "log").iterdir())
    assert demo["api_key"] not in logs and demo["password"] not in logs

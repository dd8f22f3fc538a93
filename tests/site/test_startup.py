"""A configuration that can't be meant serves nobody: the checks run at each start, and cost next to nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from django.core.checks import registry
from pytest_django import Settings

from core import startup

ROOT = Path(__file__).resolve().parents[2]
#: Seconds of CPU that the checks may add to a start.
MOST_SECONDS = 0.3


def start(module: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    given = {**os.environ, **settings}
    return subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, timeout=180, check=False)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"DEMO_PAYMENTS": "1", "ALLOW_DEMO_PAYMENTS": "0"}, "billing.E001"),
        ({"COMMIT_MODE": "sometimes"}, "hypereal.E003"),
    ],
    ids=["payments", "commit-mode"],
)
def test_a_server_does_not_start(settings: dict[str, str], complaint: str) -> None:
    ended = start("hypereal_site.serve", "--role", "gateway", "--port", "0", **settings)
    assert ended.returncode == 2
    assert complaint in ended.stderr


def test_nothing_is_migrated_or_seeded() -> None:
    ended = start("hypereal_site.prepare", ENCRYPTION_KEYS="")
    assert ended.returncode == 1
    assert "hypereal.E001" in ended.stderr
    assert ended.stdout == ""


def test_only_errors_stop_a_start(settings: Settings) -> None:
    settings.DEMO_PAYMENTS, settings.STRIPE_API_BASE, settings.STRIPE_SECRET_KEY = False, "", ""
    assert startup.complaints() == ""  # nobody can top up, which is a warning
    settings.STRIPE_API_BASE = "http://127.0.0.1:9"
    assert "billing.E003" in startup.complaints()


def test_the_checks_are_cheap(settings: Settings) -> None:
    before = time.process_time()
    startup.complaints()
    assert time.process_time() - before < MOST_SECONDS


@pytest.mark.django_db
def test_with_a_database_they_ask_it_too(settings: Settings) -> None:
    settings.DEMO_PAYMENTS, settings.STRIPE_API_BASE = False, ""
    assert startup.complaints(["default"]) == ""


def test_every_error_of_ours_that_needs_no_deployment_stops_a_start() -> None:
    ours = [check for check in registry.registry.registered_checks if check.__module__.endswith(".checks")]
    ours = [check for check in ours if check.__module__.split(".")[0] in ("billing", "hypereal_site")]
    assert len(ours) >= 5
    for check in ours:
        assert startup.TAG in check.tags, check

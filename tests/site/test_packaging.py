"""Locks, Makefile and production files keep their promises."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.support.services import ROOT

LOCKS = ("requirements", "requirements-dev", "requirements-uv")


def _locked(name: str) -> dict[str, str]:
    """Package → its entry (versions, markers, hashes) in a lock."""
    text = re.sub(r"^#.*\n", "", (ROOT / f"{name}.lock").read_text(), flags=re.MULTILINE)
    entries = re.split(r"\n(?=\S)", text.strip())
    return {entry.split("==")[0]: entry for entry in entries}


def _asked(name: str) -> list[str]:
    """Package names in a .in file."""
    lines = (ROOT / f"{name}.in").read_text().splitlines()
    return [re.split(r"[\[<>=]", line)[0] for line in lines if line and not line.startswith(("#", "-"))]


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_one_version_and_hashes(name: str) -> None:
    locked = _locked(name)
    assert locked
    for package, entry in locked.items():
        assert re.match(rf"{package}==[\w.]+( ;[^\\]+)? \\\n", entry), entry
        assert "--hash=sha256:" in entry


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_has_all_that_is_asked_for_and_names_no_index(name: str) -> None:
    assert set(_asked(name)) <= set(_locked(name))
    assert not re.search(r"https?:|file:|--(extra-)?index|--find-links", (ROOT / f"{name}.lock").read_text())


def test_both_locks_agree_where_they_overlap() -> None:
    runtime, dev = _locked("requirements"), _locked("requirements-dev")
    version = re.compile(r"==([\w.]+)")
    for package in runtime.keys() & dev.keys():
        assert version.findall(runtime[package])[0] == version.findall(dev[package])[0], package


def test_every_direct_dependency_has_a_bound_above() -> None:
    for name in ("requirements", "requirements-dev"):
        for line in (ROOT / f"{name}.in").read_text().splitlines():
            if line and not line.startswith(("#", "-")) and not line.startswith("certifi"):
                assert "<" in line or "==" in line, line


def test_make_help_names_every_target() -> None:
    command = ["make", "--no-print-directory", "help"]  # make tells its directory where make runs the tests
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    assert {line.split()[1] for line in shown.splitlines()} == set(phony[1].split())


def test_production_files_hold_no_secret() -> None:
    compose = (ROOT / "compose.yaml").read_text()
    for name in ("DJANGO_SECRET_KEY", "ENCRYPTION_KEYS", "API_KEY_PEPPER", "POSTGRES_PASSWORD", "STRIPE_SECRET_KEY"):
        values = re.findall(rf"^\s+{name}: (.*)$", compose, re.MULTILINE)
        assert values and all(value.startswith("${") for value in values), name
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {"var", ".env*", ".venv", ".git"} <= set(ignored)
    assert re.search(r"^USER hypereal$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)

"""Each setting is documented, and each document's setting is there."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = [path.parent for path in ROOT.glob("*/__init__.py") if path.parent.name != "tests"]
READER = r"(?:env\.(?:text|flag|integer|seconds|words)|os\.environ(?:\.get|\.pop)?)"
READS = re.compile(READER + r'[(\[]\s*"([A-Z][A-Z0-9_]+)"')
#: Set by our own processes for each other; and what the setup snippets have customers set on their machines.
OURS = {"DJANGO_SETTINGS_MODULE", "HYPEREAL_STARTED_AT", "HYPEREAL_API_KEY", "WEBHOOK_SECRET"}


def read_by_code() -> Iterator[str]:
    for folder in PRODUCT:
        for file in folder.rglob("*.py"):
            yield from READS.findall(file.read_text("utf-8"))


def providers_keys() -> set[str]:
    data = tomllib.loads((ROOT / "catalog" / "data" / "providers.toml").read_text("utf-8"))
    rows = next(iter(data.values()))
    listed = rows.values() if isinstance(rows, dict) else rows
    return {row["secret_env"] for row in listed if row.get("secret_env")}


def documented() -> set[str]:
    text = (ROOT / "docs" / "settings.md").read_text("utf-8")
    rows = re.findall(r"^\| `([A-Z][A-Z0-9_]+)`", text, re.M)
    assert len(rows) == len(set(rows)), "documented twice"
    return set(rows) | set(re.findall(r"`([A-Z0-9_]+_API_KEY)`", text))


def test_every_variable_is_documented_and_no_other() -> None:
    read = set(read_by_code()) - OURS
    assert {"DATABASE_URL", "COMMIT_MODE", "PORT"} <= read, "the pattern above finds nothing"
    assert documented() == read | providers_keys()

"""The recordings folder: exchanges that real providers had, what each costs, and the server that replays them.

It is no part of this repository. Where it does not lie beside the checkout (or at HYPEREAL_RECORDINGS), tests that need
it are skipped, and the end of the run says so.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from catalog.pricing import Rates, TokenRates
from catalog.source import microcredits

FOLDER = Path(os.environ.get("HYPEREAL_RECORDINGS") or Path(__file__).parents[3] / "shared" / "fixtures" / "upstream")
_INDEX = FOLDER / "index.json"
_SERVER = FOLDER.parents[1] / "tools" / "replay_upstream.py"
_SCHEMAS = FOLDER.parents[1] / "specs" / "openai-openapi-trimmed.json"
THERE = _INDEX.exists() and _SERVER.exists()

#: For `pytestmark` of files that replay.
NEEDED = [
    pytest.mark.recordings,
    pytest.mark.skipif(not THERE, reason=f"no recordings at {FOLDER} (set HYPEREAL_RECORDINGS)"),
]


@dataclass(frozen=True)
class Exchange:
    """One recorded exchange: ``facts`` is its line of the index, ``response`` what the provider answered."""

    facts: dict[str, Any]
    request: dict[str, Any]
    response: dict[str, Any]

    @property
    def id(self) -> str:
        return str(self.facts["id"])

    @property
    def status(self) -> int:
        return int(self.facts["status"])

    @property
    def tags(self) -> list[str]:
        return list(self.facts["tags"])

    @property
    def is_stream(self) -> bool:
        return "sse" in self.response

    @property
    def asks_usage(self) -> bool:
        return bool((self.request.get("stream_options") or {}).get("include_usage"))

    @property
    def body(self) -> bytes:
        """The bytes that the replay server sends without a fault."""
        if self.is_stream:
            return "".join(self.response["sse"]).encode()
        if "text" in self.response:
            return str(self.response["text"]).encode()
        return json.dumps(self.response["body"], ensure_ascii=False).encode()

    def charge(self, price_list: str) -> int | None:
        """Microcredits under that price list; None where the provider gave no usage, 0 for a failure."""
        if self.facts["billed"] is None:
            return None
        return int(self.facts["charge_microcredits"][price_list]) if "charge_microcredits" in self.facts else 0


def index() -> dict[str, Any]:
    """The index of the folder; an empty one where there is none."""
    if not THERE:
        return {"fixtures": [], "test_prices_usd_per_mtok": {}}
    return dict(json.loads(_INDEX.read_text(encoding="utf-8")))


def exchange(name: str) -> Exchange:
    """One exchange by its id."""
    return next(each for each in exchanges() if each.id == name)


@lru_cache
def exchanges(endpoint: str = "chat.completions") -> tuple[Exchange, ...]:
    """Every exchange of an endpoint, whatever the provider."""
    found = []
    for facts in index()["fixtures"]:
        if facts["endpoint"] == endpoint:
            recording = json.loads((FOLDER / f"{facts['id']}.json").read_text(encoding="utf-8"))
            found.append(Exchange(facts, recording["request"]["body"] or {}, recording["response"]))
    return tuple(found)


def rates(price_list: str) -> Rates:
    """One of the index's price lists."""
    usd = dict(index()["test_prices_usd_per_mtok"][price_list])
    usd["cached_input"] = usd.pop("cache_read")
    return Rates(tokens=TokenRates(**{bucket: microcredits(price) for bucket, price in usd.items()}))


@lru_cache
def schemas() -> dict[str, Any]:
    """The published schemas of OpenAI's API, loosened to what real answers hold."""
    return dict(json.loads(_SCHEMAS.read_text(encoding="utf-8")))


@contextmanager
def running() -> Iterator[Any]:
    """The replay server, for as long as the block lasts: ``.base(id, cut=300)`` is a provider's base URL."""
    with _module().ReplayServer(str(FOLDER)) as server:
        yield server
    server.loop.close()


@lru_cache
def _module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("replay_upstream", _SERVER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module

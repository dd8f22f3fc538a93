"""Every recorded exchange with billed tokens costs exactly what the recordings folder says, under both price lists."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from catalog.pricing import Rates, charge
from tests.catalog.values import tokens
from upstreams.wire import Usage

FOLDER = Path(os.environ.get("HYPEREAL_RECORDINGS") or Path(__file__).parents[3] / "shared" / "fixtures" / "upstream")
INDEX = FOLDER / "index.json"
LEAST = 100

pytestmark = [
    pytest.mark.recordings,
    pytest.mark.skipif(not INDEX.exists(), reason=f"no recordings at {FOLDER} (set HYPEREAL_RECORDINGS)"),
]


def usage_of(billed: dict[str, Any]) -> Usage:
    written = billed.get("cache_write", billed.get("cache_write_reported", 0))
    return Usage(
        input_tokens=billed["input_tokens"],
        cached_input_tokens=billed.get("cache_read", 0),
        cache_write_5m_tokens=billed.get("cache_write_5m", 0) + written,
        cache_write_1h_tokens=billed.get("cache_write_1h", 0),
        output_tokens=billed["output_tokens"],
    )


@pytest.mark.parametrize("name", ["A", "B"])
def test_recorded_usage_costs_what_the_index_says(name: str) -> None:
    index = json.loads(INDEX.read_text(encoding="utf-8"))
    listed = dict(index["test_prices_usd_per_mtok"][name])
    listed["cached_input"] = listed.pop("cache_read")
    rates = Rates(tokens=tokens(**listed))
    ran = 0
    for exchange in index["fixtures"]:
        if "charge_microcredits" not in exchange:
            continue
        cost = charge(rates, usage_of(exchange["billed"]))
        assert cost.amount_microcredits == exchange["charge_microcredits"][name], exchange["id"]
        ran += 1
    assert ran >= LEAST, f"only {ran} exchanges were compared"

"""What `make clients` believes and what it does not. The clients themselves run there, not here."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest

from clients import agents, node_sdks, python_sdks, table
from clients.programs import run
from clients.site import Site
from clients.turns import HEARD, OPENING, Answer, Client, Kind, Result, Turn, TurnFailed, attempt, gathered

PRICES = {"input": Decimal(100), "cached_input": Decimal(10), "cache_write_5m": Decimal(125), "output": Decimal(500)}


def call(**changes: Any) -> dict[str, Any]:
    """A row of the log: 0.1 credits for a thousand fresh tokens, 0.5 for a thousand of output."""
    row = {
        "endpoint": "chat", "model": "m", "status": 200, "errorType": None, "estimated": False, "inputTokens": 1000,
        "cachedInputTokens": 0, "cacheWriteTokens": 0, "outputTokens": 1000, "costCredits": Decimal("0.6"),
    }  # fmt: skip
    return {**row, **changes}


class FakeSite(Site):
    """A site whose log holds what a turn left there."""

    def __init__(self) -> None:
        super().__init__({"url": "http://127.0.0.1:1", "api_key": "ck_x"})
        self._prices = {"m": PRICES}
        self.log: dict[str, dict[str, Any]] = {"old": call()}

    def calls(self) -> dict[str, dict[str, Any]]:
        return dict(self.log)


def tried(answer: Answer | Exception, *rows: dict[str, Any], kind: Kind = Kind.PLAIN) -> Result:
    site = FakeSite()

    def ask(_: Site, turn: Turn) -> Answer:
        if isinstance(answer, Exception):
            raise answer
        site.log |= {str(number): row for number, row in enumerate(rows)}
        return Answer(answer.text, answer.streamed, answer.ran.replace("PROOF", turn.proof))

    return attempt(site, Client("c", "1", "chat", "", ask), kind)


def test_a_right_turn_is_right() -> None:
    result = tried(Answer(f"{OPENING}."), call())
    assert (result.trouble, result.calls, result.credits) == ("", 1, Decimal("0.6"))
    assert tried(gathered([OPENING, *"abcd"]), call(), kind=Kind.STREAM).trouble == ""
    heard = Answer(f"{OPENING}. {HEARD}.", ran="Sunny in PROOF")
    assert tried(heard, call(), call(), kind=Kind.TOOL).trouble == ""


@pytest.mark.parametrize(
    ("answer", "rows", "kind", "trouble"),
    [
        (Answer("Hello"), [call()], Kind.PLAIN, "not the model's"),
        (TurnFailed("exit 1"), [], Kind.PLAIN, "exit 1"),
        (ValueError("x"), [], Kind.PLAIN, "ValueError: x"),
        (gathered([OPENING, "all at once"]), [call()], Kind.STREAM, "as a stream"),
        (Answer(f"{OPENING} {HEARD}"), [call(), call()], Kind.TOOL, "did not run"),
        (Answer(OPENING, ran="PROOF"), [call(), call()], Kind.TOOL, "did not hear"),
        (Answer(OPENING), [call(endpoint="responses")], Kind.PLAIN, "responses 200"),
        (Answer(OPENING), [call(), call(status=502, errorType="upstream_error")], Kind.PLAIN, "upstream_error"),
        (Answer(OPENING), [call(estimated=True)], Kind.PLAIN, "estimated"),
        (Answer(OPENING), [call(costCredits=Decimal("0.600001"))], Kind.PLAIN, "instead of 0.6"),
    ],
)
def test_a_wrong_turn_says_what_is_wrong(
    answer: Answer | Exception, rows: list[dict[str, Any]], kind: Kind, trouble: str
) -> None:
    assert trouble in tried(answer, *rows, kind=kind).trouble


def test_a_price_is_rounded_once() -> None:
    site = FakeSite()
    row = call(inputTokens=1007, cachedInputTokens=300, cacheWriteTokens=200, outputTokens=1)
    assert site.price_of(row) == Decimal("0.079200")  # 507 × 100 + 300 × 10 + 200 × 125 + 500
    assert site.price_of(call(inputTokens=1, outputTokens=0)) == Decimal("0.0001")


def test_a_program_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(TurnFailed, match="exit 3: Error: no such model"):
        run("failing", ["/bin/sh", "-c", "echo 'Error: no such model' >&2; exit 3"], tmp_path, {})
    assert run("echo", ["/bin/cat"], tmp_path, {}, said="heard") == "heard"


def test_the_readme_shows_every_client_at_its_version() -> None:
    readme = table.README.read_text("utf-8")
    nowhere = Path("nowhere")
    wanted = [*python_sdks.all_of_them(), *node_sdks.all_of_them(nowhere), *agents.all_of_them(nowhere)]
    assert len(wanted) >= 14
    for client in wanted:
        assert f"| {client.name} | {client.version} | {client.endpoint} | {client.setting} |" in readme


def test_the_table_tells_what_went_wrong() -> None:
    client = Client("c", "1.2", "chat", "base URL", cast(Any, None))
    results = {Kind.PLAIN: Result(Kind.PLAIN, ""), Kind.TOOL: Result(Kind.TOOL, "exit 1")}
    told = table.text([(client, results)], date(2026, 1, 2))
    assert "| c | 1.2 | chat | base URL | yes | – | no |" in told
    assert "1 of 2 turns were right on 2026-01-02." in told

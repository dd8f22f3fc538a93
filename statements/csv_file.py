"""A statement as CSV (RFC 4180): one line an amount, every decimal of it, no cell that a spreadsheet would run."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Final

from core import money
from statements import wording
from statements.composing import Share, Statement
from usage.export import Returning, exact_text, safe_text
from usage.queries import ModelCost

#: ``section`` is balance, flow, movement, model, key or member. Credits that left the wallet are negative in the
#: first three; in the others they are what calls took.
COLUMNS: Final = (
    *("section", "name", "id", "time", "requests", "inputTokens", "cachedInputTokens", "outputTokens", "credits"),
)

Line = tuple[str, str, str, str, str, str, str, str, str]


def lines(statement: Statement) -> Iterator[str]:
    """The file, line by line."""
    writer = csv.writer(Returning(), lineterminator="\r\n")
    yield writer.writerow(COLUMNS)
    for line in _lines(statement):
        yield writer.writerow(line)


def _lines(made: Statement) -> Iterator[Line]:
    yield _amount("balance", "opening", made.month.start.isoformat(), made.opening_microcredits)
    for _heading, flow in wording.headed(made.flows):
        yield _amount("flow", flow.key, "", flow.amount_microcredits)
    until = min(made.made_at, made.month.end)
    yield _amount("balance", "closing", until.isoformat(), made.closing_microcredits)
    for movement in made.movements:
        at, amount = movement.at.isoformat(), movement.amount_microcredits
        yield ("movement", movement.key, str(movement.reference), at, "", "", "", "", _credits(amount))
    for cost in made.models:
        yield _model(cost)
    for key in made.keys:
        yield _share("key", key)
    for member in made.members:
        yield _share("member", member)


def _amount(section: str, name: str, time: str, amount_microcredits: int) -> Line:
    return (section, name, "", time, "", "", "", "", _credits(amount_microcredits))


def _model(cost: ModelCost) -> Line:
    sums = cost.totals
    tokens = (str(sums.input_tokens), str(sums.cached_input_tokens), str(sums.output_tokens))
    return ("model", safe_text(cost.model), "", "", str(sums.requests), *tokens, _credits(sums.charged_microcredits))


def _share(section: str, share: Share) -> Line:
    identifier = str(share.id or "")
    amount = _credits(share.charged_microcredits)
    return (section, safe_text(share.name), identifier, "", str(share.requests), "", "", "", amount)


def _credits(amount_microcredits: int) -> str:
    return exact_text(money.credits(amount_microcredits))

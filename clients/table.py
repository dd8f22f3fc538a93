"""The compatibility table as Markdown, and its place in the README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Final

from clients.turns import Client, Kind, Result

README: Final = Path(__file__).resolve().parents[1] / "README.md"
_BEGIN: Final = "<!-- clients: written by `make clients ARGS=--write` -->"
_END: Final = "<!-- end of clients -->"
Rows = Sequence[tuple[Client, Mapping[Kind, Result]]]


def text(rows: Rows, day: date) -> str:
    """One line a client and endpoint, with what each turn came to."""
    lines = [
        "| client | version | endpoint | setting | plain | streamed | tool |",
        "| --- | --- | --- | --- | :---: | :---: | :---: |",
    ]
    for client, results in rows:
        cells = [client.name, client.version, client.endpoint, client.setting]
        cells += [_cell(results.get(kind)) for kind in Kind]
        lines.append(f"| {' | '.join(cells)} |")
    tried = [result for _, results in rows for result in results.values()]
    fine = sum(not result.trouble for result in tried)
    return "\n".join([*lines, "", f"{fine} of {len(tried)} turns were right on {day.isoformat()}."])


def write(table: str) -> None:
    """Put the table between its marks in the README. Raises ValueError where they are not there."""
    before, begin, rest = README.read_text("utf-8").partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError("README.md has no place for the table")
    README.write_text(f"{before}{_BEGIN}\n{table}\n{_END}{after}", "utf-8")


def _cell(result: Result | None) -> str:
    if result is None:
        return "–"
    return "no" if result.trouble else "yes"

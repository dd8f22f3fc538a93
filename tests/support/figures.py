"""Figures that tests measured, shown together at the end of a run. They travel on reports: workers print nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

_NAME = "figures"


def note(record_property: Callable[[str, object], None], line: str) -> None:
    """Put ``line`` on the running test's report."""
    record_property(_NAME, line)


def show(terminal: pytest.TerminalReporter) -> None:
    """Print what all reports bear."""
    reports = [report for outcome in ("passed", "failed") for report in terminal.stats.get(outcome, [])]
    lines = [line for report in reports for name, line in report.user_properties if name == _NAME]
    if lines:
        terminal.section("figures")
        for line in lines:
            terminal.line(str(line))

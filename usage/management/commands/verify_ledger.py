"""Prove that ledger, balances, holds, meters, log and sums agree."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from core import money
from usage import verify


class Command(BaseCommand):
    help = (
        "Checks the books. Exit code 0: they agree; 1: they disagree, and the wrong rows are named; 2: they could "
        "not be read. --seal closes the days before today."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--seal", action="store_true", help="seal the days before today if the books are right")
        parser.add_argument("--json", action="store_true", help="print the report as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            report = verify.verify()
            sealed = verify.seal() if options["seal"] and report.clean else []
        except DatabaseError as error:  # not to be taken for books that disagree
            raise CommandError(f"the books could not be read: {error}", returncode=2) from error
        if options["json"]:
            self.stdout.write(json.dumps(_as_json(report, [day.isoformat() for day in sealed])))
        else:
            self._print(report)
            if options["seal"] and not report.clean:
                self.stdout.write("nothing was sealed")
            elif sealed:
                self.stdout.write(f"sealed {len(sealed)} day(s), the last {sealed[-1]}")
        if not report.clean:
            sys.exit(1)

    def _print(self, report: verify.Report) -> None:
        wrong = {finding.check.name: finding for finding in report.findings}
        for check in verify.checks():
            finding = wrong.get(check.name)
            mark = self.style.SUCCESS("ok   ") if finding is None else self.style.ERROR("WRONG")
            self.stdout.write(f"{mark} {check.name}: {check.claim}")
            if finding is not None:
                self.stdout.write(f"      {finding.wrong} row(s), among them: " + "; ".join(finding.examples))
        self.stdout.write(
            f"{report.wallets} wallets, {report.transfers} transfers, {report.log_rows} calls, "
            f"{money.credits(report.charged_microcredits)} credits charged"
        )


def _as_json(report: verify.Report, sealed: list[str]) -> dict[str, Any]:
    return {
        "clean": report.clean,
        "wallets": report.wallets,
        "transfers": report.transfers,
        "logRows": report.log_rows,
        "chargedMicrocredits": report.charged_microcredits,
        "findings": [{"check": f.check.name, "wrong": f.wrong, "examples": list(f.examples)} for f in report.findings],
        "sealed": sealed,
    }

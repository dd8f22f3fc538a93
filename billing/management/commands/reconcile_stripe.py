"""Compare Stripe with the books."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing import reconcile, reversals, stripe_api, stripe_keys, topups


class Command(BaseCommand):
    help = "Lists every difference between Stripe and the books; exit code 1 where there is one, 2 without an answer."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--days", type=int, default=reconcile.LOOK_BACK.days, help="how far back to look")
        parser.add_argument("--heal", action="store_true", help="book first what only got lost on the way")
        parser.add_argument("--json", action="store_true", help="print the report as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        if not stripe_keys.is_configured():
            raise CommandError("STRIPE_SECRET_KEY is not set: there is nothing to compare with.")
        since = timedelta(days=options["days"])
        try:
            if options["heal"]:
                topups.heal(since=since)
                reversals.sweep()
            report = reconcile.run(since=since)
        except stripe_api.StripeFailed:
            self.stderr.write("Stripe did not answer. Nothing was compared.")
            sys.exit(2)
        counts = {"payments": report.payments, "refunds": report.refunds, "disputes": report.disputes}
        if options["json"]:
            self.stdout.write(json.dumps({**counts, "differences": report.differences}))
        else:
            for one in report.differences:
                line = "{kind}: Stripe {stripe_id} says “{theirs}”, top-up {topup_id} says “{ours}”".format(**one)
                self.stdout.write(self.style.ERROR(line))
            self.stdout.write(f"{', '.join(f'{count} {name}' for name, count in counts.items())} compared, ", ending="")
            self.stdout.write(f"{len(report.differences)} difference(s)")
        if report.differences:
            sys.exit(1)

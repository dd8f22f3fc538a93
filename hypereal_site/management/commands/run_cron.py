"""The process that sweeps, and sends webhooks on a thread of their own: no sweep that takes long holds them up."""

from __future__ import annotations

import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand

from hypereal_site import cron
from webhooks import sending


class Command(BaseCommand):
    help = "Runs the scheduled sweeps until it is told to stop. A second one does no harm."

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        sender = threading.Thread(target=sending.run_forever, args=(stop,), name="webhooks", daemon=True)
        sender.start()
        cron.run_forever(stop, cron.entries())
        sender.join(2 * sending.FAREWELL_SECONDS)

"""The process that sweeps."""

from __future__ import annotations

import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand

from hypereal_site import cron


class Command(BaseCommand):
    help = "Runs the scheduled sweeps until it is told to stop. A second one does no harm."

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        cron.run_forever(stop, cron.entries())

"""Makes the attempts: one thread over the rows, a bounded number of threads over the wire.

The threads on the wire know nothing of the database. They get a parcel and give an outcome back, so that a receiver
that hangs costs one thread for some seconds and neither a connection nor a transaction.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable

from django.conf import settings
from django.db import close_old_connections, connection

from core import clock, faults, outbound
from core.egress import EgressError, Limits, Purpose, Response
from webhooks import deliveries, fanout
from webhooks.deliveries import Outcome, Parcel

log = logging.getLogger(__name__)

_AGENT = "Hypereal-Webhooks/1.0"
_CONNECT_SECONDS = 5.0
#: How long what is on the wire is waited for when the process is told to stop.
FAREWELL_SECONDS = 5.0


def attempt(parcel: Parcel) -> Outcome:
    """One guarded POST of the parcel. Never raises: whatever goes wrong is an outcome."""
    started_at, began = clock.now(), time.monotonic()
    headers = {**parcel.headers, "user-agent": _AGENT}
    bounds = Limits(
        connect_seconds=min(_CONNECT_SECONDS, settings.WEBHOOK_SECONDS),
        total_seconds=settings.WEBHOOK_SECONDS,
        body_bytes=deliveries.ANSWER_BYTES,
        cut_body=True,
    )
    try:
        answer = outbound.call(
            parcel.url, Purpose.WEBHOOK, method="POST", headers=headers, body=parcel.body, limits=bounds
        )
    except EgressError as error:
        return Outcome(started_at, _ms_since(began), error=error.reason, error_message=str(error)[:200])
    except Exception:
        log.exception("an attempt at a webhook failed in an unforeseen way")
        return Outcome(started_at, _ms_since(began), error="internal", error_message="The attempt failed here.")
    text = answer.body.decode("utf-8", "replace").replace("\0", "\ufffd")
    return Outcome(
        started_at, _ms_since(began), status=answer.status, answer=text, asked_seconds=_asked_seconds(answer)
    )


def _ms_since(began: float) -> int:
    return int((time.monotonic() - began) * 1000)


def _asked_seconds(answer: Response) -> float | None:
    """Retry-After of an answer that may bear one; only its form in seconds."""
    text = answer.headers.get("retry-after", "").strip()
    return float(text) if answer.status in (429, 503) and text.isascii() and text.isdigit() and len(text) < 9 else None


class Sender:
    """Keeps up to ``threads`` attempts on the wire. All methods are for one thread, the one that owns it."""

    def __init__(self, threads: int | None = None, *, make: Callable[[Parcel], Outcome] = attempt) -> None:
        self._threads = threads or settings.WEBHOOK_THREADS
        self._make = make
        self._done: queue.SimpleQueue[tuple[Parcel, Outcome]] = queue.SimpleQueue()
        self._on_wire = 0

    @property
    def on_wire(self) -> int:
        """Attempts whose outcome is not recorded yet."""
        return self._on_wire

    def round(self) -> int:
        """Make deliveries of new messages and start what is due; returns how many attempts were started."""
        while fanout.fan_out(clock.now()) == fanout.MOST:
            pass
        free = self._threads - self._on_wire
        parcels = deliveries.claim(free) if free else []
        for parcel in parcels:
            self._on_wire += 1
            threading.Thread(target=self._work, args=(parcel,), name="webhook", daemon=True).start()
        return len(parcels)

    def collect(self, seconds: float) -> bool:
        """Wait up to ``seconds`` for an outcome, and record it and all others there are; whether there was one."""
        try:
            found = self._done.get(timeout=seconds) if seconds else self._done.get_nowait()
        except queue.Empty:
            return False
        while True:
            self._on_wire -= 1
            faults.point("webhook.sent")
            deliveries.record(*found)
            try:
                found = self._done.get_nowait()
            except queue.Empty:
                return True

    def finish(self, seconds: float) -> None:
        """Record what is on the wire, for ``seconds`` at most. The rest is sent again when its lease ends."""
        end = time.monotonic() + seconds
        while self._on_wire and (left := end - time.monotonic()) > 0:
            self.collect(left)

    def _work(self, parcel: Parcel) -> None:
        self._done.put((parcel, self._make(parcel)))


def run_forever(stop: threading.Event, sender: Sender | None = None) -> None:
    """Send until ``stop`` is set. Whatever fails is logged and tried again a second later: the rows remember it."""
    sender = sender or Sender()
    while not stop.is_set():
        try:
            close_old_connections()
            sender.round()
            sender.collect(settings.WEBHOOK_POLL_SECONDS)
        except Exception:
            log.exception("sending webhooks failed")
            connection.close()
            stop.wait(1.0)
    try:
        sender.finish(FAREWELL_SECONDS)
    except Exception:
        log.exception("the last outcomes of webhooks were not recorded")
    finally:
        connection.close()

"""Sends events to the product's webhook address, signed as Stripe signs, again and again until they are taken.

`Mishaps` make it as unkind as the internet: doubled, late, out of order, lost. The demo has none; tests do.
"""

from __future__ import annotations

import http.client
import json
import logging
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import stripe

log = logging.getLogger("demo_stripe.webhooks")

#: Seconds between attempts. Stripe goes on for three days; a demo that was down that long has its sweep.
RETRY_SECONDS: Final = (1.0, 3.0, 10.0, 30.0, 120.0, 600.0)
TIMEOUT_SECONDS: Final = 10.0
MAX_WAITING: Final = 1_000


@dataclass(frozen=True, slots=True)
class Mishaps:
    """What goes wrong on the way."""

    copies: int = 1
    delay_seconds: float = 0.0
    #: Hold back this many and send them the last one first.
    shuffle_of: int = 1
    lose: Callable[[str], bool] = lambda event_type: False


@dataclass(slots=True, eq=False)
class Delivery:
    """One copy of an event on its way."""

    event_id: str
    type: str
    body: bytes
    due: float
    attempts: int = 0


Post = Callable[[str, bytes, str], int]


def post(url: str, body: bytes, signature: str) -> int:
    """Send one webhook over HTTP; the status, or 0 where there was no answer."""
    headers = {"Content-Type": "application/json; charset=utf-8", "Stripe-Signature": signature}
    request = urllib.request.Request(url, body, headers, method="POST")  # noqa: S310 - the operator's own address
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except (OSError, http.client.HTTPException):
        return 0


class Sender:
    """The queue of what is still to be delivered. ``tick`` does what is due; nothing happens by itself."""

    def __init__(
        self, url: str, secret: str, *, clock: Callable[[], float], mishaps: Mishaps | None = None, send: Post = post
    ) -> None:
        self.url = url
        self.secret = secret
        self.mishaps = mishaps or Mishaps()
        self._clock = clock
        self._send = send
        self._lock = threading.Lock()
        self._held_back: list[Delivery] = []
        self._waiting: list[Delivery] = []

    def add(self, event: dict[str, Any]) -> None:
        """Take an event for delivery."""
        if not self.url or self.mishaps.lose(event["type"]):
            return
        body = json.dumps(event, separators=(",", ":")).encode()
        due = self._clock() + self.mishaps.delay_seconds
        with self._lock:
            for _ in range(self.mishaps.copies):
                self._held_back.append(Delivery(event["id"], event["type"], body, due))
            if len(self._held_back) >= self.mishaps.shuffle_of * self.mishaps.copies:
                self._waiting.extend(reversed(self._held_back))
                self._held_back.clear()
            del self._waiting[:-MAX_WAITING]

    def release(self) -> None:
        """Let go of what was held back to be shuffled."""
        with self._lock:
            self._waiting.extend(reversed(self._held_back))
            self._held_back.clear()

    def pending(self) -> list[str]:
        """The ids of the events that nobody has taken yet."""
        with self._lock:
            return [one.event_id for one in (*self._waiting, *self._held_back)]

    def tick(self) -> int:
        """Send what is due, each once. Returns how many were taken."""
        now = self._clock()
        with self._lock:
            due = [one for one in self._waiting if one.due <= now]
        return sum(self._attempt(one) for one in due)

    def _attempt(self, one: Delivery) -> bool:
        stamp = int(self._clock())
        signature = stripe.WebhookSignature.generate_signature_header(one.body.decode(), self.secret, stamp)
        status = self._send(self.url, one.body, signature)
        taken = 200 <= status < 300
        one.attempts += 1
        with self._lock:
            if taken or one.attempts > len(RETRY_SECONDS):
                if one in self._waiting:
                    self._waiting.remove(one)
            else:
                one.due = self._clock() + RETRY_SECONDS[one.attempts - 1]
        if not taken:
            log.warning("webhook %s (%s) was not taken: status %s", one.event_id, one.type, status)
        return taken

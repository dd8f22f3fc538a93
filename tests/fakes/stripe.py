"""The demo's stand-in for Stripe on a leash: it serves over HTTP, but nothing happens unless the test says so."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlencode, urlsplit

import stripe

from billing.demo_stripe.reversals import Reversals
from billing.demo_stripe.server import DemoStripe
from billing.models import TopUp

KEY = "sk_test_" + "k" * 24
SECRET = "whsec_" + "s" * 24


class FakeStripe:
    """A running stand-in. Webhooks are made on demand; time passes as the test's clock says."""

    def __init__(self, **options: Any) -> None:
        self.demo = DemoStripe(api_key=KEY, automatic=False, **options)
        self.demo.start()

    @property
    def url(self) -> str:
        return self.demo.url

    @property
    def sessions(self) -> list[dict[str, Any]]:
        """All Checkout Sessions, oldest first. Change one to play a Stripe that lies."""
        return list(self.demo.account.store.tables.sessions.values())

    def session(self, topup: TopUp) -> dict[str, Any]:
        return next(one for one in self.sessions if one["metadata"]["topup_id"] == str(topup.pk))

    def pay(self, topup: TopUp, outcome: str = "success") -> str:
        """Fill in the pay page as a browser does. Returns where it leads: back to the site, or to the page itself."""
        status, headers, _ = self.browse(topup.checkout_url, {"outcome": outcome})
        assert status == 303
        return headers["Location"]

    def browse(self, url: str, form: dict[str, str] | None = None) -> tuple[int, dict[str, str], str]:
        """One request of a browser that follows nothing: status, headers, body."""
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if form is not None else {}
        body = urlencode(form) if form is not None else None
        connection.request("GET" if form is None else "POST", parts.path, body, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, dict(answer.getheaders()), text

    def charge(self, topup: TopUp) -> dict[str, Any]:
        """The charge that a paid top-up was paid by."""
        topup.refresh_from_db()
        tables = self.demo.account.store.tables
        return tables.charges[tables.payment_intents[topup.stripe_payment_intent_id]["latest_charge"]]

    def refund(self, topup: TopUp, cents: int | None = None) -> dict[str, Any]:
        """Somebody refunds in Stripe's own dashboard."""
        params = {"charge": self.charge(topup)["id"], **({} if cents is None else {"amount": cents})}
        return self.demo.account.reversals.create_refund(params)

    def dispute(self, topup: TopUp, **how: Any) -> dict[str, Any]:
        """The cardholder goes to their bank."""
        return self.demo.account.reversals.dispute(self.charge(topup), **how)

    @property
    def reversals(self) -> Reversals:
        """What banks do."""
        return self.demo.account.reversals

    @property
    def refunds(self) -> list[dict[str, Any]]:
        return list(self.demo.account.store.tables.refunds.values())

    @property
    def payments(self) -> list[dict[str, Any]]:
        return list(self.demo.account.store.tables.payment_intents.values())

    def tick(self) -> None:
        """Let slow payments settle and old sessions expire, as far as the clock has come."""
        self.demo.tick()

    def events(self, *types: str) -> list[dict[str, Any]]:
        """Events so far, oldest first, of these types or all."""
        all_events = self.demo.account.store.tables.events.values()
        return [event for event in all_events if not types or event["type"] in types]

    def client(self) -> stripe.StripeClient:
        """Stripe's own library, pointed here."""
        return stripe.StripeClient(KEY, base_addresses={"api": self.url})

    def stop(self) -> None:
        self.demo.stop()


def signed(event: dict[str, Any], *, secret: str = SECRET, stamp: int | None = None) -> tuple[bytes, str]:
    """The body and the Stripe-Signature header of an event's webhook."""
    body = json.dumps(event)
    return body.encode(), stripe.WebhookSignature.generate_signature_header(body, secret, stamp)

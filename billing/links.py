"""Where a top-up's pages at the payment provider are now."""

from __future__ import annotations

from urllib.parse import urlsplit

from billing import stripe_keys
from billing.models import TopUp


def receipt(topup: TopUp) -> str:
    """The receipt's address, "" where there is none."""
    return _moved(topup, topup.receipt_url)


def checkout(topup: TopUp) -> str:
    """The pay page's address while it can still be paid, else ""."""
    return _moved(topup, topup.checkout_url) if topup.state == TopUp.State.PENDING else ""


def _moved(topup: TopUp, url: str) -> str:
    """The demo's own server may stand at another port than when it wrote the address."""
    origin = stripe_keys.own_origin()
    return origin + urlsplit(url).path if url and topup.is_demo and origin else url

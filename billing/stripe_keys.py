"""What the settings say of Stripe, for processes that need not load its library."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.conf import settings


def is_configured() -> bool:
    """Whether there is an account to pay into."""
    return bool(settings.STRIPE_SECRET_KEY)


def expects_livemode() -> bool:
    """Whether the key at hand moves real money."""
    return settings.STRIPE_SECRET_KEY.startswith(("sk_live_", "rk_live_"))


def own_origin() -> str:
    """The origin of the API where it is not Stripe's own, else ""."""
    parts = urlsplit(settings.STRIPE_API_BASE)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""

"""Whoever makes a key is told by mail: somebody else may have sat at the browser."""

from __future__ import annotations

from django.conf import settings
from django.urls import reverse

from accounts import emails
from accounts.models import User
from core import clock
from events import audit
from keys.models import ApiKey


def tell_of_new(key: ApiKey, maker: User, actor: audit.Actor) -> None:
    """Tell ``maker`` of the key once the running transaction stands. Commands that make keys for others tell nobody."""
    if actor.user_id != maker.pk or not settings.ACCOUNT_EMAIL_NOTIFICATIONS:
        return
    context = {
        "key": key,
        "workspace": key.workspace,
        "timestamp": clock.now(),
        "ip": actor.address or "",
        "keys_url": settings.SITE_URL + reverse("keys"),
    }
    emails.send(emails.message("key_made", context, to=maker.email))

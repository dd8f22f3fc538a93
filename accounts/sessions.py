"""A person's sessions, ended from elsewhere than their own browser."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from allauth.usersessions.models import UserSession
from django.conf import settings
from django.db import transaction

from accounts.models import User


def end_all(user: User) -> int:
    """Sign ``user`` out everywhere, with the running transaction. How many sessions there were.

    A session is listed from the moment of its sign-in, so none is missed.
    """
    store: Any = import_module(settings.SESSION_ENGINE).SessionStore
    with transaction.atomic():
        rows = list(UserSession.objects.select_for_update().filter(user=user))
        for row in rows:
            store(row.session_key).delete()
        UserSession.objects.filter(pk__in=[row.pk for row in rows]).delete()
    return len(rows)

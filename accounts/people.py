"""What a person may change about themselves, beyond what django-allauth does."""

from __future__ import annotations

from django.db import transaction

from accounts.models import User
from events import audit


def rename(user: User, name: str, *, actor: audit.Actor) -> None:
    """Call the person ``name``; empty = by their e-mail address. Does nothing where nothing changes."""
    name = name.strip()
    with transaction.atomic():
        fresh = User.objects.select_for_update(no_key=True).get(pk=user.pk)
        if fresh.name == name:
            return
        before, fresh.name = fresh.name, name
        fresh.save(update_fields=["name"])
        target = audit.Target("user", fresh.pk, fresh.email)
        audit.record("user.rename", actor=actor, target=target, details={"from": before, "to": name})
    user.name = name

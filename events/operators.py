"""What operators do in the admin goes into the trail, whichever table it is about: catalog, prices, vouchers, people.

Django's admin writes a log entry of its own in the transaction of each change it makes; an audit row goes with it.
"""

from __future__ import annotations

from typing import Any, Final

from allauth.core import context
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.db.models.signals import post_save
from django.dispatch import receiver
from django.utils.translation import override

from events import audit

_VERBS: Final = {ADDITION: "add", CHANGE: "change", DELETION: "delete"}


@receiver(post_save, sender=LogEntry, dispatch_uid="events.operators")
def note(sender: type[LogEntry], instance: LogEntry, created: bool, raw: bool, **_: Any) -> None:
    """One audit row for one entry. It names the fields that changed, never what stands in them: some hold secrets."""
    if raw or not created:
        return
    kind = instance.content_type.model if instance.content_type else ""
    with override("en"):
        details = {"changed": instance.get_change_message()} if instance.change_message else {}
    audit.record(
        f"operator.{_VERBS[instance.action_flag]}",
        actor=_actor(instance),
        target=audit.Target(kind, instance.object_id or "", instance.object_repr),
        details=details,
    )


def _actor(entry: LogEntry) -> audit.Actor:
    request = context.request
    if request is not None and request.user.pk == entry.user_id:
        return audit.actor_of(request)
    return audit.Actor(entry.user_id, str(entry.user))

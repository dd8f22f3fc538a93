"""What a limit that is changed means for what was said under the older one."""

from __future__ import annotations

from uuid import UUID

from django.dispatch import receiver

from billing import meters
from billing.models import SpendMeter
from core import clock
from keys.models import ApiKey
from keys.signals import limit_changed
from limits.models import LimitNotice

#: The notice that says that a limit is reached.
REACHED = 100


@receiver(limit_changed, dispatch_uid="limits.moving")
def key_changed(key: ApiKey, changed: set[str], **_kwargs: object) -> None:
    """A key's limit is another now, or it is to stop there."""
    changed_limit = "spending_limit_microcredits" in changed
    moved(key.workspace_id, SpendMeter.Scope.KEY, key.pk, forget_refusal=changed_limit)


def moved(workspace_id: UUID, scope: SpendMeter.Scope, scope_id: UUID, *, forget_refusal: bool = True) -> None:
    """A refusal under an older limit says nothing of this one, and whoever stops at limits stops at this one, too."""
    month = clock.month_of(clock.now())
    if forget_refusal:
        meters.forget_refusal(workspace_id, scope, scope_id, month)
    told = LimitNotice.objects.filter(scope=scope, scope_id=scope_id, month=month, percent=REACHED)
    told.update(outdated=True)

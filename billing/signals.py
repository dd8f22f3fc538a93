"""What happens to money when workspaces come and go."""

from __future__ import annotations

from typing import Any

from django.db.models.signals import post_save
from django.dispatch import receiver

from billing import wallets
from events import audit
from orgs.models import Workspace
from orgs.signals import organization_deleted


@receiver(post_save, sender=Workspace, dispatch_uid="billing.wallet")
def give_wallet(sender: type[Workspace], instance: Workspace, created: bool, raw: bool, **_: Any) -> None:
    """Every new workspace gets an empty wallet. Fixtures (``raw``) bring their own."""
    if created and not raw:
        wallets.open_wallet(instance)


@receiver(organization_deleted, dispatch_uid="billing.topups")
def stop_charging(workspace: Workspace, by: audit.Actor, **_: Any) -> None:
    """Nobody sees what a deleted organization spends: its card is not charged any more, its pay pages are closed."""
    from billing import auto, topups  # with Stripe's library, which a gateway never needs

    auto.stop(workspace, actor=by)
    topups.close(workspace)

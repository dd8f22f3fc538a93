"""What happens to money when workspaces come."""

from __future__ import annotations

from typing import Any

from django.db.models.signals import post_save
from django.dispatch import receiver

from billing import wallets
from orgs.models import Workspace


@receiver(post_save, sender=Workspace, dispatch_uid="billing.wallet")
def give_wallet(sender: type[Workspace], instance: Workspace, created: bool, raw: bool, **_: Any) -> None:
    """Every new workspace gets an empty wallet. Fixtures (``raw``) bring their own."""
    if created and not raw:
        wallets.open_wallet(instance)

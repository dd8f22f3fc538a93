"""Wallets come into being, empty. Only the ledger puts anything in."""

from __future__ import annotations

from django.db import transaction

from billing.models import Account, Wallet
from orgs.models import Workspace


def open_wallet(workspace: Workspace) -> Wallet:
    """The empty wallet of a new workspace and the ledger account that bears its id.

    Raises IntegrityError where the workspace already has one.
    """
    with transaction.atomic():
        Account.objects.create(id=workspace.pk, kind=Account.Kind.WALLET)
        return Wallet.objects.create(workspace=workspace)

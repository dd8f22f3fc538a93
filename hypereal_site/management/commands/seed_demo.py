"""``manage.py seed_demo``: an account to try the product with. Whatever of it still works is left as it is.

Its credentials go into the file that HYPEREAL_DEMO_FILE names (readable by its owner only), and as JSON on the last
line of the output, for the supervisor.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any, Final

from allauth.account.models import EmailAddress
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from accounts.models import User
from billing import ledger
from billing.models import HOUSE_ACCOUNTS, Account, CreditLot, Transfer
from core import clock, errors, money
from events import audit
from hypereal_site import processes
from keys import issuing, lookup
from orgs.models import Workspace

EMAIL: Final = "demo@hypereal.example"
NAME: Final = "Demo"
KEY_NAME: Final = "demo"
CREDITS: Final = 5_000


class Command(BaseCommand):
    help = "Makes the demo account, or what of it is missing, and writes down how to use it."

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.DEMO:
            raise CommandError("This is no demo installation (HYPEREAL_DEMO is off): no demo account is made.")
        file = Path(settings.DEMO_FILE) if settings.DEMO_FILE else None
        told = seeded(_kept(file))
        text = json.dumps(told)
        if file is not None:
            processes.write_private(file, json.dumps(told, indent=1) + "\n")
        self.stdout.write(text)


def seeded(kept: dict[str, str]) -> dict[str, str]:
    """The demo's address and credentials; those in ``kept`` that still work, new ones for the rest."""
    with transaction.atomic():
        user, password = _user(kept.get("password", ""))
        workspace = user.personal_workspace
        _give_credits(workspace)
        key = _key(workspace, user, kept.get("api_key", ""))
    return {"url": settings.SITE_URL, "api_key": key, "email": user.email, "password": password}


def _user(password: str) -> tuple[User, str]:
    """The demo's person with a confirmed address, and a password that works."""
    user = User.objects.filter(email=EMAIL).first() or User.objects.create_user(EMAIL, name=NAME)
    EmailAddress.objects.update_or_create(user=user, email=EMAIL, defaults={"verified": True, "primary": True})
    if not password or not user.check_password(password):
        password = secrets.token_urlsafe(12)
        user.set_password(password)
        user.save(update_fields=["password"])
    return user, password


def _give_credits(workspace: Workspace) -> None:
    """Demo credits, once: the workspace itself is the reference, so a second seeding gives none."""
    ledger.grant(
        workspace.pk,
        kind=CreditLot.Kind.DEMO,
        amount_microcredits=CREDITS * money.MICROCREDITS_PER_CREDIT,
        transfer_kind=Transfer.Kind.GRANT,
        reference=workspace.pk,
        source_account=HOUSE_ACCOUNTS[Account.Kind.DEMO],
        at=clock.now(),
    )


def _key(workspace: Workspace, user: User, secret: str) -> str:
    """The kept key if it still works for this workspace, else a new one."""
    try:
        if secret and lookup.by_secret(secret, address=None).workspace_id == workspace.pk:
            return secret
    except errors.ProductError:
        pass  # deleted, disabled, expired, or of another database
    actor = audit.operator("seed_demo")
    return issuing.create(workspace, issuing.Terms(name=KEY_NAME), actor=actor, created_by=user).secret


def _kept(file: Path | None) -> dict[str, str]:
    """What an earlier seeding wrote; nothing where the file is absent or is something else."""
    try:
        kept = json.loads(file.read_text("utf-8")) if file is not None else {}
    except (OSError, ValueError):
        return {}
    return {name: value for name, value in kept.items() if isinstance(value, str)} if isinstance(kept, dict) else {}

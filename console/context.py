"""What the frame around every page shows."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from django.conf import settings
from django.http import HttpRequest

from billing.models import Wallet
from core import errors
from orgs import access
from orgs.models import Membership, Workspace

#: Pages that every workspace has.
_SECTIONS = ("/manage-api-keys", "/usage", "/billing", "/settings/organization", "/settings/webhooks")


class Shell:
    """Reads only what a template asks for: error pages and mails use none of it, and must not need a database."""

    def __init__(self, request: HttpRequest) -> None:
        self._request = request

    @cached_property
    def _access(self) -> access.Access | None:
        user = getattr(self._request, "user", None)
        if user is None or not user.is_authenticated:
            return None
        try:
            return access.current(self._request)
        except errors.ProductError:  # a person without any workspace still gets pages
            return None

    @property
    def workspace(self) -> Workspace | None:
        """The workspace in use."""
        return self._access.workspace if self._access else None

    @property
    def role(self) -> str:
        """The person's role in it."""
        return self._access.role if self._access else ""

    @property
    def locked(self) -> bool:
        """Whether the workspace shows itself only to people with a second factor, and this person has none."""
        return self._access is not None and self._access.locked

    @property
    def section(self) -> str:
        """The page to be on after a switch: the same kind of page, never one thing of the workspace left behind."""
        return next((path for path in _SECTIONS if self._request.path.startswith(path)), "/")

    @property
    def permissions(self) -> frozenset[str]:
        """What the role allows there: ``{% if "keys.write" in shell.permissions %}``."""
        return frozenset(self._access.permissions) if self._access else frozenset()

    @cached_property
    def memberships(self) -> list[Membership]:
        """All workspaces the person can switch to, the personal one first."""
        return access.memberships(self._access.user) if self._access else []

    @cached_property
    def balance_microcredits(self) -> int | None:
        """The wallet's balance, before what running calls hold of it."""
        if self._access is None or self._access.locked:
            return None
        wallets = Wallet.objects.filter(pk=self._access.workspace.pk)
        return wallets.values_list("balance_microcredits", flat=True).first()

    @property
    def demo_payments(self) -> bool:
        """Whether the pay page is the stand-in that charges no card."""
        return bool(settings.DEMO_PAYMENTS)

    @property
    def sandbox(self) -> bool:
        """Whether models without a provider key are answered by the sandbox."""
        return bool(settings.SANDBOX_BASE_URL)

    @property
    def mail_folder(self) -> str:
        """Where a demo without a mail server puts its mails: nobody's inbox gets any. "" everywhere else."""
        writes_files = settings.EMAIL_BACKEND.endswith(".filebased.EmailBackend")
        return str(settings.EMAIL_FILE_PATH or "") if settings.DEMO and writes_files else ""


def shell(request: HttpRequest) -> dict[str, Any]:
    """The context variable ``shell``."""
    return {"shell": Shell(request)}

"""The billing profile is read and changed here: one function, one transaction, one audit row."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.utils.translation import gettext as _

from core import clock, errors
from events import audit
from orgs.models import Workspace
from statements.models import LINES, BillingProfile

FIELDS: Final = ("legal_name", "email", "address", "tax_id")
_MOST: Final = {
    field.name: field.max_length or 0 for field in BillingProfile._meta.concrete_fields if field.name in FIELDS
}


def newest(workspace_id: UUID) -> BillingProfile:
    """The profile in force; an empty one that is not stored where nobody gave any."""
    found = BillingProfile.objects.filter(workspace_id=workspace_id).order_by("-id").first()
    return found or BillingProfile(workspace_id=workspace_id)


def locked(workspace: Workspace) -> BillingProfile:
    """`newest`, which stays so until the transaction ends."""
    # The workspace's row is the queue: a double click finds what the first one wrote.
    Workspace.objects.select_for_update(no_key=True).get(pk=workspace.pk)
    return newest(workspace.pk)


def at(workspace_id: UUID, moment: datetime) -> BillingProfile:
    """The profile in force at ``moment``, or the first one that was given after it: better late than nobody."""
    mine = BillingProfile.objects.filter(workspace_id=workspace_id)
    then = mine.filter(created_at__lt=moment).order_by("-created_at", "-id").first()
    return then or mine.order_by("created_at", "id").first() or BillingProfile(workspace_id=workspace_id)


def change(workspace: Workspace, *, actor: audit.Actor, **fields: str) -> BillingProfile:
    """Set the named `FIELDS`; the others stay. What is already so is neither written nor recorded.

    Raises InvalidRequest that names the field.
    """
    given = {name: _checked(name, value) for name, value in fields.items()}
    with transaction.atomic():
        before = locked(workspace)
        changed = {name: value for name, value in given.items() if getattr(before, name) != value}
        if not changed:
            return before
        kept: dict[str, Any] = {name: getattr(before, name) for name in FIELDS}
        profile = BillingProfile.objects.create(workspace=workspace, created_at=clock.now(), **{**kept, **changed})
        audit.record(
            "billing_profile.change",
            actor=actor,
            target=audit.Target("billing_profile", profile.pk, workspace.name),
            workspace_id=workspace.pk,
            details={name: [kept[name], value] for name, value in changed.items()},
        )
    return profile


def _checked(name: str, value: str) -> str:
    lines = [" ".join(line.split()) for line in value.splitlines()]
    text = "\n".join(line for line in lines if line)
    most = _MOST[name]
    if len(text) > most:
        raise errors.InvalidRequest(_("This may have at most %(most)d characters.") % {"most": most}, param=name)
    if text.count("\n") >= (LINES if name == "address" else 1):
        raise errors.InvalidRequest(_("These are too many lines."), param=name)
    if not all(letter.isprintable() or letter == "\n" for letter in text):
        raise errors.InvalidRequest(_("This has a character that can't be printed."), param=name)
    if name == "email" and text:
        try:
            validate_email(text)
        except ValidationError:
            raise errors.InvalidRequest(_("Enter a valid e-mail address."), param=name) from None
    return text

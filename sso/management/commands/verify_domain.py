"""``manage.py verify_domain ORG DOMAIN``: the operator's word that a domain belongs to an organization."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from core import errors, ids
from events import audit
from orgs.models import Workspace
from sso import domains


class Command(BaseCommand):
    """For installations where nobody can, or needs to, prove a domain by DNS."""

    help = "Confirm that an e-mail domain belongs to an organization, without a DNS record or a file."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("organization", help="its slug or id")
        parser.add_argument("domain", help="such as example.com")

    def handle(self, *args: Any, organization: str, domain: str, **options: Any) -> None:
        workspace = _find(organization)
        try:
            row = domains.confirm(workspace, domain, by=audit.operator("verify_domain"))
        except errors.ProductError as error:
            raise CommandError(error.message) from None
        self.stdout.write(f"{row.domain} belongs to {workspace.name} ({workspace.slug}) from now on.")


def _find(text: str) -> Workspace:
    identifier = ids.parse(text)
    rows = Workspace.objects.filter(kind=Workspace.Kind.ORGANIZATION, deleted_at=None)
    row = (rows.filter(pk=identifier) if identifier else rows.filter(slug=text)).first()
    if row is None:
        raise CommandError(f"There is no organization {text!r}: give its slug or id.")
    return row

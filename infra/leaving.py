"""What becomes of an organization's deployments when it is deleted: nobody could take them away any more."""

from __future__ import annotations

from typing import Any

from django.dispatch import receiver

from events import audit
from infra import deployments
from infra.models import Deployment
from orgs.models import Workspace
from orgs.signals import organization_deleted


@receiver(organization_deleted, dispatch_uid="infra.leaving")
def clear(workspace: Workspace, by: audit.Actor, **_: Any) -> None:
    """Delete them, with their workers at the engine. Runs in the transaction that ends the organization."""
    for row in Deployment.objects.filter(workspace=workspace).exclude(state=Deployment.State.DELETED):
        deployments.delete(row, actor=by)

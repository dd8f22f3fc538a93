"""Deployments are made, changed and deleted here and nowhere else: one function, one transaction, one audit row.

What is written is what is wanted; `infra.reconciling` brings the engine to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final
from uuid import UUID, uuid4

from django.db import transaction
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from core import clock, errors, ids
from core.background import enqueue_on_commit
from core.secrets import Unreadable
from core.storable import storable
from events import audit
from infra import engine, warm
from infra.models import Deployment
from jobs import lifecycle
from jobs.models import Job
from orgs.models import Workspace

State = Deployment.State

TASK: Final = "infra.tasks.reconcile"
#: The name of the kind of job that a run is (`infra.kinds`), in the log's column ``endpoint`` too.
RUN_KIND: Final = "gpu_run"
MOST_DEPLOYMENTS: Final = 50
_HIDDEN: Final = frozenset({"env"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a deployment is to be, as `infra.rules` let it through."""

    slug: str
    name: str
    docker_image: str
    gpu_types: list[str]
    min_workers: int
    max_workers: int
    idle_timeout_seconds: int
    max_seconds: int
    webhook_url: str = ""
    volume_id: str = ""
    env: dict[str, str] = field(default_factory=dict, repr=False)


def create(
    workspace: Workspace,
    terms: Terms,
    *,
    actor: audit.Actor,
    created_by_id: UUID | None,
    key_id: UUID | None = None,
    form_token: UUID | None = None,
) -> Deployment:
    """Write down a deployment; the engine makes it in the background.

    Workers that are kept warm count for the API key ``key_id``, or for ``created_by_id`` where a person asks in the
    browser. The same ``form_token`` again returns the deployment that it made. Raises Conflict (``slug``) for a slug
    that is taken, Conflict where the workspace has as many as it may have, Overloaded without an engine.
    """
    name = engine.chosen()
    if not name:
        raise errors.Overloaded(_("This installation has no GPU engine."), code="gpu_not_available")
    with transaction.atomic():
        # The workspace's row is the queue: two forms, or two programs, are counted one after the other.
        Workspace.objects.select_for_update(no_key=True).get(pk=workspace.pk)
        if form_token is not None and (made := Deployment.objects.filter(workspace=workspace, form_token=form_token)):
            return made[0]
        _refuse_taken(workspace, terms.slug)
        columns = asdict(terms)
        env = columns.pop("env")
        row = Deployment(
            workspace=workspace,
            created_by_id=created_by_id,
            warm_key_id=key_id,
            engine=name,
            form_token=form_token,
            **columns,
        )
        row.set_env(env)
        row.save(force_insert=True)
        _record(row, "deployment.create", actor, {**columns, "env_names": row.env_names})
        wake(row)
    return row


def change(row: Deployment, wanted: Mapping[str, Any], *, actor: audit.Actor, key_id: UUID | None = None) -> Deployment:
    """Change what is wanted. ``wanted`` has columns of `Terms`; ``env`` holds values to set and None to remove.

    A failed deployment is tried again by any change. Whoever asks for more warm workers, or for them again, pays for
    them: the API key ``key_id``, or the person who acts. Raises NotFound for a deleted one, Overloaded where its
    secrets can't be opened.
    """
    with transaction.atomic():
        row = locked(row)
        columns = {name: value for name, value in wanted.items() if name not in _HIDDEN and getattr(row, name) != value}
        env = _merged(row, wanted.get("env") or {})
        if env is not None:
            row.set_env(env)
        if not (columns or env is not None or row.state == State.FAILED or row.warm_stopped_at):
            return row
        asks_for_more = columns.get("min_workers", 0) > row.min_workers or row.warm_stopped_at is not None
        if asks_for_more and (key_id is not None or actor.user_id is not None):
            warm.charge_to(row, user_id=actor.user_id, key_id=key_id, actor=actor)
        for name, value in columns.items():
            setattr(row, name, value)
        row.wanted_version += 1
        if row.endpoint_id:
            _go(row, State.SCALING)
        else:
            _go(row, State.CREATING)
        row.error_message, row.failures, row.updated_at = "", 0, clock.now()
        row.warm_stopped_at, row.warm_warned_at, row.warm_stopped_because = None, None, ""
        warm.lower(row)
        row.save()
        changed = {**columns, **({"env_names": row.env_names} if env is not None else {})}
        _record(row, "deployment.change", actor, changed)
        wake(row)
    return row


def locked(row: Deployment) -> Deployment:
    """The deployment as it is now, held until the transaction ends. Raises NotFound for a deleted one."""
    row = Deployment.objects.select_for_update().get(pk=row.pk)
    if row.is_deleted:
        raise _gone()
    return row


def delete(row: Deployment, *, actor: audit.Actor) -> None:
    """Take a deployment away: nobody can use it from now on, open runs are cancelled, the engine is cleared behind it.

    Idempotent.
    """
    with transaction.atomic():
        row = Deployment.objects.select_for_update().get(pk=row.pk)
        if row.is_deleted:
            return
        warm.end(row)
        warm.forget_payer(row, actor)
        _go(row, State.DELETED)
        row.updated_at, row.failures = clock.now(), 0
        row.set_env({})
        row.save()
        _record(row, "deployment.delete", actor, {})
        wake(row)
    for job_id in open_runs(row):
        lifecycle.cancel(job_id)


def open_runs(row: Deployment) -> list[UUID]:
    """Runs that have not ended."""
    runs = Job.objects.filter(workspace_id=row.workspace_id, kind=RUN_KIND, finished_at__isnull=True)
    return list(runs.filter(input__deployment=str(row.pk)).values_list("pk", flat=True))


def of_workspace(workspace_id: UUID) -> list[Deployment]:
    """The workspace's deployments, the newest first."""
    return list(Deployment.objects.filter(workspace_id=workspace_id).exclude(state=State.DELETED).order_by("-pk"))


def find(workspace_id: UUID, slug_or_id: str) -> Deployment:
    """A deployment of this workspace by slug or id. Raises NotFound, also for another workspace's."""
    rows = Deployment.objects.filter(workspace_id=workspace_id).exclude(state=State.DELETED)
    identifier = ids.parse(slug_or_id)
    row = rows.filter(pk=identifier).first() if identifier is not None else None
    if row is None:
        row = rows.filter(slug=storable(slug_or_id)).first()
    if row is None:
        raise _gone()
    return row


def wake(row: Deployment) -> None:
    """Have a worker look at it once the transaction is committed."""
    Deployment.objects.filter(pk=row.pk).update(run_after=Now())
    wake_in(row, 0.0)


def wake_in(row: Deployment, seconds: float) -> None:
    """Have a worker look at it that long after the transaction is committed; when a look is due, the row says."""
    enqueue_on_commit(TASK, str(row.pk), queue="default", job_id=f"deployment-{uuid4()}", after_seconds=seconds)


def _refuse_taken(workspace: Workspace, slug: str) -> None:
    standing = Deployment.objects.filter(workspace=workspace).exclude(state=State.DELETED)
    if standing.filter(slug=slug).exists():
        raise errors.Conflict(
            _("There is a deployment “%(slug)s” already.") % {"slug": slug}, param="slug", code="slug_taken"
        )
    if standing.count() >= MOST_DEPLOYMENTS:
        raise errors.Conflict(_("A workspace has at most %(most)d deployments.") % {"most": MOST_DEPLOYMENTS})


def _merged(row: Deployment, wanted: Mapping[str, str | None]) -> dict[str, str] | None:
    """The environment with these changes, None where nothing changes."""
    if not wanted:
        return None
    try:
        before = row.env()
    except Unreadable:
        raise errors.Overloaded(_("The secrets of this deployment can't be opened at this moment.")) from None
    after = {name: text for name, text in {**before, **wanted}.items() if text is not None}
    return after if after != before else None


def _go(row: Deployment, state: str) -> None:
    if row.state != state:
        row.state, row.state_since = state, clock.now()


def _gone() -> errors.NotFound:
    return errors.NotFound(_("There is no such deployment."), code="deployment_not_found")


def _record(row: Deployment, action: str, actor: audit.Actor, details: Mapping[str, Any]) -> None:
    target = audit.Target("deployment", row.pk, row.slug)
    audit.record(action, actor=actor, target=target, workspace_id=row.workspace_id, details=details)

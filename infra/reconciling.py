"""Brings the engine to what deployments want, one short step at a time, and their states to what the engine says.

A step holds a lease in the deployment's row and writes only while it still has it. Nothing is believed to be done that
the engine has not answered for: what was asked and not answered is looked for by its name, so that a process may die
at any moment and the next one makes nothing twice.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from django.db import connection, transaction

from core import clock, faults
from core.secrets import Unreadable
from events import outbox
from infra import deployments, engine, warm
from infra.engine import Engine, Made, Spec
from infra.models import Deployment
from upstreams.errors import AccountRefused, TargetUnusable, UpstreamError, UpstreamRefusal

log = logging.getLogger(__name__)

State = Deployment.State

#: Longer than the slowest step: a handful of exchanges with the engine.
LEASE_SECONDS: Final = 180.0
#: How often a deployment that stands is looked at.
LOOK_SECONDS: Final = 60.0
#: What the engine refused is asked once more so late; a change by somebody is tried at once.
REFUSED_SECONDS: Final = 3_600.0
#: An engine that can't be reached for so long makes a deployment that is not ready yet a failed one.
GIVE_UP: Final = timedelta(minutes=15)
#: Open runs of a deleted deployment are waited for so long before its endpoint is taken away.
WAIT_FOR_RUNS: Final = timedelta(minutes=2)
#: Values of the environment from this length on are kept out of messages; a shorter one is no secret.
SECRET_CHARACTERS: Final = 4
_MOST_BACKOFF_SECONDS: Final = 120.0
_MOST_AT_ONCE: Final = 50

_CLAIM: Final = """
UPDATE infra_deployment SET lease = %(lease)s,
  lease_until = statement_timestamp() + make_interval(secs => %(seconds)s)
WHERE id = (SELECT id FROM infra_deployment
  WHERE id = %(id)s AND NOT engine_cleared AND run_after <= statement_timestamp()
    AND (lease_until IS NULL OR lease_until <= statement_timestamp())
  FOR UPDATE SKIP LOCKED)
RETURNING *"""
_DUE: Final = """
SELECT id FROM infra_deployment WHERE NOT engine_cleared AND run_after <= statement_timestamp()
  AND (lease_until IS NULL OR lease_until <= statement_timestamp()) ORDER BY run_after LIMIT %(most)s"""
_WAIT: Final = """
UPDATE infra_deployment SET run_after = statement_timestamp() + make_interval(secs => %(seconds)s) WHERE id = %(id)s"""


def sweep() -> int:
    """Look at every deployment whose time has come; how many there were."""
    with connection.cursor() as cursor:
        cursor.execute(_DUE, {"most": _MOST_AT_ONCE})
        due = [row[0] for row in cursor.fetchall()]
    for deployment_id in due:
        try:
            step(deployment_id)
        except Exception:  # its lease ends by itself; the others are not to wait for it
            log.exception("a deployment could not be looked at", extra={"deployment": str(deployment_id)})
    return len(due)


def step(deployment_id: UUID) -> bool:
    """One look at a deployment if it is due and nobody else is at it; False where there was nothing to do."""
    values = {"id": deployment_id, "lease": uuid4(), "seconds": LEASE_SECONDS}
    row = next(iter(Deployment.objects.raw(_CLAIM, values)), None)
    if row is None:
        return False
    faults.point("deployment.claimed")
    try:
        _look(row, engine.by_name(row.engine))
    except UpstreamError as error:
        _trouble(row, error)
    except Unreadable:
        _write(row, 0, state=State.FAILED, error_message="The secrets of this deployment can't be opened.")
    return True


def spec_of(row: Deployment, warm_workers: int = 0) -> Spec:
    """What is to stand at the engine, with so many workers kept warm as are reserved (`warm.prepare`)."""
    return Spec(
        name=row.engine_name,
        image=row.docker_image,
        gpu_types=row.gpu_types,
        workers_min=warm_workers,
        workers_max=row.max_workers,
        idle_timeout_seconds=row.idle_timeout_seconds,
        max_seconds=row.max_seconds,
        env=row.env(),
        volume_id=row.volume_id,
    )


def _look(row: Deployment, at: Engine) -> None:
    if row.is_deleted:
        _clear(row, at)
    elif not row.template_id:
        found = at.create_template(spec_of(row))
        faults.point("deployment.template_made")
        _write(row, 0, template_id=found, applied_version=row.wanted_version)
    elif not row.endpoint_id:
        _create_endpoint(row, at)
    elif row.applied_version < row.wanted_version:
        _apply(row, at)
    else:
        _ask(row, at)


def _create_endpoint(row: Deployment, at: Engine) -> None:
    workers = warm.prepare(row)
    if workers is None:
        return
    faults.point("deployment.reserved")
    found = at.create_endpoint(spec_of(row, workers), row.template_id)
    faults.point("deployment.endpoint_made")
    # What was changed since the template was made is still to be applied: its version stays.
    _write(row, 0, told=workers, endpoint_id=found)


def _apply(row: Deployment, at: Engine) -> None:
    workers = warm.prepare(row)
    if workers is None:
        return
    faults.point("deployment.reserved")
    try:
        at.update(spec_of(row, workers), Made(row.template_id, row.endpoint_id))
    except UpstreamError as error:
        if error.status != 404:
            raise
        _begin_anew(row)
        return
    faults.point("deployment.updated")
    _write(row, 0, told=workers, applied_version=row.wanted_version)


def _ask(row: Deployment, at: Engine) -> None:
    """How it is. An endpoint that the engine lost is made again; one that answers is ready."""
    health = at.health(row.endpoint_id)
    if health is None:
        _begin_anew(row)
        return
    told = {"jobs": dict(health.jobs), "workers": dict(health.workers)}
    _write(row, LOOK_SECONDS, state=State.READY, error_message="", health=told, seen_at=clock.now())


def _begin_anew(row: Deployment) -> None:
    log.warning("the engine has lost a deployment", extra={"deployment": str(row.pk)})
    _write(row, 1, state=State.CREATING, template_id="", endpoint_id="", applied_version=0)


def _clear(row: Deployment, at: Engine) -> None:
    waits = deployments.open_runs(row) and clock.now() - row.state_since < WAIT_FOR_RUNS
    if waits:
        _write(row, 2)
        return
    # What was asked for and not answered has no id here: nothing of that name must stay behind.
    template = row.template_id or at.find_template(row.engine_name)
    at.delete(Made(template, row.endpoint_id or at.find_endpoint(row.engine_name)))
    faults.point("deployment.cleared")
    _write(row, 0, engine_cleared=True, template_id="", endpoint_id="")


def _trouble(row: Deployment, error: UpstreamError) -> None:
    """What an error means: the engine's own trouble passes; what it refuses, it refuses again."""
    refused = isinstance(error, UpstreamRefusal | TargetUnusable) and not row.is_deleted
    late = row.state in (State.CREATING, State.SCALING) and clock.now() - row.state_since > GIVE_UP
    if refused or late:
        wait = REFUSED_SECONDS if refused else _MOST_BACKOFF_SECONDS
        _write(row, wait, state=State.FAILED, error_message=_told(row, error), failures=row.failures + 1)
        return
    log.warning("an engine can't be asked: %s", error.kind, extra={"deployment": str(row.pk)})
    wait = min(2.0 ** min(row.failures, 8), _MOST_BACKOFF_SECONDS)
    _write(row, max(wait, error.retry_after or 0.0), failures=row.failures + 1, error_message=_told(row, error))


def _told(row: Deployment, error: UpstreamError) -> str:
    if isinstance(error, AccountRefused):
        return "The GPU engine does not serve this installation at this moment."
    if isinstance(error, UpstreamRefusal):
        return _without_secrets(row, error.message)[:500]
    return "The GPU engine can't be reached at this moment."


def _without_secrets(row: Deployment, message: str) -> str:
    """An engine's words about what it was sent, which may hold the values of the environment."""
    try:
        values = sorted(row.env().values(), key=len, reverse=True)
    except Unreadable:
        return "The GPU engine refused this deployment."
    for value in values:
        if len(value) >= SECRET_CHARACTERS:
            message = message.replace(value, "…")
    return message


def _write(row: Deployment, seconds: float, *, told: int | None = None, **columns: Any) -> bool:
    """Write what came of a step and give the lease back; False where somebody else has it by now.

    ``seconds`` until the next look. A change that came meanwhile is looked at without waiting. ``told``: the engine
    keeps so many workers warm from now on.
    """
    with transaction.atomic():
        now = Deployment.objects.select_for_update().filter(pk=row.pk, lease=row.lease).first()
        if now is None:
            log.warning("a look at a deployment came too late", extra={"deployment": str(row.pk)})
            return False
        before = now.state
        if now.is_deleted or now.wanted_version != row.wanted_version:
            columns.pop("state", None)
            seconds = 0.0 if not row.is_deleted else seconds
        columns.setdefault("failures", 0)
        for name, value in columns.items():
            setattr(now, name, value)
        if _heed_workers(now, told):
            seconds = 0.0
        if now.state != before:
            now.state_since = clock.now()
            _tell(now)
        now.lease = now.lease_until = None
        now.save()
        with connection.cursor() as cursor:
            cursor.execute(_WAIT, {"id": row.pk, "seconds": seconds})
        if seconds <= LOOK_SECONDS and not now.engine_cleared:
            deployments.wake_in(now, seconds)
    return True


def _heed_workers(row: Deployment, told: int | None) -> bool:
    """What a step's outcome means for warm workers; whether that changed what is wanted. Saves nothing of ``row``."""
    version = row.wanted_version
    if not row.endpoint_id:
        warm.end(row)
    elif told is not None:
        warm.confirm(row, told)
    elif row.state == State.FAILED:
        warm.release(row)
    return row.wanted_version != version


def _tell(row: Deployment) -> None:
    if row.state in (State.READY, State.FAILED):
        data = {"id": str(row.pk), "slug": row.slug, "status": row.state, "error": row.error_message or None}
        outbox.tell(row.workspace_id, f"deployment.{row.state}", data)

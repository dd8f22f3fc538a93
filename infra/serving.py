"""Deployments for callers with an API key: plain values in, the bodies of answers out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from django.utils.translation import gettext as _

from core import errors, money
from core.storable import storable
from events import audit
from infra import deployments, rates, rules
from infra.deployments import Terms
from infra.models import Deployment
from keys.auth import KeyFacts
from orgs import permissions
from orgs.models import Membership, Workspace
from orgs.permissions import Permission

#: Members of a body, the column each goes to, and the rule it passes.
_RULES: Final[Mapping[str, tuple[str, Callable[[Any], Any]]]] = {
    "name": ("name", rules.name),
    "dockerImage": ("docker_image", rules.docker_image),
    "gpuTypes": ("gpu_types", rules.gpu_types),
    "idleTimeoutSeconds": ("idle_timeout_seconds", rules.idle_timeout),
    "maxSeconds": ("max_seconds", rules.max_seconds),
    "webhookUrl": ("webhook_url", rules.webhook_url),
    "volumeId": ("volume_id", rules.volume_id),
}
_WORKERS: Final = ("minWorkers", "maxWorkers")
_USUAL: Final[Mapping[str, Any]] = {"minWorkers": 0, "maxWorkers": 3, "idleTimeoutSeconds": 5, "maxSeconds": None}
_REQUIRED: Final = ("slug", "name", "dockerImage", "gpuTypes")


def listed(key: KeyFacts) -> dict[str, Any]:
    """``GET /deployments``"""
    return {"deployments": [shown(row) for row in deployments.of_workspace(key.workspace_id)]}


def one(key: KeyFacts, slug_or_id: str) -> dict[str, Any]:
    """``GET /deployments/{slug or id}``. Raises NotFound."""
    return shown(deployments.find(key.workspace_id, slug_or_id))


def create(key: KeyFacts, body: Mapping[str, Any], actor: audit.Actor) -> dict[str, Any]:
    """``POST /deployments``. Raises InvalidRequest that names the member, Conflict, PermissionDenied, Overloaded."""
    check_may_write(key)
    workspace = Workspace.objects.get(pk=key.workspace_id)
    made = deployments.create(workspace, new_terms(body), actor=actor, created_by_id=key.user_id, key_id=key.id)
    return shown(made)


def change(key: KeyFacts, slug_or_id: str, body: Mapping[str, Any], actor: audit.Actor) -> dict[str, Any]:
    """``PATCH /deployments/{slug or id}``: members that are left out stay. Raises as ``create``, and NotFound."""
    check_may_write(key)
    row = deployments.find(key.workspace_id, slug_or_id)
    return shown(deployments.change(row, changes(row, body), actor=actor, key_id=key.id))


def delete(key: KeyFacts, slug_or_id: str, actor: audit.Actor) -> dict[str, Any]:
    """``DELETE /deployments/{slug or id}``. Raises NotFound, PermissionDenied."""
    check_may_write(key)
    row = deployments.find(key.workspace_id, slug_or_id)
    deployments.delete(row, actor=actor)
    return {"id": str(row.pk), "slug": row.slug, "status": Deployment.State.DELETED, "deleted": True}


def new_terms(body: Mapping[str, Any]) -> Terms:
    """A whole deployment out of a body. Raises InvalidRequest."""
    _refuse_unknown(body, {*_RULES, *_WORKERS, "slug", "env"})
    for name in _REQUIRED:
        if name not in body:
            raise errors.InvalidRequest(_("%(name)s is missing.") % {"name": name}, param=name)
    full = {**_USUAL, **body}
    least, most = rules.workers(full["minWorkers"], full["maxWorkers"])
    columns = {column: rule(full.get(name)) for name, (column, rule) in _RULES.items()}
    return Terms(
        slug=rules.slug(body["slug"]), min_workers=least, max_workers=most, env=rules.env(body.get("env")), **columns
    )


def changes(row: Deployment, body: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that a body changes. ``env`` sets the variables it names, and null removes one.

    Raises InvalidRequest, also for another slug: addresses stay.
    """
    _refuse_unknown(body, {*_RULES, *_WORKERS, "slug", "env"})
    if body.get("slug", row.slug) != row.slug:
        raise errors.InvalidRequest(_("The slug of a deployment can't be changed."), param="slug")
    found = {column: rule(body[name]) for name, (column, rule) in _RULES.items() if name in body}
    if any(name in body for name in _WORKERS):
        least = body.get("minWorkers", row.min_workers)
        found["min_workers"], found["max_workers"] = rules.workers(least, body.get("maxWorkers", row.max_workers))
    given = body.get("env")
    if given is not None:
        removed = {name for name, text in given.items() if text is None} if isinstance(given, Mapping) else set()
        kept = {name: text for name, text in given.items() if name not in removed} if removed else given
        found["env"] = {**rules.env(kept), **dict.fromkeys(removed)}
    return found


def shown(row: Deployment) -> dict[str, Any]:
    """A deployment as callers see it: never its secrets."""
    return {
        "id": str(row.pk),
        "slug": row.slug,
        "name": row.name,
        "dockerImage": row.docker_image,
        "gpuTypes": ",".join(row.gpu_types),
        "minWorkers": row.min_workers,
        "maxWorkers": row.max_workers,
        "idleTimeoutSeconds": row.idle_timeout_seconds,
        "maxSeconds": row.max_seconds,
        "webhookUrl": row.webhook_url or None,
        "volumeId": row.volume_id or None,
        "envNames": row.env_names,
        "status": row.state,
        "error": row.error_message or None,
        "workers": row.health.get("workers", {}),
        **_prices(row),
        "runUrl": f"/v1/gpu/run/{row.slug}",
        "createdAt": _moment(row.created_at),
        "updatedAt": _moment(row.updated_at),
    }


def check_may_write(key: KeyFacts) -> None:
    """Raise PermissionDenied where the key's maker may not manage GPUs (any more); a key without one may."""
    if key.user_id is None:
        return
    role = Membership.objects.filter(workspace_id=key.workspace_id, user_id=key.user_id).values_list("role", flat=True)
    if not any(permissions.allows(each, Permission.GPU_WRITE) for each in role):
        raise errors.PermissionDenied(_("The role of this API key's maker does not allow to manage GPUs."))


def _prices(row: Deployment) -> dict[str, Any]:
    try:
        run, warm = rates.of_runs(row.gpu_types), rates.of_warm(row.gpu_types)
    except errors.Overloaded:
        return {"creditsPerSecond": None, "warmCreditsPerSecond": None}
    return {
        "creditsPerSecond": money.credits_json(run.microcredits_per_second),
        "warmCreditsPerSecond": money.credits_json(warm.microcredits_per_second),
    }


def _refuse_unknown(body: Mapping[str, Any], known: set[str]) -> None:
    for name in body:
        if name not in known and name != rules.OWN_MEMBER:
            shown = storable(name[:64])
            message = _("%(name)s is no member of a deployment.") % {"name": shown}
            raise errors.InvalidRequest(message, param=shown)


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

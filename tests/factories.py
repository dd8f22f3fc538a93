"""Things a test needs to exist, each made by the product's own functions and complete: ``factories.user()``."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any
from uuid import UUID

from allauth.account.models import EmailAddress
from django.db.models import F

from accounts.models import User
from core import clock, ids
from events import audit
from jobs.models import Job
from keys import issuing
from keys.models import ApiKey
from orgs.models import Membership, Workspace
from orgs.workspaces import new_slug
from usage.models import RequestLog, Rollup

PASSWORD = "a horse of correct batteries"

_numbers = itertools.count(1)


def user(email: str = "", *, verified: bool = True, password: str | None = PASSWORD, **fields: Any) -> User:
    """A person with a personal workspace, who may sign in with PASSWORD."""
    email = email or f"person{next(_numbers)}@people.example"
    person = User.objects.create_user(email, password, **fields)
    EmailAddress.objects.create(user=person, email=person.email, primary=True, verified=verified)
    return person


def organization(name: str = "Acme") -> Workspace:
    """An organization without members, with its wallet."""
    return Workspace.objects.create(kind=Workspace.Kind.ORGANIZATION, name=name, slug=new_slug(name))


def member(workspace: Workspace, role: str, person: User | None = None) -> User:
    """A person with that role in the workspace."""
    person = person or user(f"{role}{next(_numbers)}@people.example")
    Membership.objects.create(workspace=workspace, user=person, role=role)
    return person


def api_key(
    workspace: Workspace, *, created_by: User | None = None, name: str = "prod", **terms: Any
) -> issuing.Issued:
    """A key and its secret."""
    return issuing.create(workspace, issuing.Terms(name=name, **terms), actor=audit.SYSTEM, created_by=created_by)


def call(workspace: Workspace, **columns: Any) -> RequestLog:
    """A logged call that cost one credit."""
    made: dict[str, Any] = {
        "id": ids.uuid7(),
        "billed_at": clock.now(),
        "workspace_id": workspace.pk,
        "key_name": "prod",
        "endpoint": "chat",
        "model": "gpt-5.5",
        "provider": "openai",
        "target": "openai//gpt-5.5",
        "attempts": 1,
        "status": 200,
        "error_type": "",
        "stream": False,
        "latency_ms": 900,
        "input_tokens": 100,
        "cached_input_tokens": 0,
        "cache_write_tokens": 0,
        "output_tokens": 50,
        "charged_microcredits": 1_000_000,
        "saved_microcredits": 0,
        "estimated": False,
        "late": False,
        "client_disconnected": False,
        "sandbox": False,
        **columns,
    }
    row = RequestLog.objects.create(**{"request_id": made["id"], **made})
    _roll_up(row)
    return row


def running_job(workspace: Workspace, key: ApiKey, **columns: Any) -> Job:
    """A job that a provider is at; nothing is reserved for it."""
    now = clock.now()
    made: dict[str, Any] = {
        "id": ids.uuid7(),
        "workspace": workspace,
        "key_id": key.pk,
        "key_name": key.name,
        "kind": "videos",
        "model": "painter-1",
        "state": Job.State.RUNNING,
        "reserved_microcredits": 40_000_000,
        "asked_at": now,
        "started_at": now,
        "begun": True,
        "run_after": now + timedelta(hours=1),
        "deadline_at": now + timedelta(hours=2),
        **columns,
    }
    return Job.objects.create(**made)


def _roll_up(row: RequestLog) -> None:
    """Into the sums of its day, as settlement does."""
    place = {name: getattr(row, name) for name in ("workspace_id", "model", "endpoint", "status")}
    place |= {"day": row.billed_at.date(), "key_id": row.key_id or UUID(int=0)}
    counted = ("input_tokens", "cached_input_tokens", "output_tokens", "charged_microcredits", "saved_microcredits")
    sums = {"requests": 1, "latency_ms": row.latency_ms, **{name: getattr(row, name) for name in counted}}
    if not Rollup.objects.filter(**place).update(**{name: F(name) + value for name, value in sums.items()}):
        Rollup.objects.create(**place, **sums)

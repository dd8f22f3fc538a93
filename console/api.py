"""``GET /api/me``: who am I, asked with a session or with a key."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Router, Schema
from ninja.security import HttpBearer
from pydantic import ConfigDict
from pydantic.alias_generators import to_camel

from events import audit
from keys import auth, lookup
from keys.models import ApiKey
from orgs import access
from orgs.access import Access
from orgs.models import Workspace

router = Router(tags=["Account"])


class _Out(Schema):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class UserOut(_Out):
    id: UUID
    email: str
    name: str


class WorkspaceOut(_Out):
    id: UUID
    kind: str
    name: str
    slug: str


class MembershipOut(WorkspaceOut):
    role: str


class KeyOut(_Out):
    id: UUID
    name: str
    prefix: str


class Me(_Out):
    """``user`` and ``memberships`` for a session, ``key`` for a key; ``workspace`` is the one in use."""

    user: UserOut | None
    workspace: WorkspaceOut
    role: str | None
    memberships: list[MembershipOut]
    key: KeyOut | None


class SessionOrKey(HttpBearer):
    """A key where one is sent, in any header that the gateway takes it from, else the session."""

    def __call__(self, request: HttpRequest) -> ApiKey | Access:
        if not access.carries_key(request):
            return access.current(request)
        headers = {name.lower().encode(): value.encode("latin-1", "replace") for name, value in request.headers.items()}
        return lookup.by_secret(auth.presented(headers, b"", allow_query=False), address=audit.address_of(request))

    def authenticate(self, request: HttpRequest, token: str) -> ApiKey | Access:
        return self(request)


@router.get("/me", auth=SessionOrKey(), response=Me, by_alias=True, summary="Who am I")
def me(request: HttpRequest) -> dict[str, Any]:
    who: ApiKey | Access = request.auth  # type: ignore[attr-defined]
    return _of_key(who) if isinstance(who, ApiKey) else _of_person(who)


def _of_key(key: ApiKey) -> dict[str, Any]:
    return {
        "user": None,
        "workspace": _workspace(key.workspace),
        "role": None,
        "memberships": [],
        "key": {"id": key.pk, "name": key.name, "prefix": key.prefix},
    }


def _of_person(who: Access) -> dict[str, Any]:
    rows = access.memberships(who.user)
    return {
        "user": {"id": who.user.pk, "email": who.user.email, "name": who.user.name},
        "workspace": _workspace(who.workspace),
        "role": who.role,
        "memberships": [{**_workspace(row.workspace), "role": row.role} for row in rows],
        "key": None,
    }


def _workspace(workspace: Workspace) -> dict[str, Any]:
    return {"id": workspace.pk, "kind": workspace.kind, "name": workspace.name, "slug": workspace.slug}

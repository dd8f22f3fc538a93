"""Groups of a directory. What a group means for a role is written in the connection's map, and nowhere else."""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from scim2_models import InvalidValueException, NotFoundException, UniquenessException

from core import clock, ids
from events import audit
from sso.models import ScimGroup, ScimUser, SsoConnection
from sso.scim import BASE_PATH, people
from sso.scim.resources import MOST_MEMBERS, Group

_LENGTH: Final = 255


def rows(connection: SsoConnection) -> QuerySet[ScimGroup]:
    """All groups of the directory, in a lasting order."""
    return ScimGroup.objects.filter(connection=connection).prefetch_related("members").order_by("id")


def find(connection: SsoConnection, identifier: str) -> ScimGroup:
    """One group of this directory. Raises NotFoundException."""
    key = ids.parse(identifier)
    row = rows(connection).filter(pk=key).first() if key else None
    if row is None:
        raise NotFoundException(detail="There is no such group.")
    return row


def location(identifier: object) -> str:
    """Where a group is."""
    return f"{settings.SITE_URL}{BASE_PATH}/Groups/{identifier}"


def resource(row: ScimGroup) -> Group:
    """The group as the protocol has it."""
    members = [
        {"value": str(person.pk), "$ref": people.location(person.pk), "type": "User"} for person in row.members.all()
    ]
    return Group.model_validate(
        {
            "schemas": [str(Group.__schema__)],
            "id": str(row.pk),
            "externalId": row.external_id or None,
            "displayName": row.display_name,
            "members": members or None,
            "meta": {
                "resourceType": "Group",
                "created": row.created_at,
                "lastModified": row.updated_at,
                "location": location(row.pk),
            },
        }
    )


def create(connection: SsoConnection, wanted: Group, *, actor: audit.Actor) -> ScimGroup:
    """Keep a new group with its members. Raises SCIMException."""
    with transaction.atomic():
        people.lock(connection)
        row = ScimGroup(connection=connection)
        _fill(row, wanted)
        row.save()
        _set_members(row, wanted, actor)
        _record("scim_group.create", row, actor, members=row.members.count())
    return row


def update(row: ScimGroup, wanted: Group, *, actor: audit.Actor) -> ScimGroup:
    """Make the group as ``wanted``; roles follow. Raises SCIMException."""
    with transaction.atomic():
        people.lock(row.connection)
        _fill(row, wanted)
        row.updated_at = clock.now()
        row.save()
        _set_members(row, wanted, actor)
        _record("scim_group.update", row, actor, members=row.members.count())
    return row


def delete(row: ScimGroup, *, actor: audit.Actor) -> None:
    """Forget the group; its members lose the role that it gave."""
    with transaction.atomic():
        people.lock(row.connection)
        were = list(row.members.values_list("pk", flat=True))
        _record("scim_group.delete", row, actor, members=len(were))
        row.delete()
        people.sync_roles(row.connection, ScimUser.objects.filter(pk__in=were), actor=actor)


def _fill(row: ScimGroup, wanted: Group) -> None:
    name, external_id = (wanted.display_name or "").strip(), (wanted.external_id or "").strip()
    if not 0 < len(name) <= _LENGTH or len(external_id) > _LENGTH or "\x00" in name + external_id:
        raise InvalidValueException(detail=f"displayName and externalId have at most {_LENGTH} characters.")
    others = ScimGroup.objects.filter(connection=row.connection).exclude(pk=row.pk)
    same = Q(display_name__iexact=name) | (Q(external_id=external_id) if external_id else Q())
    if others.filter(same).exists():
        raise UniquenessException(detail="Another group has this displayName or externalId.")
    row.display_name, row.external_id = name, external_id


def _set_members(row: ScimGroup, wanted: Group, actor: audit.Actor) -> None:
    """Exactly the members named. Raises InvalidValueException for anybody who is not in this directory."""
    named = {str(member.value or "").strip() for member in wanted.members or ()}
    keys = {key for key in map(ids.parse, named) if key is not None}
    if len(keys) < len(named) or len(keys) > MOST_MEMBERS:
        raise InvalidValueException(detail="A member's value is no id of a user, or there are too many.")
    found = list(ScimUser.objects.filter(connection=row.connection, pk__in=keys))
    if len(found) != len(keys):
        raise InvalidValueException(detail="A member is no user of this directory.")
    before = set(row.members.values_list("pk", flat=True))
    row.members.set(found)
    people.sync_roles(row.connection, ScimUser.objects.filter(pk__in=before | keys), actor=actor)


def _record(action: str, row: ScimGroup, actor: audit.Actor, **details: Any) -> None:
    audit.record(
        action,
        actor=actor,
        target=audit.Target("scim_group", row.pk, row.display_name),
        workspace_id=row.connection.workspace_id,
        details={"connection": str(row.connection_id), **details},
    )

"""People of a directory: kept, given an account and a membership while they are active, and neither afterwards."""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _
from scim2_models import ConflictException, InvalidValueException, NotFoundException, UniquenessException

from accounts.models import User as Account
from core import clock, errors, ids
from events import audit
from orgs import members
from orgs.members import Source
from orgs.models import Membership
from orgs.permissions import Role
from sso import people as accounts
from sso import roles
from sso.models import ScimUser, SsoConnection
from sso.refusals import SignInRefused
from sso.scim import BASE_PATH
from sso.scim.resources import User

_NAME_LENGTH: Final = 254
_EXTERNAL_ID_LENGTH: Final = 255
_VALUE_LENGTH: Final = 500
_MOST_EMAILS: Final = 20
#: Beside the attributes: the client took `active` away. Access stays as it was; only a value begins or ends it.
_UNASSIGNED: Final = "activeUnassigned"


# ── Reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def rows(connection: SsoConnection) -> QuerySet[ScimUser]:
    """Everybody in the directory, in a lasting order."""
    return ScimUser.objects.filter(connection=connection).prefetch_related("groups").order_by("id")


def find(connection: SsoConnection, identifier: str) -> ScimUser:
    """One person of this directory. Raises NotFoundException."""
    key = ids.parse(identifier)
    row = rows(connection).filter(pk=key).first() if key else None
    if row is None:
        raise NotFoundException(detail="There is no such user.")
    return row


def location(identifier: object) -> str:
    """Where a person is."""
    return f"{settings.SITE_URL}{BASE_PATH}/Users/{identifier}"


def resource(row: ScimUser) -> User:
    """The person as the protocol has it."""
    groups = [
        {
            "value": str(group.pk),
            "display": group.display_name,
            "$ref": f"{settings.SITE_URL}{BASE_PATH}/Groups/{group.pk}",
        }
        for group in row.groups.all()
    ]
    return User.model_validate(
        {
            **{name: value for name, value in row.attributes.items() if name != _UNASSIGNED},
            "schemas": [str(User.__schema__)],
            "id": str(row.pk),
            "externalId": row.external_id or None,
            "userName": row.user_name,
            "active": None if row.attributes.get(_UNASSIGNED) else row.active,
            "groups": groups or None,
            "meta": {
                "resourceType": "User",
                "created": row.created_at,
                "lastModified": row.updated_at,
                "location": location(row.pk),
            },
        }
    )


# ── Writing ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def create(connection: SsoConnection, wanted: User, *, actor: audit.Actor) -> ScimUser:
    """Keep a new person, and let them in unless they are inactive. Raises SCIMException."""
    with transaction.atomic():
        lock(connection)
        row = ScimUser(connection=connection, active=wanted.active is not False)
        _fill(row, wanted)
        row.user = _account(row, wanted, actor)
        row.save()
        _record("scim_user.create", row, actor, active=row.active, account=row.user is not None)
        if row.active:
            _let_in(row, actor)
    return row


def update(row: ScimUser, wanted: User, *, actor: audit.Actor) -> ScimUser:
    """Make the person as ``wanted``; access begins and ends with ``active``. Raises SCIMException."""
    with transaction.atomic():
        lock(row.connection)
        before, had_account = row.active, row.user_id is not None
        row.active = before if wanted.active is None else wanted.active
        _fill(row, wanted)
        if wanted.active is None:
            row.attributes[_UNASSIGNED] = True
        if row.user is None:
            row.user = _account(row, wanted, actor)
        row.updated_at = clock.now()
        row.save()
        _record(_action(before, row.active), row, actor, active=row.active)
        if row.active and not (before and had_account):
            _let_in(row, actor)
        elif before and not row.active:
            _put_out(row, actor)
    return row


def delete(row: ScimUser, *, actor: audit.Actor) -> None:
    """Forget the person and end their access. The account stays: it may own things elsewhere."""
    with transaction.atomic():
        lock(row.connection)
        if row.active:
            _put_out(row, actor)
        _record("scim_user.delete", row, actor)
        row.delete()


def sync_roles(connection: SsoConnection, people: QuerySet[ScimUser], *, actor: audit.Actor) -> None:
    """Give active people the role that their groups mean by the map; without a map nobody's role changes."""
    if not connection.role_map:
        return
    for row in people.filter(active=True, user__isnull=False).select_related("user", "connection"):
        assert row.user is not None
        membership = Membership.objects.filter(workspace_id=connection.workspace_id, user=row.user).first()
        role = role_of(row)
        if membership is not None and membership.role not in (Role.OWNER, role):
            members.change_role(connection.workspace, row.user, role, actor, Source.SCIM)


def role_of(row: ScimUser) -> Role:
    """What the person's groups mean by the map, the default role otherwise. Never owner."""
    names = list(row.groups.values_list("display_name", flat=True)) if row.pk else []
    return roles.of_groups(row.connection, names) or Role(row.connection.default_role)


def lock(connection: SsoConnection) -> None:
    """Changes of one directory happen one after the other."""
    SsoConnection.objects.select_for_update(no_key=True, of=("self",)).get(pk=connection.pk)


def _action(before: bool, after: bool) -> str:
    if before == after:
        return "scim_user.update"
    return "scim_user.activate" if after else "scim_user.deactivate"


def _fill(row: ScimUser, wanted: User) -> None:
    """Names and attributes. Raises InvalidValueException and UniquenessException."""
    row.user_name = _text(wanted.user_name, "userName", _NAME_LENGTH)
    row.external_id = _text(wanted.external_id or "", "externalId", _EXTERNAL_ID_LENGTH, empty=True)
    row.attributes = _attributes(wanted)
    others = ScimUser.objects.filter(connection=row.connection).exclude(pk=row.pk)
    same = Q(user_name__iexact=row.user_name)
    if row.external_id:
        same |= Q(external_id=row.external_id)
    if others.filter(same).exists():
        raise UniquenessException(detail="Another user has this userName or externalId.")


def _text(value: str | None, name: str, most: int, *, empty: bool = False) -> str:
    text = (value or "").strip()
    if (not text and not empty) or len(text) > most or "\x00" in text:
        raise InvalidValueException(detail=f"{name} must have 1 to {most} characters.")
    return text


def _attributes(wanted: User) -> dict[str, Any]:
    kept: dict[str, Any] = wanted.model_dump(include={"name", "display_name", "emails"})
    kept = {name: value for name, value in kept.items() if name in ("name", "displayName", "emails")}
    if len(wanted.emails or ()) > _MOST_EMAILS or any(len(text) > _VALUE_LENGTH for text in _texts(kept)):
        raise InvalidValueException(detail=f"A value is longer than {_VALUE_LENGTH} characters, or there are too many.")
    return kept


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for part in value.values() for text in _texts(part)]
    if isinstance(value, list):
        return [text for part in value for text in _texts(part)]
    return [value] if isinstance(value, str) else []


def email_of(wanted: User) -> str:
    """The address to know the person by: the primary one, else the first, else a userName that is one."""
    given = [email for email in wanted.emails or () if email.value]
    chosen = next((email for email in given if email.primary), given[0] if given else None)
    return str(chosen.value) if chosen else wanted.user_name or ""


def _account(row: ScimUser, wanted: User, actor: audit.Actor) -> Account | None:
    """The account behind the address, a new one if need be; None where the organization may not speak for it."""
    try:
        email = accounts.address(row.connection, email_of(wanted))
    except SignInRefused:
        return None
    account = accounts.with_address(email)
    if account is None:
        return accounts.create(email, _name(wanted), by=actor, workspace=row.connection.workspace)
    if ScimUser.objects.filter(connection=row.connection, user=account).exclude(pk=row.pk).exists():
        raise UniquenessException(detail="Another user of this directory has this e-mail address.")
    if accounts.is_unused(account):
        accounts.take_over(account, email, by=actor, workspace=row.connection.workspace)
        return account
    if account.is_staff or not accounts.is_confirmed(account, email):
        return None
    return account


def _name(wanted: User) -> str:
    name = wanted.name
    parts = " ".join(part for part in (name.given_name, name.family_name) if part) if name else ""
    return (wanted.display_name or (name.formatted if name else "") or parts or "").strip()


def _let_in(row: ScimUser, actor: audit.Actor) -> None:
    if row.user is None or not row.user.is_active:
        return
    members.add_member(row.connection.workspace, row.user, role_of(row), actor, Source.SCIM)


def _put_out(row: ScimUser, actor: audit.Actor) -> None:
    """End membership and sessions. Raises ConflictException for the last owner, who stays to let others in."""
    if row.user is None:
        return
    try:
        members.remove_member(row.connection.workspace, row.user, actor, Source.SCIM)
    except errors.NotFound:
        pass  # no member any more: there is nothing to end
    except errors.Conflict:
        text = _("This is the organization's last owner. Make somebody else an owner first.")
        raise ConflictException(detail=text) from None


def _record(action: str, row: ScimUser, actor: audit.Actor, **details: Any) -> None:
    audit.record(
        action,
        actor=actor,
        target=audit.Target("scim_user", row.pk, row.user_name),
        workspace_id=row.connection.workspace_id,
        details={"connection": str(row.connection_id), **details},
    )

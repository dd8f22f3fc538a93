"""Connections to identity providers: drafted, completed, switched on and off, checked, deleted.

A draft exists so that its addresses can be registered over there first. Whoever completes it hands over what the
provider published; that is fetched and checked on the spot, and an unreachable provider leaves the connection inactive.
The pages and the management API call these functions; each writes its row into the audit trail.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from uuid import UUID

from allauth.account.models import EmailAddress
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from accounts import sessions
from accounts.models import User
from core import clock, errors, secrets
from core.stale_forms import Outdated
from events import audit, outbox
from orgs.models import Membership, Workspace
from orgs.permissions import Role
from sso import details, domains, identifiers, routing
from sso.models import OrgDomain, SsoConnection
from sso.oidc import discovery, leaving
from sso.oidc.errors import ProviderProblem
from sso.refusals import target
from sso.saml import metadata, sides

MOST_CONNECTIONS: Final = 10
_Status = SsoConnection.Status

#: Columns that the provider's answers fill.
ASKED: Final = (
    "discovery", "algorithms", "jwks", "jwks_fetched_at", "idp_entity_id", "idp_sso_url", "idp_sso_binding",
    "idp_certificates", "sign_requests", "name_id_format", "last_check_at", "last_check_ok", "last_check_error",
    "updated_at",
)  # fmt: skip
#: Columns that people fill. Our own key pair is in neither: it may be made while a provider is being asked.
_CHOSEN: Final = (
    "name", "status", "enforced", "default_role", "role_claim", "role_map", "attribute_map", "idp_initiated", "issuer",
    "client_id", "client_secret_sealed", "provider_logout", "idp_metadata_url",
)  # fmt: skip
#: What a change may name that is a plain column after `details` has checked it.
_PLAIN: Final = frozenset(
    {"name", "default_role", "role_claim", "role_map", "attribute_map", "idp_initiated", "provider_logout"}
)


def of_workspace(workspace: Workspace) -> QuerySet[SsoConnection]:
    """The organization's connections, the oldest first."""
    return SsoConnection.objects.filter(workspace=workspace).select_related("workspace").order_by("created_at", "id")


def find(workspace: Workspace, provider_id: str) -> SsoConnection:
    """The organization's connection of that id. Raises NotFound for any other."""
    known = identifiers.is_provider_id(provider_id)
    row = of_workspace(workspace).filter(provider_id=provider_id).first() if known else None
    if row is None:
        raise errors.NotFound(_("There is no such connection."))
    return row


def create(workspace: Workspace, kind: str, wanted: Mapping[str, Any], *, by: audit.Actor) -> SsoConnection:
    """A new connection; without anything but its kind, a draft. ``wanted`` is as for `change`.

    Raises InvalidRequest that names the member at fault, before anything is saved.
    """
    if kind not in SsoConnection.Kind.values:
        raise errors.InvalidRequest(
            _("The type is one of: %(kinds)s.") % {"kinds": ", ".join(SsoConnection.Kind.values)}, param="type"
        )
    user = User.objects.filter(pk=by.user_id).first() if by.user_id else None
    connection = SsoConnection(workspace=workspace, kind=kind, created_by=user)
    claimed = domains.claimable(wanted["domain"]) if wanted.get("domain") else ""
    _apply(connection, wanted)
    with transaction.atomic():
        Workspace.objects.select_for_update(no_key=True).get(pk=workspace.pk)
        if of_workspace(workspace).count() >= MOST_CONNECTIONS:
            raise errors.Conflict(
                _("An organization has at most %(most)d connections.") % {"most": MOST_CONNECTIONS},
                code="too_many_connections",
            )
        connection.save()
        _record("sso.create", connection, by, type=kind, status=connection.status)
        _tell(connection, "created")
        if claimed:
            domains.claim(workspace, claimed, by=by, connection=connection)
    return connection


def draft(workspace: Workspace, kind: str, *, by: audit.Actor) -> SsoConnection:
    """A draft to start from: one that nobody has touched yet, else a new one. A form sent twice makes one."""
    with transaction.atomic():
        Workspace.objects.select_for_update(no_key=True).get(pk=workspace.pk)
        rows = of_workspace(workspace).filter(kind=kind, status=_Status.DRAFT, name="", issuer="", idp_entity_id="")
        return rows.first() or create(workspace, kind, {}, by=by)


def change(
    connection: SsoConnection,
    wanted: Mapping[str, Any],
    *,
    by: audit.Actor,
    is_outdated: Callable[[SsoConnection], bool] = lambda row: False,
) -> SsoConnection:
    """Change what ``wanted`` names and leave the rest; a draft that is complete and reachable becomes active.

    Members: name, domain, default_role, role_claim, role_map, attribute_map, idp_initiated, enforced, status (active or
    disabled); for OpenID Connect issuer, client_id, client_secret; for SAML metadata_xml or metadata_url, entity_id
    (which of several in the metadata). Raises InvalidRequest that names the member at fault, Conflict, and Outdated
    where ``is_outdated`` says so of the locked row: the provider is asked before it is held.
    """
    claimed = domains.claimable(wanted["domain"]) if wanted.get("domain") else ""
    seen = SsoConnection.objects.select_related("workspace").get(pk=connection.pk)
    read = {name: getattr(seen, name) for name in (*ASKED, *_CHOSEN)}
    _apply(seen, wanted)
    touched = [name for name, value in read.items() if getattr(seen, name) != value]
    with transaction.atomic():
        row = _locked(seen)  # the provider took its time, and somebody else may have changed other columns meanwhile
        if is_outdated(row):
            raise Outdated
        before = _seen(row)
        for name in touched:
            setattr(row, name, getattr(seen, name))
        if claimed:
            domains.claim(row.workspace, claimed, by=by, connection=row)
        if row.enforced and not before["enforced"]:
            _check_enforceable(row)
        row.save(update_fields=[*touched, "updated_at"])
        if row.enforced and not before["enforced"]:
            _sign_out(row, by)
        changed = [name for name, value in _seen(row).items() if value != before[name]]
        if changed:
            _record("sso.change", row, by, fields=sorted(changed), status=row.status, enforced=row.enforced)
            _tell(row, "changed")
    return row


def delete(connection: SsoConnection, *, by: audit.Actor) -> None:
    """End a connection for good. People keep their accounts and memberships; nobody signs in over it any more."""
    with transaction.atomic():
        row = _locked(connection)
        _record("sso.delete", row, by, status=row.status, enforced=row.enforced)
        _tell(row, "deleted")
        row.delete()


def check(connection: SsoConnection, *, by: audit.Actor) -> SsoConnection:
    """Ask the provider again, now: discovery and keys, or metadata where their address is known."""
    with transaction.atomic():
        fresh = SsoConnection.objects.select_related("workspace").get(pk=connection.pk)
    refresh(fresh)
    with transaction.atomic():
        row = _locked(fresh)
        if same_provider(row, fresh):
            fresh.save(update_fields=ASKED)
        _record("sso.check", fresh, by, reachable=fresh.last_check_ok)
    return fresh


def refresh(connection: SsoConnection) -> None:
    """Read again what the provider publishes, into the row (unsaved); a failure is noted on it, not raised."""
    try:
        if connection.kind == SsoConnection.Kind.OIDC:
            discovery.read(connection)
        elif connection.idp_metadata_url:
            _read_metadata_again(connection)
    except (ProviderProblem, errors.InvalidRequest) as problem:
        _note(connection, str(problem))
    else:
        _note(connection, "")


def is_complete(connection: SsoConnection) -> bool:
    """Whether the provider's own data are there, so that a sign-in can be tried."""
    if connection.kind == SsoConnection.Kind.OIDC:
        return bool(connection.discovery and connection.client_id and connection.client_secret_sealed)
    return bool(connection.idp_entity_id and connection.idp_sso_url and connection.idp_certificates)


def proven_domains(connection: SsoConnection) -> QuerySet[OrgDomain]:
    """The proven domains whose people this connection may sign in."""
    return OrgDomain.objects.filter(workspace_id=connection.workspace_id, verified_at__isnull=False)


def same_provider(row: SsoConnection, asked: SsoConnection) -> bool:
    """Whether what ``asked`` heard is about the provider that ``row`` is registered with now."""
    names = ("issuer", "idp_metadata_url")
    return all(getattr(row, name) == getattr(asked, name) for name in names)


# ── Parts ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def _locked(connection: SsoConnection) -> SsoConnection:
    """The row as it is now, held until the transaction ends. Raises NotFound where it was deleted meanwhile."""
    rows = SsoConnection.objects.select_for_update(no_key=True, of=("self",)).select_related("workspace")
    row = rows.filter(pk=connection.pk).first()
    if row is None:
        raise errors.NotFound(_("There is no such connection."))
    return row


def _apply(connection: SsoConnection, wanted: Mapping[str, Any]) -> None:
    """Checked values onto the row (unsaved), the provider asked where its data changed."""
    was_draft = connection.status == _Status.DRAFT
    for name in _PLAIN & wanted.keys():
        setattr(connection, name, details.checked(name, wanted[name]))
    if connection.kind == SsoConnection.Kind.OIDC:
        details.refuse(wanted, "metadata_xml", "metadata_url", "entity_id", "idp_initiated")
        _apply_oidc(connection, wanted)
    else:
        details.refuse(wanted, "issuer", "client_id", "client_secret", "provider_logout")
        _apply_saml(connection, wanted)
    if "enforced" in wanted:
        connection.enforced = bool(wanted["enforced"])
    if "status" in wanted:
        _set_status(connection, wanted["status"])
    elif was_draft and is_complete(connection) and connection.last_check_ok:
        connection.status = _Status.ACTIVE


def _apply_oidc(connection: SsoConnection, wanted: Mapping[str, Any]) -> None:
    if wanted.get("client_id") is not None:
        connection.client_id = details.text("clientId", wanted["client_id"], most=255)
    if wanted.get("client_secret"):
        connection.client_secret_sealed = secrets.encrypt(
            details.text("clientSecret", wanted["client_secret"], most=1000)
        )
    if wanted.get("issuer"):
        _apply_issuer(connection, wanted["issuer"])
    if wanted.get("provider_logout"):
        _check_sign_out(connection)


def _apply_issuer(connection: SsoConnection, given: str) -> None:
    try:
        issuer = discovery.check_issuer(given)
    except ProviderProblem as problem:
        raise errors.InvalidRequest(str(problem), param="issuer") from None
    if issuer != connection.issuer:  # what was read of the old one says nothing of the new one
        connection.discovery, connection.jwks, connection.jwks_fetched_at = {}, {}, None
    connection.issuer = issuer
    refresh(connection)


def _check_sign_out(connection: SsoConnection) -> None:
    """Raise InvalidRequest where the provider has answered and publishes no address to sign out at."""
    if connection.discovery and not leaving.is_offered(connection):
        refresh(connection)  # it may have been read when nobody asked for that
    if connection.discovery and not leaving.is_offered(connection):
        raise errors.InvalidRequest(
            _("The provider's document has no valid %(name)s.") % {"name": "end_session_endpoint"},
            param="providerLogout",
        )


def _apply_saml(connection: SsoConnection, wanted: Mapping[str, Any]) -> None:
    entity_id = wanted.get("entity_id") or ""
    if wanted.get("metadata_xml"):
        document = wanted["metadata_xml"].encode(errors="replace")
        sides.take(connection, metadata.read(document, entity_id=entity_id))
        connection.idp_metadata_url = ""
        _note(connection, "")
    elif wanted.get("metadata_url"):
        connection.idp_metadata_url = details.text("metadataUrl", wanted["metadata_url"], most=1000)
        try:
            document = metadata.fetch(connection.idp_metadata_url)
        except errors.InvalidRequest as problem:
            _note(connection, problem.message)
            return
        sides.take(connection, metadata.read(document, entity_id=entity_id))
        _note(connection, "")


def _read_metadata_again(connection: SsoConnection) -> None:
    """New certificates come by themselves; another provider never does."""
    document = metadata.fetch(connection.idp_metadata_url)
    sides.take(connection, metadata.read(document, entity_id=connection.idp_entity_id))


def _note(connection: SsoConnection, error: str) -> None:
    connection.last_check_at = clock.now()
    connection.last_check_ok, connection.last_check_error = not error, identifiers.printable(error, 300)


def _set_status(connection: SsoConnection, status: object) -> None:
    if status not in (_Status.ACTIVE, _Status.DISABLED):
        raise errors.InvalidRequest(_("The status is active or disabled."), param="status")
    if status == _Status.ACTIVE and not is_complete(connection):
        raise errors.Conflict(
            _("The connection is not complete: enter the identity provider's data first."), code="incomplete"
        )
    connection.status = str(status)


def _check_enforceable(connection: SsoConnection) -> None:
    """Nobody may lock their organization out. Raises Conflict."""
    if not connection.is_active or not proven_domains(connection).exists():
        raise errors.Conflict(
            _("Switch the connection on and prove a domain first: it would be required of nobody."),
            code="not_enforceable",
        )
    owners = Membership.objects.filter(workspace_id=connection.workspace_id, role=Role.OWNER).select_related("user")
    if not any(routing.may_break_glass(row.user, connection) for row in owners):
        raise errors.Conflict(
            _("An owner needs a second factor first: that owner can still get in on the day the provider is down."),
            code="no_way_back",
        )


def _sign_out(connection: SsoConnection, by: audit.Actor) -> None:
    """End the sessions of the domains' people, but for whoever acts: some were opened in a way that is closed now."""
    ours = Q()
    for domain in proven_domains(connection).values_list("domain", flat=True):
        ours |= Q(email__iendswith=f"@{domain}")
    addresses = EmailAddress.objects.filter(ours, verified=True).exclude(user_id=by.user_id)
    for user in User.objects.filter(pk__in=addresses.values("user_id")):
        sessions.end_all(user)


def _seen(connection: SsoConnection) -> dict[str, Any]:
    """What a change is told by, secrets as whether they are the same."""
    names = (
        "name", "status", "enforced", "default_role", "role_claim", "role_map", "attribute_map", "idp_initiated",
        "provider_logout", "issuer", "client_id", "idp_entity_id", "idp_sso_url", "idp_certificates",
        "idp_metadata_url",
    )  # fmt: skip
    sealed = connection.client_secret_sealed
    return {name: getattr(connection, name) for name in names} | {"client_secret": bytes(sealed) if sealed else b""}


def _tell(connection: SsoConnection, change: str) -> None:
    data = {
        "connectionId": connection.provider_id,
        "type": connection.kind,
        "name": connection.name,
        "change": change,
        "status": connection.status,
        "enforced": connection.enforced,
    }
    outbox.tell(connection.workspace_id, "sso.connection_changed", data)


def _record(action: str, connection: SsoConnection, by: audit.Actor, **details_: object) -> None:
    audit.record(
        action, actor=by, target=target(connection), workspace_id=UUID(str(connection.workspace_id)), details=details_
    )

"""E-mail domains of organizations: claimed, proven, checked again, given up.

Proof is a TXT record at ``_hypereal-challenge.<domain>``, a file at ``https://<domain>/.well-known/…``, or the word of
the operator of this installation. A code by mail would prove that somebody reads a mailbox there, not that the domain
is theirs. Only one organization holds a proven domain; others may claim it but can't prove it as long as it is held.
"""

from __future__ import annotations

import logging
import re
from datetime import timedelta
from typing import Final
from uuid import UUID

import idna
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from core import clock, errors, ids
from events import audit
from orgs.models import Workspace
from sso import proofs
from sso.models import DOMAIN_LENGTH, OrgDomain, SsoConnection
from sso.public_mail import PUBLIC_MAIL

log = logging.getLogger(__name__)

MOST_DOMAINS: Final = 50
#: A proven domain is looked at again after this long, and lost after so many looks in a row that found no proof.
RECHECK_EVERY: Final = timedelta(days=1)
FAILURES_UNTIL_LOST: Final = 3

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})+")


def of_workspace(workspace: Workspace) -> QuerySet[OrgDomain]:
    """The organization's domains by name."""
    return OrgDomain.objects.filter(workspace=workspace).select_related("connection", "workspace").order_by("domain")


def find(workspace: Workspace, domain_id: UUID | str) -> OrgDomain:
    """The organization's domain of that id. Raises NotFound for any other."""
    identifier = domain_id if isinstance(domain_id, UUID) else ids.parse(domain_id)
    row = of_workspace(workspace).filter(pk=identifier).first() if identifier else None
    if row is None:
        raise errors.NotFound(_("There is no such domain."))
    return row


def normalize(text: str) -> str:
    """A domain name in lower-case ASCII (IDNA 2008). Raises ValueError for what is none that people have mail at."""
    name = text.strip().removesuffix(".")
    try:
        name = (name if name.isascii() else idna.encode(name, uts46=True).decode("ascii")).lower()
    except idna.IDNAError:
        raise ValueError(_("This is not a domain name.")) from None
    if len(name) > DOMAIN_LENGTH or not _DOMAIN.fullmatch(name) or name.rpartition(".")[2].isdigit():
        raise ValueError(_("This is not a domain name. Write it like example.com."))
    return name


def claimable(text: str) -> str:
    """A domain that an organization may claim. Raises InvalidRequest that names the field ``domain``."""
    try:
        name = normalize(text)
    except ValueError as error:
        raise errors.InvalidRequest(str(error), param="domain") from None
    if name in PUBLIC_MAIL or any(name.endswith(f".{public}") for public in PUBLIC_MAIL):
        raise errors.InvalidRequest(
            _("Everybody can have an address at %(domain)s: it can't belong to one organization.") % {"domain": name},
            param="domain",
            code="public_domain",
        )
    return name


def claim(workspace: Workspace, text: str, *, by: audit.Actor, connection: SsoConnection | None = None) -> OrgDomain:
    """The organization's claim on a domain, pending until it is proven. One that stands already is given back.

    Raises InvalidRequest for what is no domain, a public one, or one too many.
    """
    name = claimable(text)
    with transaction.atomic():
        Workspace.objects.select_for_update(no_key=True).get(pk=workspace.pk)
        existing = OrgDomain.objects.filter(workspace=workspace, domain=name).first()
        if existing is not None:
            if connection is not None and existing.connection_id != connection.pk:
                route(existing, connection, by=by)
            return existing
        if OrgDomain.objects.filter(workspace=workspace).count() >= MOST_DOMAINS:
            raise errors.InvalidRequest(
                _("An organization can have %(most)d domains.") % {"most": MOST_DOMAINS}, param="domain"
            )
        row = OrgDomain.objects.create(workspace=workspace, domain=name, connection=connection)
        _record("domain.add", row, by)
    return row


def route(row: OrgDomain, connection: SsoConnection | None, *, by: audit.Actor) -> None:
    """Send the people of a domain to ``connection`` from now on; None: to the organization's only active one.

    Nothing is recorded where nothing changes. Raises NotFound for a domain that was given up meanwhile.
    """
    if connection is not None and connection.workspace_id != row.workspace_id:
        raise errors.NotFound(_("There is no such connection."))
    with transaction.atomic():
        if locked(row).connection_id == (connection.pk if connection else None):
            return
        row.connection = connection
        row.save(update_fields=["connection"])
        _record("domain.route", row, by, connection=str(connection.pk) if connection else None)


def remove(row: OrgDomain, *, by: audit.Actor) -> None:
    """Give a domain up: nobody is routed or let in by it any more. Raises NotFound where that was done already."""
    with transaction.atomic():
        locked(row)
        _record("domain.remove", row, by, proven=row.verified_at is not None)
        row.delete()


def prove(row: OrgDomain, *, by: audit.Actor) -> proofs.Outcome:
    """Look for the proof now, record first, then file. A proven domain counts at once.

    Raises Conflict where another organization holds the domain, NotFound where it was given up during the look.
    """
    if row.verified_at is None and held_by_other(row):
        raise _held(row)
    outcome = proofs.look(row.domain, row.token)
    if outcome.method is None:
        row.checked_at = clock.now()
        OrgDomain.objects.filter(pk=row.pk).update(checked_at=row.checked_at)
        return outcome
    _verify(row, outcome.method, by=by)
    return outcome


def confirm(workspace: Workspace, text: str, *, by: audit.Actor) -> OrgDomain:
    """The operator's word that a domain is the organization's. Raises Conflict where another one holds it."""
    with transaction.atomic():
        row = claim(workspace, text, by=by)
        _verify(row, OrgDomain.Method.OPERATOR, by=by)
    return row


def held_by_other(row: OrgDomain) -> bool:
    """Whether another organization has proven this domain."""
    return (
        OrgDomain.objects.filter(domain=row.domain, verified_at__isnull=False)
        .exclude(workspace_id=row.workspace_id)
        .exists()
    )


def _verify(row: OrgDomain, method: str, *, by: audit.Actor) -> None:
    row.method, row.failures, row.checked_at = method, 0, clock.now()
    try:
        with transaction.atomic():
            proven_at = locked(row).verified_at  # by somebody quicker, perhaps
            first, row.verified_at = proven_at is None, proven_at or row.checked_at
            row.save(update_fields=["method", "failures", "checked_at", "verified_at"])
            if first:
                _record("domain.verify", row, by, method=str(method))
    except IntegrityError:
        row.verified_at = None
        raise _held(row) from None


def _held(row: OrgDomain) -> errors.Conflict:
    return errors.Conflict(
        _("%(domain)s belongs to another organization here. Its proof has to be given up there first.")
        % {"domain": row.domain},
        code="domain_held",
    )


def recheck() -> int:
    """Look again at what was proven a while ago; how many domains were lost. Those of the operator's word stay."""
    due = OrgDomain.objects.filter(verified_at__isnull=False, checked_at__lt=clock.now() - RECHECK_EVERY)
    lost = 0
    for row in due.exclude(method=OrgDomain.Method.OPERATOR).order_by("checked_at"):
        try:
            lost += _recheck(row)
        except Exception:  # the others are not to wait for it
            log.exception("a domain could not be looked for", extra={"domain": row.domain})
    return lost


def _recheck(seen: OrgDomain) -> bool:
    """Whether the domain is lost now. A name server that does not answer says nothing against anybody."""
    outcome = proofs.look(seen.domain, seen.token)
    with transaction.atomic():
        rows = OrgDomain.objects.select_for_update(no_key=True, of=("self",)).select_related("workspace")
        row = rows.filter(pk=seen.pk, checked_at=seen.checked_at).first()
        if row is None:  # given up, or proven anew, during the look
            return False
        row.checked_at = clock.now()
        if outcome.method is not None:
            row.method, row.failures = outcome.method, 0
        elif outcome.answered:
            row.failures += 1
        lost = row.failures >= FAILURES_UNTIL_LOST
        if lost:
            row.verified_at, row.failures = None, 0
            _record("domain.lose", row, audit.SYSTEM)
        row.save(update_fields=["checked_at", "method", "failures", "verified_at"])
    return lost


def locked(row: OrgDomain) -> OrgDomain:
    """The row as it is now, held until the transaction ends. Raises NotFound where it was given up meanwhile."""
    now = OrgDomain.objects.select_for_update(no_key=True).filter(pk=row.pk).first()
    if now is None:
        raise errors.NotFound(_("There is no such domain."))
    return now


def _record(action: str, row: OrgDomain, by: audit.Actor, **details: object) -> None:
    target = audit.Target("domain", row.pk, row.domain)
    audit.record(action, actor=by, target=target, workspace_id=row.workspace_id, details=details)

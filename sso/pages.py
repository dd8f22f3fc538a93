"""``/settings/organization/sso``: connect an identity provider in three steps, and ``…/domains``: prove domains.

The draft comes first: its addresses are registered at the provider, whose own data then complete it. Every change asks
for a recent proof of who one is.
"""

from __future__ import annotations

import functools
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.db import transaction
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import reauth
from core import errors, stale_forms
from events import audit
from orgs import access
from orgs.access import MemberRequest, View, requires
from orgs.models import Workspace
from orgs.permissions import Permission
from sso import addresses, certificates, connections, domains, proofs, starting
from sso.models import OrgDomain, SsoConnection
from sso.page_forms import DomainForm, OidcForm, RolesForm, RouteForm, SamlForm


def _door(view: View) -> View:
    """For those who manage single sign-on, in an organization; writes by somebody who just proved to be themselves."""

    @never_cache
    @requires(Permission.SSO_WRITE)
    @functools.wraps(view)
    def guarded(request: MemberRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.access.workspace.kind != Workspace.Kind.ORGANIZATION:
            access.not_found()
        if request.method == "POST":
            reauth.ask(request)
        return view(request, *args, **kwargs)

    return guarded


# ── Connections ──────────────────────────────────────────────────────────────────────────────────────────────────────
@require_GET
@_door
def overview(request: MemberRequest) -> HttpResponse:
    """All connections of the organization, and the way to a new one."""
    rows = list(connections.of_workspace(request.access.workspace))
    return render(request, "sso/overview.html", {"connections": rows, "kinds": SsoConnection.Kind})


@require_POST
@_door
def new(request: MemberRequest) -> HttpResponse:
    """A draft, to begin with."""
    kind = request.POST.get("type", "")
    try:
        if kind not in SsoConnection.Kind.values:
            raise errors.InvalidRequest(_("Choose a kind of connection."))
        made = connections.draft(request.access.workspace, kind, by=audit.actor_of(request))
    except errors.ProductError as error:
        messages.error(request, error.message)
        return HttpResponseRedirect(reverse("organization_sso"))
    return _to(made)


@require_http_methods(["GET", "POST"])
@_door
def connection(request: MemberRequest, provider_id: str) -> HttpResponse:
    """One connection: what to register, what the provider gave, how it stands."""
    found = connections.find(request.access.workspace, provider_id)
    form_of = SamlForm if found.kind == SsoConnection.Kind.SAML else OidcForm
    if request.method == "GET":
        return _page(request, found, form=form_of(connection=found))
    form = form_of(request.POST, connection=found)
    if form.is_outdated():
        return _refused(request, found)
    if form.is_valid():
        try:
            changed = connections.change(
                found,
                form.wanted(),
                by=audit.actor_of(request),
                is_outdated=lambda row: form.is_outdated_by(form_of(connection=row)),
            )
        except stale_forms.Outdated:
            return _refused(request, found)
        except errors.ProductError as error:
            _blame(form, error)
        else:
            _say_how_it_went(request, found, changed)
            return _to(found)
    return _page(request, found, form=form, status=422)


@require_POST
@_door
def roles(request: MemberRequest, provider_id: str) -> HttpResponse:
    """What people become who come over the connection."""
    found = connections.find(request.access.workspace, provider_id)
    form = RolesForm.of(found, request.POST)
    if form.is_outdated():
        return _refused(request, found)
    if form.is_valid():
        try:
            connections.change(
                found,
                form.cleaned_data,
                by=audit.actor_of(request),
                is_outdated=lambda row: form.is_outdated_by(RolesForm.of(row)),
            )
        except stale_forms.Outdated:
            return _refused(request, found)
        except errors.ProductError as error:
            _blame(form, error)
        else:
            messages.success(request, _("Saved."))
            return _to(found)
    form_of = SamlForm if found.kind == SsoConnection.Kind.SAML else OidcForm
    return _page(request, found, form=form_of(connection=found), roles_form=form, status=422)


@require_POST
@_door
def state(request: MemberRequest, provider_id: str) -> HttpResponse:
    """Switch the connection on or off, require it or not: ``status`` or ``enforced``."""
    found = connections.find(request.access.workspace, provider_id)
    wanted: dict[str, Any] = {}
    if "status" in request.POST:
        wanted["status"] = request.POST["status"]
    if "enforced" in request.POST:
        wanted["enforced"] = request.POST["enforced"] == "1"
    try:
        connections.change(found, wanted, by=audit.actor_of(request))
        messages.success(request, _("Saved."))
    except errors.ProductError as error:
        messages.error(request, error.message)
    return _to(found)


@require_POST
@_door
def check(request: MemberRequest, provider_id: str) -> HttpResponse:
    """Ask the provider again, now."""
    found = connections.find(request.access.workspace, provider_id)
    checked = connections.check(found, by=audit.actor_of(request))
    if checked.last_check_ok:
        messages.success(request, _("The identity provider answers."))
    else:
        messages.error(request, checked.last_check_error)
    return _to(found)


@require_POST
@_door
def test(request: MemberRequest, provider_id: str) -> HttpResponse:
    """Try a sign-in, which only shows what would have happened."""
    found = connections.find(request.access.workspace, provider_id)
    if not connections.is_complete(found):
        messages.error(request, _("Enter the identity provider's data first."))
        return _to(found)
    return starting.test(request, found, request.access.user)


@require_http_methods(["GET", "POST"])
@_door
def delete(request: MemberRequest, provider_id: str) -> HttpResponse:
    """Ask, then delete a connection."""
    found = connections.find(request.access.workspace, provider_id)
    if request.method == "GET":
        return render(request, "sso/delete.html", {"connection": found, "people": found.identities.count()})
    connections.delete(found, by=audit.actor_of(request))
    messages.success(request, _("The connection is deleted."))
    return HttpResponseRedirect(reverse("organization_sso"))


def _page(
    request: MemberRequest,
    found: SsoConnection,
    *,
    form: forms.Form,
    roles_form: forms.Form | None = None,
    status: int = 200,
) -> HttpResponse:
    context = {
        "connection": found,
        "form": form,
        "roles_form": roles_form or RolesForm.of(found),
        "is_saml": found.kind == SsoConnection.Kind.SAML,
        "is_complete": connections.is_complete(found),
        "endpoint": addresses.endpoint(found),
        "metadata": addresses.metadata(found),
        "login": addresses.login(found),
        "signed_out": addresses.signed_out(found),
        "certificates": [certificates.described(pem) for pem in found.idp_certificates],
        "domains": list(domains.of_workspace(found.workspace)),
        "proven": connections.proven_domains(found).exists(),
        "people": found.identities.count(),
    }
    return render(request, "sso/connection.html", context, status=status)


def _say_how_it_went(request: MemberRequest, before: SsoConnection, after: SsoConnection) -> None:
    if not after.last_check_ok and after.last_check_error:
        messages.error(request, after.last_check_error)
    elif after.is_active and not before.is_active:
        messages.success(request, _("Connected: the identity provider answers, and the connection is on."))
    else:
        messages.success(request, _("Saved."))


def _refused(request: MemberRequest, found: SsoConnection) -> HttpResponse:
    stale_forms.refuse(request)
    return _to(found)


def _to(found: SsoConnection) -> HttpResponse:
    return HttpResponseRedirect(reverse("organization_sso_connection", args=[found.provider_id]))


#: The management API's names of fields → the forms'.
_FIELDS = {
    "issuer": "issuer", "clientId": "client_id", "clientSecret": "client_secret", "metadataXml": "metadata_xml",
    "metadataUrl": "metadata_url", "name": "name", "defaultRole": "default_role", "roleClaim": "role_claim",
    "roleMap": "role_map", "attributeMap": "attribute_map", "domain": "domain",
    "providerLogout": "provider_logout",
}  # fmt: skip


def _blame(form: forms.Form, error: errors.ProductError) -> None:
    field = _FIELDS.get(error.param or "")
    form.add_error(field if field in form.fields else None, error.message)


# ── Domains ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@require_http_methods(["GET", "POST"])
@_door
def all_domains(request: MemberRequest) -> HttpResponse:
    """The organization's domains and how each is proven; a POST claims one more."""
    workspace = request.access.workspace
    form = DomainForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            row = domains.claim(workspace, form.cleaned_data["domain"], by=audit.actor_of(request))
        except errors.ProductError as error:
            _blame(form, error)
        else:
            return HttpResponseRedirect(f"{reverse('organization_domains')}#domain-{row.pk}")
    rows = [_shown(row) for row in domains.of_workspace(workspace)]
    many = connections.of_workspace(workspace).count() > 1
    context = {"rows": rows, "form": form, "many": many}
    return render(request, "sso/domains.html", context, status=422 if form.errors else 200)


@require_POST
@_door
def verify(request: MemberRequest, domain_id: UUID) -> HttpResponse:
    """Look for the proof now."""
    row = domains.find(request.access.workspace, domain_id)
    try:
        outcome = domains.prove(row, by=audit.actor_of(request))
    except errors.ProductError as error:
        messages.error(request, error.message)
    else:
        if outcome.method is None:
            messages.warning(request, outcome.message)
        else:
            messages.success(request, _("%(domain)s is proven.") % {"domain": row.domain})
    return HttpResponseRedirect(reverse("organization_domains"))


@require_POST
@_door
def route(request: MemberRequest, domain_id: UUID) -> HttpResponse:
    """Where the people of a domain sign in."""
    row = domains.find(request.access.workspace, domain_id)
    with transaction.atomic():
        form = RouteForm.of(domains.locked(row), request.POST)
        if form.is_outdated():
            stale_forms.refuse(request)
        elif form.is_valid():
            domains.route(row, form.cleaned_data["connection"], by=audit.actor_of(request))
            messages.success(request, _("Saved."))
        else:
            messages.error(request, _("There is no such connection."))
    return HttpResponseRedirect(reverse("organization_domains"))


@require_http_methods(["GET", "POST"])
@_door
def remove(request: MemberRequest, domain_id: UUID) -> HttpResponse:
    """Ask, then give a domain up."""
    row = domains.find(request.access.workspace, domain_id)
    if request.method == "GET":
        return render(request, "sso/domain_remove.html", {"row": row})
    domains.remove(row, by=audit.actor_of(request))
    messages.success(request, _("%(domain)s is given up.") % {"domain": row.domain})
    return HttpResponseRedirect(reverse("organization_domains"))


def _shown(row: OrgDomain) -> dict[str, Any]:
    return {
        "row": row,
        "record_name": proofs.record_name(row.domain),
        "expected": proofs.expected(row.token),
        "file_url": proofs.file_url(row.domain),
        "route": RouteForm.of(row),
    }

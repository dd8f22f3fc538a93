"""``/settings/organization``: what it is called, who is in it, and its end.

Its tabs are pages of their own. A tab stands in the row as soon as its URL has a name: single sign-on brings
``organization_sso`` and ``organization_domains`` with it (`templates/organization/layout.html` says how).
"""

from __future__ import annotations

import functools
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import reauth
from console.organization_forms import (
    DeleteForm,
    InviteForm,
    NewOrganizationForm,
    OrganizationForm,
    RemoveForm,
    RoleForm,
    TransferForm,
)
from core import errors, stale_forms
from events import audit
from keys import leaving
from orgs import access, invitations, members, organizations, permissions
from orgs.access import MemberRequest, View, requires
from orgs.members import Source
from orgs.models import Membership, Workspace
from orgs.permissions import Permission, Role


def of_organization(view: View) -> View:
    """For pages that personal workspaces do not have."""

    @functools.wraps(view)
    def guarded(request: MemberRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.access.workspace.kind != Workspace.Kind.ORGANIZATION:
            access.not_found()
        return view(request, *args, **kwargs)

    return guarded


# ── General ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@require_http_methods(["GET", "POST"])
@never_cache
def general(request: HttpRequest) -> HttpResponse:
    """Name and rules of the organization; in a personal workspace, what an organization is for."""
    return save(request) if request.method == "POST" else show(request)


@requires()
def show(request: MemberRequest) -> HttpResponse:
    """The organization as it is."""
    if request.access.workspace.kind != Workspace.Kind.ORGANIZATION:
        return render(request, "organization/none.html", {"organizations": _organizations(request)})
    return _general(request, OrganizationForm.of(request.access.workspace))


@requires(Permission.ORG_WRITE)
@of_organization
def save(request: MemberRequest) -> HttpResponse:
    """Change it. What makes it less safe is asked of somebody who just proved to be themselves."""
    with transaction.atomic():
        workspace = members.locked(request.access.workspace)
        form = OrganizationForm.of(workspace, request.POST)
        if form.is_outdated():
            stale_forms.refuse(request)
            return HttpResponseRedirect(reverse("organization"))
        if form.is_valid():
            if form.cleaned_data["require_second_factor"] != workspace.require_second_factor:
                reauth.ask(request)
            organizations.change(workspace, actor=audit.actor_of(request), **form.cleaned_data)
            messages.success(request, _("Saved."))
            return HttpResponseRedirect(reverse("organization"))
    return _general(request, form, status=422)


def _general(request: MemberRequest, form: forms.Form, *, status: int = 200) -> HttpResponse:
    context = {
        "form": form,
        "may_write": Permission.ORG_WRITE in request.access.permissions,
        "members": request.access.workspace.memberships.count(),
    }
    return render(request, "organization/general.html", context, status=status)


def _organizations(request: MemberRequest) -> list[Membership]:
    rows = access.memberships(request.access.user)
    return [row for row in rows if row.workspace.kind == Workspace.Kind.ORGANIZATION]


@require_http_methods(["GET", "POST"])
@never_cache
@requires(None, even_locked=True)
def new(request: MemberRequest) -> HttpResponse:
    """Make an organization, own it, and work in it from now on."""
    form = NewOrganizationForm(request.POST) if request.method == "POST" else NewOrganizationForm.empty()
    if request.method == "POST" and form.is_valid():
        try:
            made = organizations.create(
                form.cleaned_data["name"],
                owner=request.access.user,
                actor=audit.actor_of(request),
                form_token=form.cleaned_data["form_token"],
            )
        except errors.Conflict as error:
            form.add_error(None, error.message)
        else:
            access.switch(request, str(made.pk))
            messages.success(request, _("“%(name)s” is ready. Invite the others.") % {"name": made.name})
            return HttpResponseRedirect(reverse("organization_members"))
    return render(request, "organization/new.html", {"form": form}, status=422 if form.errors else 200)


@require_GET
@never_cache
@requires(None, even_locked=True)
def second_factor(request: MemberRequest) -> HttpResponse:
    """Why nothing of the organization is shown yet, and what to do about it."""
    if not request.access.locked:
        return HttpResponseRedirect("/")
    return render(request, "organization/second_factor.html", {"organization": request.access.workspace})


# ── Members ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@require_GET
@never_cache
@requires(Permission.MEMBERS_READ)
@of_organization
def members_page(request: MemberRequest) -> HttpResponse:
    """Who is in, who is invited, and what the roles mean."""
    return members_with(request, InviteForm())


def members_with(request: MemberRequest, form: InviteForm, *, status: int = 200) -> HttpResponse:
    """The members' page with this form on it."""
    here = request.access
    may_write = Permission.MEMBERS_WRITE in here.permissions
    rows = _members(here.workspace).order_by("created_at", "id")
    context = {
        "rows": [(row, members.may_manage(here.role, row.role) and may_write) for row in rows],
        "invitations": invitations.open_ones(here.workspace),
        "may_write": may_write,
        "form": form,
        "roles": list(Role),
        "table": [(text, list(held.values())) for _permission, text, held in permissions.table()],
    }
    return render(request, "organization/members.html", context, status=status)


@require_http_methods(["GET", "POST"])
@never_cache
@requires(Permission.MEMBERS_WRITE)
@of_organization
@transaction.atomic
def member(request: MemberRequest, member_id: UUID) -> HttpResponse:
    """Change what somebody is."""
    if request.method == "POST":
        members.locked(request.access.workspace)
    row = _member(request, member_id)
    roles = [role for role in Role if members.may_manage(request.access.role, row.role, role.value)]
    if not roles:
        raise errors.PermissionDenied(_("Only an owner can change an owner."))
    data = request.POST if request.method == "POST" else None
    form = RoleForm(data, roles=roles, now={"role": row.role}, initial={"role": row.role})
    if form.is_outdated():
        stale_forms.refuse(request)
        return HttpResponseRedirect(request.path)
    if form.is_valid():
        actor, role = audit.actor_of(request), form.cleaned_data["role"]
        try:
            members.change_role(request.access.workspace, row.user, role, actor, Source.MEMBER)
        except errors.Conflict as error:
            form.add_error("role", error.message)
        else:
            messages.success(request, _("Saved."))
            return HttpResponseRedirect(reverse("organization_members"))
    context = {"form": form, "member": row, "roles": roles}
    return render(request, "organization/member.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "POST"])
@never_cache
@requires(Permission.MEMBERS_WRITE)
@of_organization
def remove(request: MemberRequest, member_id: UUID) -> HttpResponse:
    """Ask what becomes of their keys, then take somebody out."""
    row = _member(request, member_id)
    if not members.may_manage(request.access.role, row.role):
        raise errors.PermissionDenied(_("Only an owner can remove an owner."))
    return _out(request, row, leaves=row.user_id == request.access.user.pk)


@require_http_methods(["GET", "POST"])
@never_cache
@requires(Permission.MEMBERS_READ)
@of_organization
def leave(request: MemberRequest) -> HttpResponse:
    """Ask what becomes of one's keys, then leave."""
    return _out(request, members.of(request.access.workspace, request.access.user), leaves=True)


def _out(request: MemberRequest, row: Membership, *, leaves: bool) -> HttpResponse:
    workspace, keys = request.access.workspace, leaving.made_by(request.access.workspace, row.user)
    form = RemoveForm(request.POST if request.method == "POST" else None, heirs=_heirs(workspace, row))
    if form.is_valid():
        heir: Membership | None = form.cleaned_data["heir"]
        try:
            members.remove_member(
                workspace, row.user, audit.actor_of(request), Source.MEMBER, heir=heir.user if heir else None
            )
        except errors.Conflict as error:
            form.add_error(None, error.message)
        else:
            text = _("You left “%(name)s”.") if leaves else _("%(person)s is no longer a member.")
            messages.success(request, text % {"name": workspace.name, "person": row.user.display_name})
            return HttpResponseRedirect("/" if leaves else reverse("organization_members"))
    context = {"form": form, "member": row, "keys": list(keys), "leaves": leaves}
    return render(request, "organization/remove.html", context, status=422 if form.errors else 200)


def _members(workspace: Workspace) -> QuerySet[Membership]:
    return workspace.memberships.select_related("user")


def _member(request: MemberRequest, member_id: UUID) -> Membership:
    row = _members(request.access.workspace).filter(pk=member_id).first()
    if row is None:
        raise errors.NotFound(_("There is no such member."))
    return row


def _heirs(workspace: Workspace, row: Membership) -> QuerySet[Membership]:
    roles = [role for role in Role if permissions.allows(role, Permission.KEYS_WRITE)]
    return _members(workspace).filter(role__in=roles, user__is_active=True).exclude(pk=row.pk).order_by("user__email")


# ── The end ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@require_GET
@never_cache
@requires(Permission.ORG_DELETE)
@of_organization
def danger(request: MemberRequest) -> HttpResponse:
    """Hand over or delete."""
    return _danger(request)


@require_POST
@never_cache
@requires(Permission.ORG_DELETE)
@of_organization
@reauth.required
def transfer(request: MemberRequest) -> HttpResponse:
    """Make somebody else the owner, and oneself an admin."""
    form = TransferForm(request.POST, others=_others(request), auto_id="transfer-%s")
    if not form.is_valid():
        return _danger(request, transfer=form, status=422)
    heir: Membership = form.cleaned_data["member"]
    members.transfer_ownership(request.access.workspace, heir.user, audit.actor_of(request))
    messages.success(request, _("%(person)s owns the organization now.") % {"person": heir.user.display_name})
    return HttpResponseRedirect(reverse("organization_members"))


@require_POST
@never_cache
@requires(Permission.ORG_DELETE)
@of_organization
@reauth.required
def delete(request: MemberRequest) -> HttpResponse:
    """End the organization."""
    form, workspace = DeleteForm(request.POST, auto_id="delete-%s"), request.access.workspace
    if form.is_valid():
        try:
            organizations.delete(workspace, actor=audit.actor_of(request), typed_name=form.cleaned_data["name"])
        except errors.InvalidRequest as error:
            form.add_error("name", error.message)
        else:
            messages.success(request, _("“%(name)s” is deleted.") % {"name": workspace.name})
            return HttpResponseRedirect("/")
    return _danger(request, delete=form, status=422)


def _danger(
    request: MemberRequest,
    *,
    transfer: TransferForm | None = None,
    delete: DeleteForm | None = None,
    status: int = 200,
) -> HttpResponse:
    context = {
        "transfer": transfer or TransferForm(others=_others(request), auto_id="transfer-%s"),
        "delete": delete or DeleteForm(auto_id="delete-%s"),
    }
    return render(request, "organization/danger.html", context, status=status)


def _others(request: MemberRequest) -> QuerySet[Membership]:
    rows = _members(request.access.workspace).filter(user__is_active=True)
    return rows.exclude(user=request.access.user).order_by("user__email")

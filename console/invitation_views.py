"""Invitations: sent from the members' page, accepted behind the link in the mail."""

from __future__ import annotations

from urllib.parse import urlencode
from uuid import UUID

from allauth.account.adapter import get_adapter
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from accounts.models import User
from console import organization_views
from console.organization_forms import InviteForm
from core import errors
from events import audit
from orgs import access, invitations
from orgs.access import MemberRequest, requires
from orgs.models import Invitation
from orgs.permissions import Permission


# ── Sending ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@require_POST
@never_cache
@requires(Permission.MEMBERS_WRITE)
@organization_views.of_organization
def invite(request: MemberRequest) -> HttpResponse:
    """Send an invitation, or a new one to somebody who has one."""
    form = InviteForm(request.POST)
    if form.is_valid():
        email, role = form.cleaned_data["email"], form.cleaned_data["role"]
        try:
            invitations.invite(request.access.workspace, email, role, by=request.access.user, request=request)
        except (errors.Conflict, errors.RateLimited, errors.InvalidRequest) as error:
            form.add_error("email", error.message)
        else:
            return _back(request, _("%(email)s is invited.") % {"email": email})
    return organization_views.members_with(request, form, status=422)


@require_POST
@never_cache
@requires(Permission.MEMBERS_WRITE)
@organization_views.of_organization
def resend(request: MemberRequest, invitation_id: UUID) -> HttpResponse:
    """Send it again; the older link ends."""
    invitation = invitations.find(request.access.workspace, invitation_id)
    try:
        invitations.resend(invitation, by=request.access.user, request=request)
    except errors.RateLimited as error:
        messages.warning(request, error.message)
        return HttpResponseRedirect(reverse("organization_members"))
    return _back(request, _("Sent to %(email)s again.") % {"email": invitation.email})


@require_POST
@never_cache
@requires(Permission.MEMBERS_WRITE)
@organization_views.of_organization
def revoke(request: MemberRequest, invitation_id: UUID) -> HttpResponse:
    """Make its link worthless."""
    invitation = invitations.find(request.access.workspace, invitation_id)
    invitations.revoke(invitation, by=request.access.user, actor=audit.actor_of(request))
    return _back(request, _("The invitation of %(email)s is revoked.") % {"email": invitation.email})


def _back(request: MemberRequest, text: str) -> HttpResponse:
    messages.success(request, text)
    return HttpResponseRedirect(reverse("organization_members"))


# ── Accepting ────────────────────────────────────────────────────────────────────────────────────────────────────────
@require_http_methods(["GET", "POST"])
@never_cache
def invitation(request: HttpRequest, token: str) -> HttpResponse:
    """The link of the mail: for people with and without an account, signed in or not. Opening it changes nothing."""
    found = invitations.by_token(token)
    user = request.user if isinstance(request.user, User) else None
    if found is None or not (invitations.usable(found) or _mine(found, user)):
        return render(request, "organization/invitation_over.html", status=404)
    if request.method == "POST":
        return _sign_up(request, found, token) if user is None else _accept(request, found, user)
    context = {
        "invitation": found,
        "workspace": found.workspace,
        "fits": user is not None and invitations.may_accept(found, user),
        "has_account": user is None and User.objects.filter(email__iexact=found.email).exists(),
        "sign_in": f"{reverse('account_login')}?{urlencode({'next': request.path})}",
    }
    return render(request, "organization/invitation.html", context)


def _mine(found: Invitation, user: User | None) -> bool:
    """Accepted already, by the one who asks: the link then leads into the organization."""
    return user is not None and found.accepted_by_id == user.pk and found.workspace.active


def _accept(request: HttpRequest, found: Invitation, user: User) -> HttpResponse:
    try:
        membership = invitations.accept(found, user, actor=audit.actor_of(request))
    except errors.Conflict:
        return render(request, "organization/invitation_over.html", status=409)
    access.switch(request, str(membership.workspace_id))
    messages.success(request, _("Welcome to “%(name)s”.") % {"name": found.workspace.name})
    return HttpResponseRedirect("/")


def _sign_up(request: HttpRequest, found: Invitation, token: str) -> HttpResponse:
    """To the sign-up form and back here. Who opened this mail's link owns its address: no second mail asks for it."""
    get_adapter().stash_verified_email(request, found.email)
    query = urlencode({"next": reverse("invitation", args=[token]), "email": found.email})
    return HttpResponseRedirect(f"{reverse('account_signup')}?{query}")

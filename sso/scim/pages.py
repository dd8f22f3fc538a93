"""``/settings/organization/sso/<connection>/provisioning``: the tokens by which a directory provisions people."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from django import forms
from django.contrib import messages
from django.core.cache import cache
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from accounts import reauth
from core import errors, ids
from events import audit
from orgs.access import MemberRequest, requires
from orgs.permissions import Permission
from sso import connections
from sso.models import SsoConnection
from sso.scim import tokens

#: How long a form that was sent once is remembered: a second click comes within seconds.
_ONCE_SECONDS: Final = 3600


class TokenForm(forms.Form):
    """A name, and what makes a second click of the same form no second token."""

    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=80,
        help_text=gettext_lazy("Where it will be used, for example “Entra ID”."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    form_token = forms.UUIDField(widget=forms.HiddenInput)


def _empty() -> TokenForm:
    return TokenForm(initial={"form_token": ids.uuid7()})


@require_http_methods(["GET", "POST"])
@never_cache
@requires(Permission.SSO_WRITE)
def provisioning(request: MemberRequest, provider_id: str) -> HttpResponse:
    """The connection's tokens; a POST makes one and shows its secret this one time."""
    connection = connections.find(request.access.workspace, provider_id)
    if request.method == "GET":
        return _page(request, connection, form=_empty())
    reauth.ask(request)
    form = TokenForm(request.POST)
    if not form.is_valid():
        return _page(request, connection, form=form, status=422)
    if not cache.add(f"scim-form:{form.cleaned_data['form_token']}", True, _ONCE_SECONDS):
        messages.warning(request, _("This form was sent before. Its token is in the list below."))
        return HttpResponseRedirect(reverse("organization_scim", args=[connection.provider_id]))
    try:
        issued = tokens.issue(
            connection, actor=audit.actor_of(request), created_by=request.user, name=form.cleaned_data["name"]
        )
    except errors.Conflict as error:
        form.add_error(None, error.message)
        return _page(request, connection, form=form, status=409)
    return _page(request, connection, form=_empty(), secret=issued.secret)


@require_http_methods(["GET", "POST"])
@never_cache
@requires(Permission.SSO_WRITE)
def revoke(request: MemberRequest, provider_id: str, token_id: UUID) -> HttpResponse:
    """Ask, then end a token."""
    connection = connections.find(request.access.workspace, provider_id)
    token = tokens.find(connection, token_id)
    if request.method == "GET":
        return render(request, "sso/provisioning_revoke.html", {"connection": connection, "token": token})
    reauth.ask(request)
    tokens.revoke(token, actor=audit.actor_of(request))
    messages.success(request, _("The token no longer works."))
    return HttpResponseRedirect(reverse("organization_scim", args=[connection.provider_id]))


def _page(request: MemberRequest, connection: SsoConnection, *, status: int = 200, **more: Any) -> HttpResponse:
    context = {
        "connection": connection,
        "tokens": tokens.living(connection),
        "address": tokens.base_url(),
        "people": connection.scim_users.count(),
        "groups": connection.scim_groups.count(),
        **more,
    }
    return render(request, "sso/provisioning.html", context, status=status)

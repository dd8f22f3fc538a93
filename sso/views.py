"""What browsers fetch: the start of a sign-in, the provider's answer, and its end."""

from __future__ import annotations

from urllib.parse import urlencode

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET

from sso import flows, sign_in, starting
from sso.doors import not_here, step
from sso.models import SsoConnection
from sso.oidc import callback, leaving
from sso.saml import views as saml


@require_GET
@step()
def login(request: HttpRequest, connection: SsoConnection) -> HttpResponse:
    """Off to the provider. From a form of ours, a page stands between: see `sso.addresses.login_path`."""
    if not connection.is_active:  # somebody is testing it, and nobody else may
        return not_here(request)
    if request.GET.get("from") == "form":
        given = {name: request.GET[name] for name in ("next", "login_hint") if request.GET.get(name)}
        return render(request, "sso/continue.html", {"connection": connection, "address": f"?{urlencode(given)}"})
    next_path = request.GET.get("next", "")
    address, started = starting.start(request, connection, next_path=next_path, login_hint=_hint(request))
    response = HttpResponseRedirect(address)
    flows.remember(response, started)
    return response


def _hint(request: HttpRequest) -> str:
    hint = request.GET.get("login_hint", "")
    try:
        validate_email(hint)
    except ValidationError:
        return ""
    return hint


@step(SsoConnection.Kind.OIDC)
def oidc_answer(request: HttpRequest, connection: SsoConnection) -> HttpResponse:
    """The redirect URI: the provider's answer to a sign-in that this browser started."""
    flow, answer = callback.read(request, connection)
    return sign_in.complete(
        request, connection, answer.subject, answer.email, answer.claims, flow=flow,
        session_ends_at=answer.session_ends_at, id_token=answer.id_token,
    )  # fmt: skip


@require_GET
@step(SsoConnection.Kind.OIDC, any_status=True)
def signed_out(request: HttpRequest, connection: SsoConnection) -> HttpResponse:
    """Where a provider sends people back to who signed out there. It signs nobody out: anybody can lead here."""
    return HttpResponseRedirect(leaving.came_back(request, connection))


@csrf_exempt  # the provider's post: what it says is signed, and nothing of our cookies comes with it
def endpoint(request: HttpRequest, provider_id: str) -> HttpResponse:
    """One address for both protocols: OpenID Connect answers by GET, SAML by POST."""
    if request.method == "GET":
        return oidc_answer(request, provider_id)
    if request.method == "POST":
        return saml.answer(request, provider_id)
    return HttpResponseNotAllowed(["GET", "POST"])

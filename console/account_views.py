"""``/settings/account``: one's name, and the way to everything else about one's account."""

from __future__ import annotations

from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from accounts import people
from accounts.models import User
from console.forms import ProfileForm
from events import audit
from orgs.access import MemberRequest, requires


@require_http_methods(["GET", "POST"])
@never_cache
@requires(None, even_locked=True)
def account(request: MemberRequest) -> HttpResponse:
    """The person's own settings."""
    user = request.access.user
    form = ProfileForm(request.POST if request.method == "POST" else None, initial={"name": user.name})
    if request.method == "POST" and form.is_valid():
        people.rename(user, form.cleaned_data["name"], actor=audit.actor_of(request))
        messages.success(request, _("Saved."))
        return HttpResponseRedirect(reverse("account_settings"))
    return render(
        request, "console/account.html", {"form": form, **_security(user), "nav_section": "account"},
        status=422 if form.errors else 200,
    )  # fmt: skip


def _security(user: User) -> dict[str, Any]:
    factors = list(Authenticator.objects.filter(user=user).values_list("type", flat=True))
    return {
        "emails": list(EmailAddress.objects.filter(user=user).order_by("-primary", "email")),
        "has_totp": Authenticator.Type.TOTP in factors,
        "passkeys": factors.count(Authenticator.Type.WEBAUTHN),
        "sessions": UserSession.objects.filter(user=user).count(),
    }

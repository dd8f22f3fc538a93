"""Signing out: here at once, and then at the identity provider where the connection wants it."""

from __future__ import annotations

from typing import Any

from allauth.account.views import LogoutView as AllauthLogoutView
from django.http import HttpResponse
from django.shortcuts import render

from sso.oidc import leaving


class LogoutView(AllauthLogoutView):  # type: ignore[misc]
    """allauth's view, with the way on to the provider."""

    def post(self, *args: Any, **kwargs: Any) -> HttpResponse:
        found = leaving.of_session(self.request)
        response: HttpResponse = super().post(*args, **kwargs)
        if found is None:
            return response
        address = leaving.address(self.request, found, self.get_redirect_url())
        # A page stands between: browsers hold a form's policy against every redirect that follows.
        return render(self.request, "sso/leaving.html", {"connection": found.connection, "address": address})


logout = LogoutView.as_view()

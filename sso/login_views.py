"""The sign-in page: the e-mail address first, then either the organization's provider or the password.

Where a provider waits, no password field is ever shown. ``?way=password`` is the way around it, for the day that the
provider is down; where the provider is required, only an owner with a second factor gets through (`sso.adapter`).
"""

from __future__ import annotations

from typing import Any

from allauth.account.views import LoginView as AllauthLoginView
from allauth.core.internal import ratelimit
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters

from sso import addresses, flows, routing
from sso.forms import EmailStep

#: Addresses a minute from one place. Trying passwords has limits of its own.
_RATES = {"email": "120/m/ip"}


class LoginView(AllauthLoginView):  # type: ignore[misc]
    """allauth's view behind a first step of ours."""

    @method_decorator(sensitive_post_parameters("password"))
    @method_decorator(never_cache)
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.method == "POST" and not request.user.is_authenticated:
            answer = self._first_step(request)
            if answer is not None:
                return answer
        response: HttpResponse = super().dispatch(request, *args, **kwargs)
        return response

    def _first_step(self, request: HttpRequest) -> HttpResponse | None:
        """The answer to an address alone, or to one that must not bring a password; None: allauth's turn."""
        has_password = "password" in request.POST
        by_password = request.POST.get("way") == "password"
        connection = None if by_password else routing.connection_for(request.POST.get("login", ""))
        if connection is not None and (connection.enforced or not has_password):
            return HttpResponseRedirect(self._start(request, addresses.login_path, connection))
        if has_password:
            return None
        if not ratelimit.consume(request, app="sso", action="email", config=_RATES):
            limited: HttpResponse = ratelimit.respond_429(request)
            return limited
        return self._ask_password(request)

    def _start(self, request: HttpRequest, path: Any, connection: Any) -> str:
        next_path = flows.safe_path(request, request.POST.get("next") or request.GET.get("next") or "")
        step = EmailStep(request.POST)
        hint = step.cleaned_data["login"] if step.is_valid() else ""
        return str(path(connection, next_path=next_path, hint=hint, from_form=True))

    def _ask_password(self, request: HttpRequest) -> HttpResponse:
        self.setup(request)
        step = EmailStep(request.POST)
        if not step.is_valid():
            return self._page(form=step, step="email")
        form = self.get_form_class()(initial={"login": step.cleaned_data["login"]}, request=request)
        return self._page(form=form, step="password")

    def _page(self, **context: Any) -> HttpResponse:
        response: HttpResponse = self.render_to_response(self.get_context_data(**context))
        return response

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context_data(**kwargs)
        way = self.request.POST.get("way") or self.request.GET.get("way")
        first = self.request.method == "GET" and way != "password"
        context.setdefault("step", "email" if first else "password")
        context["way"] = "password" if way == "password" else ""
        return context


login = LoginView.as_view()

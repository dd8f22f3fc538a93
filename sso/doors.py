"""The public doors of single sign-on: which connection a URL names, and what becomes of a refusal behind it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, cast

from allauth.core.internal import ratelimit
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache

from core import clock, errors
from sso import identifiers, refusals
from sso.models import SsoConnection, SsoFlow
from sso.refusals import SignInRefused

Step = Callable[..., HttpResponse]

#: Requests a minute from one address; a whole office may share it.
_RATES = {"sso": "240/m/ip"}


def find(provider_id: str, kind: str | None = None) -> SsoConnection | None:
    """The connection that people may use now: an active one, or one that somebody is testing at this moment."""
    connection = of_any_status(provider_id, kind)
    if connection is None or connection.is_active or _is_tested(connection):
        return connection
    return None


def of_any_status(provider_id: str, kind: str | None = None) -> SsoConnection | None:
    """The connection of that id in an organization that is not suspended or deleted."""
    if not identifiers.is_provider_id(provider_id):
        return None
    rows = SsoConnection.objects.select_related("workspace").filter(provider_id=provider_id, workspace__active=True)
    return (rows.filter(kind=kind) if kind else rows).first()


def _is_tested(connection: SsoConnection) -> bool:
    rows = SsoFlow.objects.filter(connection=connection, tester__isnull=False, expires_at__gt=clock.now())
    return rows.exists()


def step(kind: str | None = None, *, any_status: bool = False) -> Callable[[Step], Step]:
    """A view of ``(request, connection)`` at a URL with a ``provider_id``.

    Unknown, disabled and of another kind: one and the same 404. What it refuses becomes a page and an audit row.
    """

    def decorate(view: Step) -> Step:
        @never_cache
        @functools.wraps(view)
        def opened(request: HttpRequest, provider_id: str, **kwargs: Any) -> HttpResponse:
            if not ratelimit.consume(request, app="sso", action="sso", config=_RATES, limit_get=True):
                return cast(HttpResponse, ratelimit.respond_429(request))
            connection = of_any_status(provider_id, kind) if any_status else find(provider_id, kind)
            if connection is None:
                return not_here(request)
            try:
                return view(request, connection, **kwargs)
            except SignInRefused as refused:
                return refusals.answer(request, connection, refused)
            except errors.ProductError as error:
                return refusals.answer(request, connection, SignInRefused(error.code or error.type, error.message))

        return opened

    return decorate


def not_here(request: HttpRequest) -> HttpResponse:
    """The page for every connection that can't be used, whatever the reason."""
    return render(request, "sso/unknown.html", status=404)

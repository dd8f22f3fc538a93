"""Some things are asked of a person who has just proven to be one: the browser may have been left open."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, Final

from allauth.account.internal.flows.login import get_authentication_records
from allauth.account.internal.flows.reauthentication import get_reauthentication_flows
from allauth.core.exceptions import ReauthenticationRequired
from allauth.usersessions.models import UserSession
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _

from accounts.models import User
from core import errors

#: A proof counts for so long, whether it was the sign-in itself or a password asked for later.
LASTS_SECONDS: Final = 900
#: For what people do often (making keys) a session of this age is asked once, and then not for as long again.
OLD_SECONDS: Final = 12 * 3600

View = Callable[..., HttpResponse]


def is_recent(request: HttpRequest) -> bool:
    """Whether the person signed in, or proved to be themselves again, within LASTS_SECONDS.

    Somebody who has neither password nor second factor (an identity provider vouches for them) has nothing to prove it
    with here, and is believed.
    """
    user = request.user
    if not isinstance(user, User):
        return False
    if not get_reauthentication_flows(user):
        return True
    moments = [record["at"] for record in get_authentication_records(request, user)]
    return bool(moments) and time.time() - max(moments) < LASTS_SECONDS


def ask(request: HttpRequest) -> None:
    """For pages: without a recent proof, the password (or second factor) is asked for; a form that came then goes on.

    Raises ReauthenticationRequired, with which allauth's middleware keeps the form and asks.
    """
    if not is_recent(request):
        raise ReauthenticationRequired


def ask_old_session(request: HttpRequest) -> None:
    """`ask`, but only where the session began OLD_SECONDS ago and nothing was proven since."""
    if is_old(request):
        raise ReauthenticationRequired


def check_old_session(request: HttpRequest) -> None:
    """`check`, but only where the session began OLD_SECONDS ago and nothing was proven since."""
    if is_old(request):
        check(request)


def is_old(request: HttpRequest) -> bool:
    """Whether the last proof, or else the beginning of the session, is longer ago than OLD_SECONDS."""
    user = request.user
    if not isinstance(user, User) or not get_reauthentication_flows(user):
        return False
    since = time.time() - OLD_SECONDS
    if any(record["at"] > since for record in get_authentication_records(request, user)):
        return False
    began = UserSession.objects.filter(session_key=request.session.session_key).values_list("created_at", flat=True)
    return any(moment.timestamp() <= since for moment in began)


def required(view: View) -> View:
    """`ask` before anything of ``view`` happens."""

    @functools.wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        ask(request)
        return view(request, *args, **kwargs)

    return guarded


def check(request: HttpRequest) -> None:
    """For endpoints: raise PermissionDenied (``reauthentication_required``) without a recent proof."""
    if not is_recent(request):
        raise errors.PermissionDenied(
            _("Confirm that it is you first: sign in again, or enter your password at /accounts/reauthenticate/."),
            code="reauthentication_required",
        )

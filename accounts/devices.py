"""Which browsers a person has signed in from before: the browser itself remembers, in a cookie.

The cookie holds one keyed hash for each person who signed in there, and nothing else; nobody can make one up.
"""

from __future__ import annotations

from typing import Final

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from accounts.models import User
from core import secrets

COOKIE: Final = "hypereal_devices"
#: As long as browsers keep a cookie.
LASTS_SECONDS: Final = 400 * 86_400
#: People of one browser who are remembered; the one longest away is forgotten first.
MOST: Final = 8

_PURPOSE: Final = "known-device"
_LENGTH: Final = 32


def is_known(request: HttpRequest, user: User) -> bool:
    """Whether ``user`` has signed in from this browser before."""
    return _mark(user) in _marks(request)


def remember(request: HttpRequest, response: HttpResponse, user: User) -> None:
    """Let the browser that gets ``response`` be known for ``user`` from now on."""
    mark = _mark(user)
    marks = [mark, *(each for each in _marks(request) if each != mark)][:MOST]
    response.set_cookie(
        COOKIE, ".".join(marks), max_age=LASTS_SECONDS, httponly=True, samesite="Lax", secure=settings.SECURE_SITE
    )


def _marks(request: HttpRequest) -> list[str]:
    found = request.COOKIES.get(COOKIE, "")[: (_LENGTH + 1) * MOST].split(".")
    return [mark for mark in found if len(mark) == _LENGTH and mark.isalnum() and mark.isascii()]


def _mark(user: User) -> str:
    return secrets.keyed_hash(_PURPOSE, str(user.pk)).hex()[:_LENGTH]

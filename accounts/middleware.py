"""Keeps the list of a person's sessions up to date, at a price that every page can pay."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from typing import Final

import redis
from allauth.usersessions.models import UserSession
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse

logger = logging.getLogger(__name__)

#: A session is written down at its first request and then at most this often: each time is a durable write.
EVERY_SECONDS: Final = 60


class SessionActivityMiddleware:
    """Stands in for the one of django-allauth, which writes to the database on every request."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        key = request.session.session_key
        if key and request.user.is_authenticated and _is_due(key, str(request.META.get("REMOTE_ADDR"))):
            UserSession.objects.create_from_request(request)
        return self.get_response(request)


def _is_due(session_key: str, address: str) -> bool:
    """Whether this session was not written down lately from this address. The cache never holds the key itself."""
    name = hashlib.sha256(f"{session_key} {address}".encode()).hexdigest()
    try:
        return bool(cache.add(f"seen:{name}", True, EVERY_SECONDS))
    except redis.RedisError:
        logger.warning("session activity is not remembered: Redis does not answer")
        return True

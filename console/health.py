"""Is this process able to serve? For load balancers (`/healthz`) and people (`/status`); tells no host, no version."""

from __future__ import annotations

import logging

import redis
from django.conf import settings
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

logger = logging.getLogger(__name__)

_WAIT_SECONDS = 2


def checks() -> dict[str, bool]:
    """Each part that this process needs, and whether it answers."""
    return {"database": _database_answers(), "redis": _redis_answers()}


def _database_answers() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            return cursor.fetchone() == (1,)
    except DatabaseError:
        logger.exception("the database does not answer")
        return False


def _redis_answers() -> bool:
    client = redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=_WAIT_SECONDS, socket_connect_timeout=_WAIT_SECONDS
    )
    try:
        return bool(client.ping())
    except redis.RedisError:
        logger.exception("Redis does not answer")
        return False
    finally:
        client.close()


def _word(parts: dict[str, bool]) -> str:
    # Redis only wakes workers and counts rate limits: without it the service limps, without the database it is down.
    if not parts["database"]:
        return "down"
    return "ok" if all(parts.values()) else "degraded"


@never_cache
@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    """200 while requests can be served (``ok``, ``degraded``), 503 otherwise (``down``)."""
    parts = checks()
    word = _word(parts)
    shown = {name: "ok" if up else "unreachable" for name, up in parts.items()}
    return JsonResponse({"status": word, **shown}, status=503 if word == "down" else 200)


@never_cache
@require_safe
def status(request: HttpRequest) -> HttpResponse:
    """The same for people."""
    parts = checks()
    word = _word(parts)
    return render(request, "console/status.html", {"word": word, "parts": parts}, status=503 if word == "down" else 200)

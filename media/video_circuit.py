"""Targets that keep failing are left out for a while and come back by themselves, as far as clips are concerned.

All workers know of it through the cache. What is in there may be lost at any time: then a target is simply tried.
"""

from __future__ import annotations

import hashlib
import logging
from typing import Final

from django.core.cache import cache
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

#: Failures within so many seconds of one another add up; so many of them take the target out.
MEMORY_SECONDS: Final = 60
MOST_FAILURES: Final = 5
#: How long it is left out; jobs that no other target can take are tried all the same.
OPEN_SECONDS: Final = 30


def failed(label: str, *, open_seconds: int = OPEN_SECONDS) -> None:
    """The target did not take a task on, and it was not the caller's fault."""
    count, out = _names(label)
    try:
        cache.add(count, 0, timeout=MEMORY_SECONDS)
        if cache.incr(count) >= MOST_FAILURES:
            cache.set(out, True, timeout=open_seconds)
    except (RedisError, ValueError):  # ValueError: the count's time was up in between
        log.info("a target's failure was not noted")


def succeeded(label: str) -> None:
    """The target took a task on."""
    try:
        cache.delete_many(_names(label))
    except RedisError:
        log.info("a target's success was not noted")


def is_open(label: str) -> bool:
    """Whether the target is left out at this moment."""
    try:
        return bool(cache.get(_names(label)[1]))
    except RedisError:
        return False


def _names(label: str) -> tuple[str, str]:
    """Labels may hold what a cache's key can't."""
    digest = hashlib.sha256(label.encode()).hexdigest()
    return f"video-failures-{digest}", f"video-open-{digest}"

"""Secrets at rest: sealed with the operator's keys, newest first, so that a key can be rotated."""

from __future__ import annotations

import functools
import hashlib
import hmac

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings


class Unreadable(Exception):
    """A sealed value that none of the configured keys opens."""


@functools.cache
def _box(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in keys])


def encrypt(text: str) -> bytes:
    """Seal ``text`` with the newest of ``settings.ENCRYPTION_KEYS``."""
    return _box(tuple(settings.ENCRYPTION_KEYS)).encrypt(text.encode())


def decrypt(sealed: bytes) -> str:
    """Open a value that ``encrypt`` sealed. Raises Unreadable where no configured key fits."""
    try:
        return _box(tuple(settings.ENCRYPTION_KEYS)).decrypt(bytes(sealed)).decode()
    except InvalidToken:
        raise Unreadable("no configured encryption key opens this value") from None


def keyed_hash(purpose: str, text: str) -> bytes:
    """32 bytes that stand for ``text`` in a table: HMAC-SHA256 under the pepper, separated by purpose.

    API keys carry more than 128 random bits, so a fast hash is right; the pepper keeps a stolen table useless.
    """
    started = _keyed(settings.API_KEY_PEPPER, purpose).copy()
    started.update(text.encode())
    return started.digest()


@functools.cache
def _keyed(pepper: str, purpose: str) -> hmac.HMAC:
    """The part of the hash that is the same for every text, computed once: the gateway hashes a key for each call."""
    return hmac.new(pepper.encode(), f"{purpose}\0".encode(), hashlib.sha256)

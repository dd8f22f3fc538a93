"""``Idempotency-Key``: what stands for a request, and how its answer is kept. Pure but for the sealing keys.

The claim itself is inserted and completed by the neck, in the transactions that place and settle the call's hold.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from typing import Final, NamedTuple

from core import secrets
from core.errors import InvalidRequest

HEADER: Final = b"idempotency-key"
MOST_CHARACTERS: Final = 255

_PURPOSE: Final = "idempotency-key"
#: What a sealed answer may unfold to at most; it was written by us, so this only bounds an accident.
_MOST_BYTES: Final = 256 * 1024 * 1024


class Hashes(NamedTuple):
    """What is kept of a key and of the request that came with it."""

    key: bytes
    request: bytes


def presented(headers: Mapping[bytes, bytes]) -> str | None:
    """The caller's key, None where the header is absent. Raises InvalidRequest. ``headers`` has lower-case names."""
    value = headers.get(HEADER)
    if value is None:
        return None
    key = value.decode("latin-1").strip()
    if not key or len(key) > MOST_CHARACTERS or not key.isprintable():
        raise InvalidRequest(
            f"Idempotency-Key must be 1 to {MOST_CHARACTERS} printable characters.", param="Idempotency-Key"
        )
    return key


def hashes(key: str, method: str, path: str, body: bytes) -> Hashes:
    """``path`` without the prefix under which the same endpoint also answers, so that both count as one."""
    request = hashlib.sha256(f"{method} {path}\n".encode())
    request.update(body)
    return Hashes(secrets.keyed_hash(_PURPOSE, key), request.digest())


def seal(body: bytes) -> bytes:
    """An answer's body, compressed and encrypted: it holds what a model wrote to somebody."""
    return secrets.encrypt(zlib.compress(body, 1).decode("latin-1"))


def unseal(sealed: bytes) -> bytes:
    """The body that ``seal`` took. Raises core.secrets.Unreadable."""
    inflater = zlib.decompressobj()
    return inflater.decompress(secrets.decrypt(sealed).encode("latin-1"), _MOST_BYTES)

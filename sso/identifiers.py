"""Random identifiers of single sign-on, all from the operating system's random source."""

from __future__ import annotations

import secrets
import string
from typing import Final

PROVIDER_ID_CHARACTERS: Final = 22  # 130 bits
_BASE62: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase


def base62(characters: int) -> str:
    """That many random base62 characters, 5.95 bits each."""
    return "".join(secrets.choice(_BASE62) for _ in range(characters))


def provider_id() -> str:
    """What names a connection in its URLs; always of the same length, so that none begins another."""
    return base62(PROVIDER_ID_CHARACTERS)


def domain_token() -> str:
    """What the DNS record or the file of a domain must hold."""
    return base62(32)

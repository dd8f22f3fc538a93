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


def is_provider_id(text: str) -> bool:
    """Whether ``text`` has the form of a connection's id."""
    return len(text) == PROVIDER_ID_CHARACTERS and text.isascii() and text.isalnum()


def printable(text: str, most: int) -> str:
    """A stranger's text as it may be stored: what does not print is a question mark, what is too long is cut."""
    return "".join(character if character.isprintable() else "?" for character in text[:most])


def provider_id() -> str:
    """What names a connection in its URLs; always of the same length, so that none begins another."""
    return base62(PROVIDER_ID_CHARACTERS)


def domain_token() -> str:
    """What the DNS record or the file of a domain must hold."""
    return base62(32)

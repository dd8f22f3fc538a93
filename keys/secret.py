"""The form of a key's secret: ``ck_``, 32 random base62 characters, 6 that check them. Pure.

The check lets a scanner, or us, tell a mistyped or invented key from a real one without asking the database.
"""

from __future__ import annotations

import secrets
import string
import zlib
from typing import Final

PREFIX: Final = "ck_"
RANDOM_CHARACTERS: Final = 32  # 190 bits
CHECK_CHARACTERS: Final = 6  # 62**6 > 2**32
LENGTH: Final = len(PREFIX) + RANDOM_CHARACTERS + CHECK_CHARACTERS

_ALPHABET: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_CHARACTERS: Final = frozenset(_ALPHABET)


def new_secret() -> str:
    """A fresh secret from the operating system's random source."""
    random = "".join(secrets.choice(_ALPHABET) for _ in range(RANDOM_CHARACTERS))
    return f"{PREFIX}{random}{checksum(random)}"


def checksum(random: str) -> str:
    """CRC-32 of the random part in six base62 characters, the most significant first."""
    rest = zlib.crc32(random.encode())
    digits = []
    for _ in range(CHECK_CHARACTERS):
        rest, digit = divmod(rest, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def checksum_ok(secret: str) -> bool:
    """Whether ``secret`` has the form of a key and its last six characters fit the rest."""
    if len(secret) != LENGTH or not secret.startswith(PREFIX):
        return False
    random = secret[len(PREFIX) : -CHECK_CHARACTERS]
    return _CHARACTERS.issuperset(random) and secret.endswith(checksum(random))

"""What a voucher's code looks like and what is kept of it. Pure but for the pepper."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from core import secrets

#: Crockford's base 32: no letter that is read as another one, and typing those is forgiven.
ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LETTERS: Final = 20  # a hundred bits: nobody guesses one
GROUP: Final = 5
ENDING: Final = 4
#: What a form field takes at most: a code with generous blanks and dashes.
MOST_TYPED: Final = 60

_FORGIVEN: Final = str.maketrans({"O": "0", "I": "1", "L": "1"})


def code_of(form_token: UUID) -> str:
    """The code that the form with this token issues: drawn from the token under the pepper.

    A form that is sent twice shows the same code twice, although the code is stored nowhere. The token is random, not
    stored either, and without the pepper it tells nothing.
    """
    number = int.from_bytes(secrets.keyed_hash("voucher-code", str(form_token)), "big")
    letters = "".join(ALPHABET[(number >> (5 * place)) & 31] for place in range(LETTERS))
    return "-".join(letters[at : at + GROUP] for at in range(0, LETTERS, GROUP))


def normalised(typed: str) -> str | None:
    """The letters of a code as somebody typed it, None where it can't be one."""
    letters = "".join(typed.replace("-", " ").split()).upper().translate(_FORGIVEN)
    return letters if len(letters) == LETTERS and set(letters) <= set(ALPHABET) else None


def hash_of(code: str) -> bytes:
    """What is stored of a code; blanks, dashes and case don't matter. Raises ValueError for what is no code."""
    letters = normalised(code)
    if letters is None:
        raise ValueError("this is no voucher code")
    return secrets.keyed_hash("voucher", letters)

"""Domains where anybody can have a mailbox. Proving one would let an organization sign in half the world."""

from __future__ import annotations

from pathlib import Path
from typing import Final

PUBLIC_MAIL: Final = frozenset(Path(__file__).with_name("public_mail.txt").read_text(encoding="ascii").split())

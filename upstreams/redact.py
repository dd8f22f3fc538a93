"""Cleans a provider's error text before a caller sees it: no keys, no accounts, no hosts of ours or of the provider."""

from __future__ import annotations

import re

from core.storable import whole

MESSAGE_LIMIT = 2000
REMOVED = "[removed]"

_KEYS = re.compile(
    r"""\b(?:Bearer|Basic)\s+[A-Za-z0-9._~+/=*-]{8,}
      | \b(?:sk|pk|rk|ck|gsk|xai|r8|hf|fw|nvapi|pplx|key|org|proj|user|acct|req)[-_][A-Za-z0-9*_-]{8,}
      | \bAIza[A-Za-z0-9_*-]{8,}
      | \b[A-Za-z0-9]{2,8}\*{3,}[A-Za-z0-9*]*
      | \b[0-9a-fA-F]{32,}\b
      | (?i:\b(?:api[-_ ]?key|token|secret)["']?\s*[:=]\s*["']?[A-Za-z0-9._~+/=*-]{6,})
    """,
    re.VERBOSE,
)
_URL = re.compile(r"\b(?:https?|wss?)://[^\s\"'<>)\]]+")
_HOST = re.compile(r"(?<![\w.-])(?P<name>[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})++)(?::\d+)?")
_HOST_ENDINGS = (
    ".ai", ".app", ".cloud", ".cn", ".co", ".com", ".dev", ".eu", ".internal", ".io", ".local", ".localhost", ".net",
    ".org", ".svc", ".us",
)  # fmt: skip
_ADDRESS = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b(?::\d+)?|\[[0-9A-Fa-f:.]{3,}\](?::\d+)?")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def clean(text: str, *, secret: str = "", known: bytes = b"") -> str:
    """``text`` without secrets, accounts and hosts, at most MESSAGE_LIMIT characters.

    ``secret`` is the target's own key, removed wherever it stands. URLs and hosts that occur in ``known`` (the
    caller's own request) stay: telling a caller which of his links failed gives nothing away.
    """
    text = _CONTROL.sub(" ", whole(text[: 4 * MESSAGE_LIMIT]))
    if len(secret) >= 6:
        text = text.replace(secret, REMOVED)
    text = _KEYS.sub(REMOVED, text)
    for pattern in (_URL, _HOST, _ADDRESS):
        text = pattern.sub(lambda match: match[0] if _may_stay(match, known) else REMOVED, text)
    return text if len(text) <= MESSAGE_LIMIT else text[: MESSAGE_LIMIT - 1] + "…"


def _may_stay(match: re.Match[str], known: bytes) -> bool:
    """Names of files and versions have dots as well; and what the caller wrote is no news to the caller."""
    if match.re is _HOST and not match["name"].lower().endswith(_HOST_ENDINGS):
        return True
    return bool(known) and match[0].rstrip(".,;:").encode() in known

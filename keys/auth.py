"""Which key a request presents, and what that key may do. Pure: no database, no clock of its own."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl
from uuid import UUID

from core import secrets
from core.client import Address, parse_address
from core.errors import AuthenticationFailed, PermissionDenied
from keys.secret import PREFIX, checksum_ok

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_HASH_PURPOSE: Final = "api-key"
_HEADERS: Final = (b"x-api-key", b"x-goog-api-key")
#: Longer than any key; what is longer is refused before anything is computed over it.
_MOST_CHARACTERS: Final = 200

_MISSING = "No API key was given. Send it as “Authorization: Bearer ck_…”."
_FOREIGN = "This is not an API key of this service: its keys begin with ck_."
_IN_QUERY = "An API key in the address ends up in logs. Send it as “Authorization: Bearer ck_…”."


def presented(headers: Mapping[bytes, bytes], query: bytes, *, allow_query: bool) -> str:
    """The ``ck_`` secret that a request carries. ``headers`` has lower-case names, as ASGI gives them.

    Where several headers carry one, a header with the right prefix wins over foreign ones (some SDKs send a
    placeholder beside the real key). Raises AuthenticationFailed, also for a key in the query where the path does not
    allow it.
    """
    in_query = _from_query(query) if b"key=" in query else ""
    if in_query.startswith(PREFIX) and not allow_query:
        raise AuthenticationFailed(_IN_QUERY)
    authorization = headers.get(b"authorization", b"")
    bearer = authorization[7:].strip() if authorization[:7].lower() == b"bearer " else b""
    if bearer.startswith(b"ck_"):
        return _decoded(bearer)
    candidates = [_decoded(headers.get(name, b"").strip()) for name in _HEADERS]
    candidates += [_decoded(bearer), in_query if allow_query else ""]
    for candidate in candidates:
        if candidate.startswith(PREFIX):
            return candidate
    raise AuthenticationFailed(_FOREIGN if any(candidates) else _MISSING)


def hash_of(secret: str) -> bytes:
    """What stands for the secret in the table of keys."""
    return secrets.keyed_hash(_HASH_PURPOSE, secret)


def refusal_of_unknown(secret: str) -> AuthenticationFailed:
    """Why a key that is in no table was refused: mistyped, or never ours."""
    if checksum_ok(secret):
        return AuthenticationFailed("This API key is not known. It may have been deleted.")
    return AuthenticationFailed("This API key is mistyped or cut short: its last six characters do not fit the rest.")


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """What admission needs to know of a key, its workspace and its maker. ``expires_at`` is in Unix seconds."""

    id: UUID
    name: str
    workspace_id: UUID
    user_id: UUID | None
    limit_microcredits: int | None = None
    auto_disable: bool = False
    allowed_models: frozenset[str] = frozenset()
    allowed_networks: tuple[Network, ...] = ()
    expires_at: float | None = None
    enabled: bool = True
    disabled_reason: str = ""
    deleted: bool = False
    workspace_active: bool = True
    member: bool = True
    #: Whose requests are counted together, as text; made once, since every call asks for it.
    subject: str = field(init=False, compare=False, default="")

    def __post_init__(self) -> None:
        object.__setattr__(self, "subject", str(self.workspace_id))

    def check_usable(self, now: float) -> None:
        """Raise AuthenticationFailed unless the key works at ``now`` (Unix seconds)."""
        if self.enabled and not self.deleted and self.workspace_active and self.member:
            if self.expires_at is None or now < self.expires_at:
                return
            raise AuthenticationFailed("This API key has expired.", code="expired_api_key")
        if self.deleted:
            raise AuthenticationFailed("This API key was deleted.")
        if not self.enabled:
            if self.disabled_reason == "spending_limit":
                raise AuthenticationFailed(
                    "This API key was disabled when it reached its spending limit.", code="disabled_api_key"
                )
            raise AuthenticationFailed("This API key is disabled.", code="disabled_api_key")
        if not self.workspace_active:
            raise AuthenticationFailed("The account that this API key belongs to is suspended.")
        raise AuthenticationFailed("The maker of this API key is no longer a member of its account.")

    def check_address(self, address: Address | str | None) -> None:
        """Raise PermissionDenied if the key may not be used from ``address``."""
        if not self.allowed_networks:
            return
        caller = parse_address(address) if isinstance(address, str) else address
        if caller is None or not any(caller in network for network in self.allowed_networks):
            raise PermissionDenied("This API key may not be used from this address.", code="address_not_allowed")

    def may_call(self, model: str) -> bool:
        """Whether the key may call ``model`` (the resolved id, never an alias)."""
        return not self.allowed_models or model in self.allowed_models

    def check_model(self, model: str) -> None:
        """Raise PermissionDenied if the key may not call ``model`` (the resolved id, never an alias)."""
        if not self.may_call(model):
            raise PermissionDenied(
                f"This API key may not call {model}.", param="model", code="model_not_allowed",
                extra={"allowed_models": sorted(self.allowed_models)},
            )  # fmt: skip


def _from_query(query: bytes) -> str:
    pairs = parse_qsl(query[:8192].decode("latin-1"), keep_blank_values=False, max_num_fields=100)
    return next((value[:_MOST_CHARACTERS] for name, value in pairs if name == "key"), "")


def _decoded(value: bytes) -> str:
    return value[:_MOST_CHARACTERS].decode("latin-1")

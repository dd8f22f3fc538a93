"""The role that a provider's claim gives. Never owner; never from a claim that no map names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from orgs.permissions import Role
from sso.models import SsoConnection

#: The strongest first: somebody in several groups gets the most that one of them gives.
_STRENGTH: Final = (Role.ADMIN, Role.DEVELOPER, Role.BILLING, Role.VIEWER)


def of_claims(connection: SsoConnection, claims: Mapping[str, Any]) -> Role | None:
    """The role that the map reads out of the claims; None where the map has no say in it.

    A person whose claim holds nothing that the map knows gets the default role: who leaves a group loses its role.
    """
    if not connection.role_claim or not connection.role_map or connection.role_claim not in claims:
        return None
    return of_groups(connection, values(claims[connection.role_claim])) or Role(connection.default_role)


def of_groups(connection: SsoConnection, groups: list[str]) -> Role | None:
    """The strongest role that the map gives for one of ``groups``, None where it names none of them."""
    given = {connection.role_map.get(group) for group in groups}
    return next((role for role in _STRENGTH if role.value in given), None)


def values(claim: object) -> list[str]:
    """The texts in a claim: one, or a list of them."""
    if isinstance(claim, str):
        return [claim]
    if isinstance(claim, (list, tuple)):
        return [item for item in claim if isinstance(item, str)]
    return []

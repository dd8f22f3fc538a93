"""What an assertion says about a person: providers use a dozen names for the same few things."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from sso.saml.refusals import Refused

#: Attribute name → its values, as the assertion has them.
Attributes = Mapping[str, Sequence[str]]

_MICROSOFT: Final = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims"
#: For each of our names the providers', tried in this order; compared without regard to case.
USUAL: Final[Mapping[str, tuple[str, ...]]] = {
    "email": (
        "urn:oid:0.9.2342.19200300.100.1.3",
        f"{_MICROSOFT}/emailaddress",
        "email",
        "mail",
        "emailaddress",
        "user.email",
    ),
    "name": (
        "urn:oid:2.16.840.1.113730.3.1.241",
        "http://schemas.microsoft.com/identity/claims/displayname",
        "displayname",
        "urn:oid:2.5.4.3",
        "cn",
        "name",
    ),
    "given_name": ("urn:oid:2.5.4.42", f"{_MICROSOFT}/givenname", "givenname", "firstname", "first_name"),
    "family_name": ("urn:oid:2.5.4.4", f"{_MICROSOFT}/surname", "sn", "surname", "lastname", "last_name"),
    #: Lasting names of a person, for providers whose NameID changes with every sign-in.
    "subject": (
        "urn:oasis:names:tc:SAML:attribute:subject-id",
        "urn:oasis:names:tc:SAML:attribute:pairwise-id",
        "http://schemas.microsoft.com/identity/claims/objectidentifier",
        "urn:oid:1.3.6.1.4.1.5923.1.1.1.13",
    ),
}
EMAIL_FORMAT: Final = "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress"
TRANSIENT_FORMAT: Final = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"
SUBJECT_LENGTH: Final = 255
_NAME_LENGTH: Final = 120


@dataclass(frozen=True, slots=True)
class NameId:
    """The subject as the assertion names it."""

    value: str
    format: str = ""


def values(attributes: Attributes, ours: str, chosen: Mapping[str, str]) -> list[str]:
    """The distinct values of the first of the provider's names for ``ours`` that is there."""
    names = [chosen[ours]] if chosen.get(ours) else list(USUAL.get(ours, (ours,)))
    by_name: dict[str, list[str]] = {}
    for name, found in attributes.items():
        by_name.setdefault(name.lower(), []).extend(found)
    for name in names:
        found = [value.strip() for value in by_name.get(name.lower(), ()) if value.strip()]
        if found:
            return list(dict.fromkeys(found))
    return []


def email(attributes: Attributes, name_id: NameId, chosen: Mapping[str, str]) -> str:
    """The one e-mail address, in lower case: an attribute's, or the NameID where that is one. Raises Refused."""
    found = {value.lower() for value in values(attributes, "email", chosen)}
    if not found and not chosen.get("email") and ("@" in name_id.value or name_id.format == EMAIL_FORMAT):
        found = {name_id.value.lower()}
    if len(found) != 1:
        raise Refused("email", f"{len(found)} addresses")
    address = found.pop()
    try:
        validate_email(address)
    except ValidationError:
        raise Refused("email", "not an address") from None
    return address


def subject(attributes: Attributes, name_id: NameId, chosen: Mapping[str, str]) -> str:
    """What this provider calls the person for good. Raises Refused where it is another name each time, or none."""
    found = values(attributes, "subject", chosen) if chosen.get("subject") else []
    if not found and name_id.value and name_id.format != TRANSIENT_FORMAT:
        found = [name_id.value]
    if not found:
        found = values(attributes, "subject", {})
    if len(found) != 1 or len(found[0]) > SUBJECT_LENGTH:
        raise Refused("subject", f"NameID format {name_id.format or 'none'}")
    return found[0]


def name(attributes: Attributes, chosen: Mapping[str, str]) -> str:
    """How the person is called; empty where the provider doesn't say."""
    whole = values(attributes, "name", chosen)
    if whole:
        return whole[0][:_NAME_LENGTH]
    parts = [values(attributes, part, chosen)[:1] for part in ("given_name", "family_name")]
    return " ".join(word for part in parts for word in part)[:_NAME_LENGTH]

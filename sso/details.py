"""Rules for what people enter about a connection. Every refusal names the field as the management API calls it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.utils.translation import gettext as _

from core import errors
from sso.models import GIVEN_ROLES

MOST_ENTRIES: Final = 100
_KEY_LENGTH: Final = 255
#: Our names of what an attribute map may rename.
ATTRIBUTES: Final = ("email", "name", "subject")
_API_NAMES: Final = {
    "default_role": "defaultRole",
    "role_claim": "roleClaim",
    "role_map": "roleMap",
    "attribute_map": "attributeMap",
    "metadata_xml": "metadataXml",
    "metadata_url": "metadataUrl",
    "entity_id": "entityId",
    "idp_initiated": "idpInitiated",
    "provider_logout": "providerLogout",
    "client_id": "clientId",
    "client_secret": "clientSecret",
}


def checked(name: str, value: Any) -> Any:
    """A value for the plain column ``name``. Raises InvalidRequest."""
    if name == "default_role":
        return role(value, "defaultRole")
    if name == "role_map":
        return {key: role(given, "roleMap") for key, given in _mapping(value, "roleMap").items()}
    if name == "attribute_map":
        found = _mapping(value, "attributeMap")
        if not found.keys() <= set(ATTRIBUTES):
            raise errors.InvalidRequest(
                _("An attribute map names: %(names)s.") % {"names": ", ".join(ATTRIBUTES)}, param="attributeMap"
            )
        return found
    if name in ("idp_initiated", "provider_logout"):
        return bool(value)
    return text(_API_NAMES.get(name, name), value, most=80 if name == "name" else _KEY_LENGTH, empty=True)


def role(value: Any, param: str) -> str:
    """A role that a connection may give: any but owner."""
    if value not in [choice.value for choice in GIVEN_ROLES]:
        names = ", ".join(choice.value for choice in GIVEN_ROLES)
        raise errors.InvalidRequest(_("The role is one of: %(roles)s.") % {"roles": names}, param=param)
    return str(value)


def text(param: str, value: Any, *, most: int, empty: bool = False) -> str:
    """One line of text without blanks around it."""
    line = value.strip() if isinstance(value, str) else ""
    if not line and not empty:
        raise errors.InvalidRequest(_("This field is required."), param=param)
    if len(line) > most or not line.isprintable():
        raise errors.InvalidRequest(_("This must be one line of at most %(most)d characters.") % {"most": most},
                                    param=param)  # fmt: skip
    return line


def refuse(wanted: Mapping[str, Any], *names: str) -> None:
    """Raise InvalidRequest where a field of the other kind of connection was given."""
    for name in names:
        if wanted.get(name):
            param = _API_NAMES.get(name, name)
            raise errors.InvalidRequest(_("This kind of connection has no such field."), param=param)


def _mapping(value: Any, param: str) -> dict[str, str]:
    if not isinstance(value, Mapping) or len(value) > MOST_ENTRIES:
        raise errors.InvalidRequest(_("This must be an object of at most %(most)d texts.") % {"most": MOST_ENTRIES},
                                    param=param)  # fmt: skip
    return {text(param, key, most=_KEY_LENGTH): text(param, given, most=_KEY_LENGTH) for key, given in value.items()}

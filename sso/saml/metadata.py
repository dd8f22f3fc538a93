"""Metadata of both sides: what an identity provider says about itself, and what we say about ourselves."""

from __future__ import annotations

import base64
import binascii
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from django.utils.translation import gettext as _

from core import egress, errors, outbound
from sso.saml import xml
from sso.saml.parties import POST, REDIRECT, IdentityProvider, ServiceProvider

MOST_CERTIFICATES: Final = 10
_PROTOCOL: Final = "urn:oasis:names:tc:SAML:2.0:protocol"
#: Formats by which somebody is known again the next time.
_LASTING: Final = (
    "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent",
    "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress",
)
_TRANSIENT: Final = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"


# ── Theirs ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def read(document: bytes, *, entity_id: str = "") -> IdentityProvider:
    """The identity provider that ``document`` describes; ``entity_id`` chooses where it describes several.

    Raises InvalidRequest that names the field ``metadataXml``.
    """
    try:
        root = xml.read(document, comments=True)
    except xml.Malformed as error:
        raise _invalid(_("The metadata can't be used: %(why)s") % {"why": error}) from None
    entity, role = _chosen(root, entity_id)
    location, binding = _sign_on(role)
    return IdentityProvider(
        entity_id=_entity_id(entity),
        sso_url=location,
        certificates=_certificates(role),
        binding=binding,
        sign_requests=role.get("WantAuthnRequestsSigned", "") in ("true", "1"),
        name_id_format=_name_id_format(role),
    )


def fetch(url: str) -> bytes:
    """The document at ``url``, over the guarded way out. Raises InvalidRequest that names ``metadataUrl``."""
    limits = egress.Limits(body_bytes=xml.MOST_BYTES)
    try:
        answer = outbound.call(url, egress.Purpose.IDENTITY_PROVIDER, limits=limits)
    except egress.EgressError as error:
        text = _("The metadata could not be fetched: %(why)s") % {"why": error}
        raise errors.InvalidRequest(text, param="metadataUrl", code="unreachable") from None
    if answer.status != 200:
        text = _("The metadata could not be fetched: the server answered with status %(status)d.")
        raise errors.InvalidRequest(text % {"status": answer.status}, param="metadataUrl", code="unreachable")
    return answer.body


def _invalid(message: str) -> errors.InvalidRequest:
    return errors.InvalidRequest(message, param="metadataXml", code="invalid_metadata")


def _chosen(root: xml.Element, entity_id: str) -> tuple[xml.Element, xml.Element]:
    entities = xml.find(root, "/md:EntityDescriptor | /md:EntitiesDescriptor//md:EntityDescriptor")
    path = f"md:IDPSSODescriptor[contains(concat(' ', @protocolSupportEnumeration, ' '), ' {_PROTOCOL} ')]"
    found = [(entity, role) for entity in entities for role in xml.find(entity, path)]
    if entity_id:
        found = [(entity, role) for entity, role in found if entity.get("entityID") == entity_id]
    if not found:
        raise _invalid(_("The metadata describes no SAML 2.0 identity provider (IDPSSODescriptor)."))
    if len(found) > 1:
        names = ", ".join(sorted({str(entity.get("entityID")) for entity, _role in found})[:5])
        raise _invalid(
            _("The metadata describes several identity providers; keep one of them: %(names)s") % {"names": names}
        )
    return found[0]


def _entity_id(entity: xml.Element) -> str:
    name = (entity.get("entityID") or "").strip()
    if not name or len(name) > 1024:
        raise _invalid(_("The identity provider's entityID is missing or longer than 1024 characters."))
    return str(name)


def _sign_on(role: xml.Element) -> tuple[str, str]:
    offered = {service.get("Binding"): service.get("Location") for service in xml.find(role, "md:SingleSignOnService")}
    if REDIRECT in offered:
        return _location(offered[REDIRECT] or ""), REDIRECT
    if POST in offered:
        raise _invalid(_("The identity provider takes requests by POST only; switch HTTP-Redirect on over there."))
    raise _invalid(_("The metadata has no SingleSignOnService with the HTTP-Redirect binding."))


def _location(url: str) -> str:
    """The browser goes there, we don't; so it need not be public, only https unless the operator allows the host."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        parts, port = urlsplit(""), 0
    plain = len(url) <= 1000 and url.isascii() and url.isprintable() and not set(url) & set(" \"'<>\\^`{|}#")
    if parts.scheme not in ("https", "http") or not parts.hostname or "@" in parts.netloc or not plain:
        raise _invalid(_("The sign-on address is not a valid URL."))
    if parts.scheme == "http" and not _vouched_for(parts.hostname, port):
        raise _invalid(_("The sign-on address must begin with https://."))
    return url


def _vouched_for(host: str, port: int) -> bool:
    try:
        place = f"[{host}]" if ":" in host else host
        egress.check_url(f"http://{place}:{port}/", egress.Purpose.IDENTITY_PROVIDER, allow=outbound.allowed())
    except egress.EgressError:
        return False
    return True


def _certificates(role: xml.Element) -> tuple[str, ...]:
    path = "md:KeyDescriptor[not(@use) or @use='signing']/ds:KeyInfo/ds:X509Data/ds:X509Certificate"
    found = dict.fromkeys(_pem(node) for node in xml.find(role, path))
    if not found:
        raise _invalid(_("The metadata names no certificate for signing."))
    if len(found) > MOST_CERTIFICATES:
        raise _invalid(_("The metadata names more than %(most)d certificates.") % {"most": MOST_CERTIFICATES})
    return tuple(found)


def _pem(node: xml.Element) -> str:
    try:
        der = base64.b64decode("".join(xml.text_of(node).split()), validate=True)
        certificate = x509.load_der_x509_certificate(der)
        certificate.public_key()
    except (binascii.Error, ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise _invalid(_("A certificate in the metadata can't be read.")) from error
    return certificate.public_bytes(Encoding.PEM).decode()


def _name_id_format(role: xml.Element) -> str:
    """What to ask for: the first lasting format that is offered; nothing where the provider leaves the choice open."""
    offered = [xml.text_of(node) for node in xml.find(role, "md:NameIDFormat")]
    if not offered or (offered[0] not in (*_LASTING, _TRANSIENT)):
        return ""
    return next((form for form in offered if form in _LASTING), "")


# ── Ours ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def of_service(sp: ServiceProvider, *, sign_requests: bool) -> bytes:
    """Our metadata for one connection, to be registered at the identity provider."""
    root = xml.element("md", "EntityDescriptor", {"entityID": sp.entity_id})
    role = xml.element(
        "md",
        "SPSSODescriptor",
        {
            "AuthnRequestsSigned": "true" if sign_requests else "false",
            "WantAssertionsSigned": "true",
            "protocolSupportEnumeration": _PROTOCOL,
        },
    )
    root.append(role)
    for use in ("signing", "encryption"):
        role.append(_key_descriptor(use, sp.certificate))
    for form in (*_LASTING, "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified"):
        role.append(xml.element("md", "NameIDFormat", text=form))
    place = {"Binding": POST, "Location": sp.acs_url, "index": "0", "isDefault": "true"}
    role.append(xml.element("md", "AssertionConsumerService", place))
    return xml.written(root)


def _key_descriptor(use: str, certificate: str) -> xml.Element:
    descriptor = xml.element("md", "KeyDescriptor", {"use": use})
    info, data = xml.element("ds", "KeyInfo"), xml.element("ds", "X509Data")
    lines = (line for line in certificate.splitlines() if line and not line.startswith("-----"))
    data.append(xml.element("ds", "X509Certificate", text="".join(lines)))
    info.append(data)
    descriptor.append(info)
    return descriptor

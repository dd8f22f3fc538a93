"""A small SAML identity provider that says whatever it is told, and signs it. Honest by default.

It writes its documents with lxml and signs with xmlsec, as real ones do; tests change one thing at a time.
"""

from __future__ import annotations

import base64
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import xmlsec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from lxml import etree

SAMLP: Final = "urn:oasis:names:tc:SAML:2.0:protocol"
SAML: Final = "urn:oasis:names:tc:SAML:2.0:assertion"
DS: Final = "http://www.w3.org/2000/09/xmldsig#"
MD: Final = "urn:oasis:names:tc:SAML:2.0:metadata"
NAMES: Final = {"samlp": SAMLP, "saml": SAML, "ds": DS, "md": MD, "xenc": "http://www.w3.org/2001/04/xmlenc#"}

EMAIL: Final = "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress"
PERSISTENT: Final = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"
TRANSIENT: Final = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"
SUCCESS: Final = "urn:oasis:names:tc:SAML:2.0:status:Success"
BEARER: Final = "urn:oasis:names:tc:SAML:2.0:cm:bearer"

Element = Any
Transform = xmlsec.constants  # the names of algorithms


@dataclass(frozen=True)
class Pair:
    """A private key and its certificate, in PEM."""

    key: bytes = field(repr=False)
    certificate: bytes

    @property
    def certificate_body(self) -> str:
        """The certificate in base64, without its frame."""
        return "".join(line for line in self.certificate.decode().splitlines() if "-----" not in line)


@functools.cache
def pair(name: str = "honest", *, curve: bool = False) -> Pair:
    """The key pair of that name, made once a run; RSA, or on the curve P-256."""
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey = (
        ec.generate_private_key(ec.SECP256R1())
        if curve
        else rsa.generate_private_key(public_exponent=65537, key_size=2048)
    )
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Pair(secret, certificate.public_bytes(serialization.Encoding.PEM))


@dataclass(frozen=True)
class Says:
    """Everything that a response says. None leaves the attribute or element out."""

    issuer: str | None
    response_issuer: str | None
    destination: str | None
    recipient: str | None
    audiences: Sequence[str]
    in_response_to: str | None
    confirmed_request: str | None
    name_id: str | None
    attributes: Mapping[str, Sequence[str]]
    name_id_format: str | None = EMAIL
    sp_name_qualifier: str | None = None
    response_id: str = "_response"
    assertion_id: str = "_assertion"
    issued: datetime = field(default_factory=lambda: datetime.now(UTC))
    assertion_issued: datetime | None = None
    not_before: timedelta | None = timedelta(minutes=-1)
    not_on_or_after: timedelta | None = timedelta(minutes=5)
    confirmed_until: timedelta | None = timedelta(minutes=5)
    session_until: timedelta | None = timedelta(hours=8)
    status: str = SUCCESS
    method: str = BEARER
    confirmations: int = 1
    extra_condition: str | None = None

    def but(self, **changes: Any) -> Says:
        """The same but for these."""
        return replace(self, **changes)


def node(prefix: str, name: str, text: str | None = None, **attributes: str | None) -> Element:
    given = {key: value for key, value in attributes.items() if value is not None}
    made = etree.Element(f"{{{NAMES[prefix]}}}{name}", given, nsmap={prefix: NAMES[prefix]})
    made.text = text
    return made


def at(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def later(says: Says, delta: timedelta | None) -> str | None:
    return None if delta is None else at(says.issued + delta)


def assertion(says: Says) -> Element:
    """The assertion, not signed yet."""
    root = node(
        "saml", "Assertion", ID=says.assertion_id, Version="2.0", IssueInstant=at(says.assertion_issued or says.issued)
    )
    if says.issuer is not None:
        root.append(node("saml", "Issuer", says.issuer))
    subject = node("saml", "Subject")
    root.append(subject)
    if says.name_id is not None:
        subject.append(
            node("saml", "NameID", says.name_id, Format=says.name_id_format, SPNameQualifier=says.sp_name_qualifier)
        )
    for _number in range(says.confirmations):
        subject.append(confirmation(says))
    root.append(conditions(says))
    statement = node(
        "saml", "AuthnStatement", AuthnInstant=at(says.issued), SessionNotOnOrAfter=later(says, says.session_until)
    )
    context = node("saml", "AuthnContext")
    context.append(node("saml", "AuthnContextClassRef", "urn:oasis:names:tc:SAML:2.0:ac:classes:Password"))
    statement.append(context)
    root.append(statement)
    if says.attributes:
        root.append(attribute_statement(says.attributes))
    return root


def confirmation(says: Says) -> Element:
    made = node("saml", "SubjectConfirmation", Method=says.method)
    data = node(
        "saml",
        "SubjectConfirmationData",
        InResponseTo=says.confirmed_request,
        Recipient=says.recipient,
        NotOnOrAfter=later(says, says.confirmed_until),
    )
    made.append(data)
    return made


def conditions(says: Says) -> Element:
    made = node(
        "saml", "Conditions", NotBefore=later(says, says.not_before), NotOnOrAfter=later(says, says.not_on_or_after)
    )
    for audience in says.audiences:
        restriction = node("saml", "AudienceRestriction")
        restriction.append(node("saml", "Audience", audience))
        made.append(restriction)
    if says.extra_condition:
        made.append(node("saml", says.extra_condition))
    return made


def attribute_statement(attributes: Mapping[str, Sequence[str]]) -> Element:
    made = node("saml", "AttributeStatement")
    for name, values in attributes.items():
        attribute = node("saml", "Attribute", Name=name)
        for value in values:
            attribute.append(node("saml", "AttributeValue", value))
        made.append(attribute)
    return made


def envelope(says: Says) -> Element:
    """The response around an assertion, still without one."""
    root = node(
        "samlp",
        "Response",
        ID=says.response_id,
        Version="2.0",
        IssueInstant=at(says.issued),
        Destination=says.destination,
        InResponseTo=says.in_response_to,
    )
    if says.response_issuer is not None:
        root.append(node("saml", "Issuer", says.response_issuer))
    status = node("samlp", "Status")
    status.append(node("samlp", "StatusCode", Value=says.status))
    root.append(status)
    return root


def sign(
    root: Element,
    keys: Pair,
    *,
    method: Any = None,
    digest: Any = None,
    transforms: Sequence[Any] | None = None,
    xpath: str = "",
    hmac: bool = False,
) -> Element:
    """Sign ``root`` in place of its schema and return it as it reads when parsed again."""
    signature = xmlsec.template.create(
        root, Transform.TransformExclC14N, method or Transform.TransformRsaSha256, ns="ds"
    )
    issuer = root.find(f"{{{SAML}}}Issuer")
    if issuer is None:
        root.insert(0, signature)
    else:
        issuer.addnext(signature)
    reference = xmlsec.template.add_reference(signature, digest or Transform.TransformSha256, uri=f"#{root.get('ID')}")
    for transform in transforms or (Transform.TransformEnveloped, Transform.TransformExclC14N):
        xmlsec.template.add_transform(reference, transform)
    if xpath:
        _transforms(reference).append(xpath_transform(xpath))
    context = xmlsec.SignatureContext()
    xmlsec.tree.add_ids(root, ["ID"])
    if hmac:  # the certificate, which everybody has, as the key
        context.key = xmlsec.Key.from_binary_data(xmlsec.constants.KeyDataHmac, keys.certificate)
    else:
        xmlsec.template.add_x509_data(xmlsec.template.ensure_key_info(signature))
        context.key = xmlsec.Key.from_memory(keys.key, xmlsec.constants.KeyDataFormatPem)
        context.key.load_cert_from_memory(keys.certificate, xmlsec.constants.KeyDataFormatPem)
    context.sign(signature)
    return etree.fromstring(etree.tostring(root))


def _transforms(reference: Element) -> Element:
    return next(child for child in reference if child.tag.endswith("}Transforms"))


def xpath_transform(expression: str) -> Element:
    """A transform that signs only what ``expression`` chooses."""
    made = node("ds", "Transform", Algorithm="http://www.w3.org/TR/1999/REC-xpath-19991116")
    made.append(node("ds", "XPath", expression))
    return made


def encrypted(
    assertion_root: Element, certificate: bytes, *, transport: Any = None, content: Any = None, bits: int = 256
) -> Element:
    """An EncryptedAssertion for the owner of ``certificate``."""
    holder = node("saml", "EncryptedAssertion")
    holder.append(assertion_root)
    data = xmlsec.template.encrypted_data_create(
        holder, content or Transform.TransformAes256Gcm, type="http://www.w3.org/2001/04/xmlenc#Element", ns="xenc"
    )
    xmlsec.template.encrypted_data_ensure_cipher_value(data)
    info = xmlsec.template.encrypted_data_ensure_key_info(data, ns="ds")
    key = xmlsec.template.add_encrypted_key(info, transport or Transform.TransformRsaOaep)
    xmlsec.template.encrypted_data_ensure_cipher_value(key)
    manager = xmlsec.KeysManager()
    manager.add_key(xmlsec.Key.from_memory(certificate, xmlsec.constants.KeyDataFormatCertPem))
    context = xmlsec.EncryptionContext(manager)
    context.key = xmlsec.Key.generate(xmlsec.constants.KeyDataAes, bits, xmlsec.constants.KeyDataTypeSession)
    made = context.encrypt_xml(data, assertion_root)
    wrapper = node("saml", "EncryptedAssertion")
    wrapper.append(made)
    return etree.fromstring(etree.tostring(wrapper))


def encoded(root: Element | bytes) -> str:
    """As a browser posts it."""
    return base64.b64encode(root if isinstance(root, bytes) else etree.tostring(root)).decode()


@dataclass(frozen=True)
class IdentityProvider:
    """One provider with its entity id and keys; ``older`` are further certificates of its metadata."""

    entity_id: str = "https://idp.acme.example/metadata"
    keys: Pair = field(default_factory=pair)
    older: Sequence[Pair] = ()
    sso_url: str = "https://idp.acme.example/sso?tenant=1&app=2"

    def says(self, sp_entity_id: str, acs_url: str, request_id: str, email: str) -> Says:
        """An honest answer to that request about the person of that address."""
        return Says(
            issuer=self.entity_id,
            response_issuer=self.entity_id,
            destination=acs_url,
            recipient=acs_url,
            audiences=[sp_entity_id],
            in_response_to=request_id or None,
            confirmed_request=request_id or None,
            name_id=email,
            attributes={"mail": [email], "cn": ["Robin Example"]},
        )

    def tree(self, says: Says, *, sign_assertion: bool = True, sign_response: bool = False, **how: Any) -> Element:
        """The response as a tree, signed as wanted; ``how`` goes to `sign`."""
        inner = assertion(says)
        if sign_assertion:
            inner = sign(inner, self.keys, **how)
        root = envelope(says)
        root.append(inner)
        return sign(root, self.keys, **how) if sign_response else etree.fromstring(etree.tostring(root))

    def respond(self, says: Says, **how: Any) -> str:
        """The value of SAMLResponse."""
        return encoded(self.tree(says, **how))

    def respond_encrypted(
        self,
        says: Says,
        certificate: bytes,
        *,
        sign_assertion: bool = True,
        sign_response: bool = False,
        inner: Element | None = None,
        **how: Any,
    ) -> str:
        """The same with the assertion encrypted for ``certificate``."""
        if inner is None:
            inner = assertion(says)
        if sign_assertion:
            inner = sign(inner, self.keys)
        root = envelope(says)
        root.append(encrypted(inner, certificate, **how))
        return encoded(sign(root, self.keys) if sign_response else root)

    def metadata(self, *, want_signed: bool = False, certificates: Sequence[Pair] | None = None) -> str:
        """Its metadata document."""
        root = node("md", "EntityDescriptor", entityID=self.entity_id)
        role = node("md", "IDPSSODescriptor", protocolSupportEnumeration=SAMLP)
        if want_signed:
            role.set("WantAuthnRequestsSigned", "true")
        root.append(role)
        for keys in certificates if certificates is not None else (self.keys, *self.older):
            role.append(key_descriptor(keys))
        role.append(
            node(
                "md",
                "SingleSignOnService",
                Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect",
                Location=self.sso_url,
            )
        )
        return str(etree.tostring(root).decode())


def key_descriptor(keys: Pair, use: str | None = "signing") -> Element:
    """A KeyDescriptor with the certificate of ``keys``."""
    made, info, data = node("md", "KeyDescriptor", use=use), node("ds", "KeyInfo"), node("ds", "X509Data")
    data.append(node("ds", "X509Certificate", keys.certificate_body))
    info.append(data)
    made.append(info)
    return made

"""The two ends of a SAML connection as plain values: their identity provider, our service provider."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from onelogin.saml2.constants import OneLogin_Saml2_Constants as Constants
from onelogin.saml2.settings import OneLogin_Saml2_Settings as ToolkitSettings

from core import clock

KEY_BITS: Final = 3072
#: Identity providers pin the certificate and few of them look at its end; rolling it over is a new connection's job.
CERTIFICATE_DAYS: Final = 3650

REDIRECT: Final = str(Constants.BINDING_HTTP_REDIRECT)
POST: Final = str(Constants.BINDING_HTTP_POST)


@dataclass(frozen=True, slots=True)
class IdentityProvider:
    """Their side. ``certificates`` (PEM): any of them may have signed."""

    entity_id: str
    sso_url: str
    certificates: tuple[str, ...]
    binding: str = REDIRECT
    sign_requests: bool = False
    name_id_format: str = ""


@dataclass(frozen=True, slots=True)
class ServiceProvider:
    """Our side of one connection. Key and certificate in PEM."""

    entity_id: str
    acs_url: str
    private_key: str = field(repr=False)
    certificate: str


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A new private key and its self-signed certificate, both in PEM."""

    private_key: str = field(repr=False)
    certificate: str

    @classmethod
    def new(cls, name: str) -> KeyPair:
        """A pair for one connection; ``name`` is what the certificate is called (64 characters are kept)."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
        now = clock.now()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=CERTIFICATE_DAYS))
            .sign(key, hashes.SHA256())
        )
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return cls(secret.decode(), certificate.public_bytes(serialization.Encoding.PEM).decode())


def toolkit(idp: IdentityProvider, sp: ServiceProvider) -> Any:
    """Both sides as python3-saml wants them: strict, no deprecated algorithm, several certificates."""
    return ToolkitSettings(
        {
            "strict": True,
            "sp": {
                "entityId": sp.entity_id,
                "assertionConsumerService": {"url": sp.acs_url, "binding": POST},
                "x509cert": sp.certificate,
                "privateKey": sp.private_key,
            },
            "idp": {
                "entityId": idp.entity_id,
                # Their address is of no use for reading answers; ours is a URL that passes the package's pattern.
                "singleSignOnService": {"url": sp.acs_url, "binding": REDIRECT},
                "x509certMulti": {"signing": list(idp.certificates)},
            },
            "security": {
                "rejectDeprecatedAlgorithm": True,
                "wantAttributeStatement": False,
                "allowRepeatAttributeName": True,
                "allowSingleLabelDomains": True,
            },
        }
    )

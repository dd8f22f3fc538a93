"""What we ask an identity provider: one AuthnRequest in the address that the browser is sent to."""

from __future__ import annotations

import base64
import secrets
import zlib
from typing import Final
from urllib.parse import urlencode

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from core import clock
from sso.saml import xml
from sso.saml.parties import POST, IdentityProvider, ServiceProvider

_RSA_SHA256: Final = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
_UNSPECIFIED: Final = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified"


def new_id() -> str:
    """An id that nobody guesses and that XML takes: an NCName of 43 characters."""
    return f"_{secrets.token_hex(21)}"


def address(idp: IdentityProvider, sp: ServiceProvider, *, request_id: str, relay_state: str) -> str:
    """Where to send the browser: the request over the redirect binding, signed where the provider wants that."""
    document = xml.written(_document(request_id, idp, sp))
    parameters = {"SAMLRequest": _deflated(document), "RelayState": relay_state}
    query = urlencode(parameters)
    if idp.sign_requests:
        query = _signed(query, sp.private_key)
    return f"{idp.sso_url}{'&' if '?' in idp.sso_url else '?'}{query}"


def _document(identifier: str, idp: IdentityProvider, sp: ServiceProvider) -> xml.Element:
    root = xml.element(
        "samlp",
        "AuthnRequest",
        {
            "ID": identifier,
            "Version": "2.0",
            "IssueInstant": clock.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
            "Destination": idp.sso_url,
            "ProtocolBinding": POST,
            "AssertionConsumerServiceURL": sp.acs_url,
        },
    )
    root.append(xml.element("saml", "Issuer", text=sp.entity_id))
    policy = {"AllowCreate": "true"}
    if idp.name_id_format and idp.name_id_format != _UNSPECIFIED:
        policy["Format"] = idp.name_id_format
    root.append(xml.element("samlp", "NameIDPolicy", policy))
    return root


def _deflated(document: bytes) -> str:
    """Raw DEFLATE in base64, as the redirect binding has it."""
    packer = zlib.compressobj(wbits=-15)
    return base64.b64encode(packer.compress(document) + packer.flush()).decode()


def _signed(query: str, private_key: str) -> str:
    """``query`` with SigAlg and Signature over exactly these characters."""
    query = f"{query}&{urlencode({'SigAlg': _RSA_SHA256})}"
    key = serialization.load_pem_private_key(private_key.encode(), password=None)
    assert isinstance(key, rsa.RSAPrivateKey)
    signature = key.sign(query.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{query}&{urlencode({'Signature': base64.b64encode(signature).decode()})}"

"""The form a signature must have before it is worth verifying, and what may be encrypted how.

python3-saml verifies whatever the signature itself declares: any transform, any digest. A transform can shrink what is
signed to a fraction of the assertion, so only the two that SAML 2.0 Core (5.4.4) allows are taken, and no more than
one reference, to the very element that the signature stands in.
"""

from __future__ import annotations

from typing import Final

from sso.saml import xml
from sso.saml.refusals import Refused

_DS: Final = "http://www.w3.org/2000/09/xmldsig#"
_MORE: Final = "http://www.w3.org/2001/04/xmldsig-more#"
_NEWER: Final = "http://www.w3.org/2007/05/xmldsig-more#"
_ENC: Final = "http://www.w3.org/2001/04/xmlenc#"
_ENC11: Final = "http://www.w3.org/2009/xmlenc11#"

ENVELOPED: Final = f"{_DS}enveloped-signature"
_CANONICAL: Final = frozenset(
    {"http://www.w3.org/2001/10/xml-exc-c14n#", "http://www.w3.org/2001/10/xml-exc-c14n#WithComments"}
)
SIGNING: Final = frozenset(
    {f"{_MORE}{family}-sha{bits}" for family in ("rsa", "ecdsa") for bits in (256, 384, 512)}
    | {f"{_NEWER}sha{bits}-rsa-MGF1" for bits in (256, 384, 512)}
)
DIGESTS: Final = frozenset({f"{_ENC}sha256", f"{_MORE}sha384", f"{_ENC}sha512"})
#: Key transport with PKCS #1 v1.5 is left out: an oracle for its padding opens every message to the key.
KEY_TRANSPORT: Final = frozenset({f"{_ENC}rsa-oaep-mgf1p", f"{_ENC11}rsa-oaep"})
CONTENT: Final = frozenset(
    {f"{_ENC}aes{bits}-cbc" for bits in (128, 192, 256)} | {f"{_ENC11}aes{bits}-gcm" for bits in (128, 192, 256)}
)


def check_ids(root: xml.Element) -> None:
    """Raise Refused where two elements bear one id: the signature of one could be shown for the other."""
    seen = xml.find(root, "//@ID | //@Id | //@id | //@xml:id")
    if len(seen) != len(set(seen)):
        raise Refused("signature_form", "an id stands twice")


def check(root: xml.Element) -> None:
    """Raise Refused for any signature in the document that has not the one form that is taken."""
    for signature in xml.find(root, "//ds:Signature"):
        parent = signature.getparent()
        if parent is not root and (parent is None or parent.getparent() is not root):
            raise Refused("signature_form", "a signature stands where none may be")
        _check_one(signature, str(parent.get("ID") or ""))


def _check_one(signature: xml.Element, identifier: str) -> None:
    if xml.find(signature, ".//ds:Object | .//ds:Manifest | .//ds:Signature"):
        raise Refused("signature_form", "a signature holds objects")
    if len(xml.find(signature, "ds:SignedInfo")) != 1 or len(xml.find(signature, ".//ds:SignedInfo")) != 1:
        raise Refused("signature_form", "a signature has not exactly one SignedInfo")
    references = xml.find(signature, ".//ds:Reference")
    if len(references) != 1 or xml.find(signature, "ds:SignedInfo/ds:Reference") != references:
        raise Refused("signature_form", "a signature has not exactly one Reference")
    if not identifier or references[0].get("URI") != f"#{identifier}":
        raise Refused("signature_form", "a signature refers to another element than its own")
    _check_algorithms(signature)
    _check_transforms(xml.find(references[0], ".//ds:Transform"))


def _check_algorithms(signature: xml.Element) -> None:
    if _algorithms(signature, "ds:SignedInfo/ds:CanonicalizationMethod") - _CANONICAL:
        raise Refused("signature_form", "SignedInfo is canonicalized in another way than exclusively")
    for path, allowed in (("ds:SignedInfo/ds:SignatureMethod", SIGNING), (".//ds:DigestMethod", DIGESTS)):
        given = _algorithms(signature, path)
        if not given or given - allowed:
            raise Refused("algorithm", ", ".join(sorted(given)))


def _check_transforms(transforms: list[xml.Element]) -> None:
    names = [str(transform.get("Algorithm")) for transform in transforms]
    rest = [name for name in names if name != ENVELOPED]
    if names.count(ENVELOPED) != 1 or len(rest) > 1 or set(rest) - _CANONICAL:
        raise Refused("signature_form", f"transforms: {', '.join(names)}")


def _algorithms(node: xml.Element, path: str) -> set[str]:
    return {str(found.get("Algorithm")) for found in xml.find(node, path)}


def check_encryption(root: xml.Element) -> None:
    """Raise Refused for encrypted parts that are not taken, before any of them is opened."""
    keys, contents = "//xenc:EncryptedKey/xenc:EncryptionMethod", "//xenc:EncryptedData/xenc:EncryptionMethod"
    for path, allowed in ((keys, KEY_TRANSPORT), (contents, CONTENT)):
        given = _algorithms(root, path)
        if given - allowed:
            raise Refused("algorithm", ", ".join(sorted(given)))
    for digest in _algorithms(root, f"{keys}/ds:DigestMethod"):
        if digest not in DIGESTS and digest != f"{_DS}sha1":  # inside OAEP SHA-1 is the default and sound
            raise Refused("algorithm", digest)
    if len(xml.find(root, "//xenc:EncryptedData")) > 2 or len(xml.find(root, "//xenc:EncryptedKey")) > 4:
        raise Refused("encryption", "more encrypted parts than an answer has")
    if xml.find(root, "//xenc:CipherReference"):
        raise Refused("encryption", "a reference to encrypted data elsewhere")

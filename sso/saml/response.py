"""Reads the answer of an identity provider: everything that must hold before a word of it is believed.

python3-saml checks much and leaves much open (it takes an absent audience, recipient, destination or InResponseTo, and
compares the present ones by prefix). `CheckedResponse` adds what is open, on the very tree whose signature was
verified: serialising it and parsing again would let two readers see two documents.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import xmlsec
from onelogin.saml2.errors import OneLogin_Saml2_Error, OneLogin_Saml2_ValidationError
from onelogin.saml2.response import OneLogin_Saml2_Response
from onelogin.saml2.utils import OneLogin_Saml2_Utils as Utils

from core import clock
from sso.saml import attributes as people
from sso.saml import refusals, signatures, xml
from sso.saml.parties import IdentityProvider, ServiceProvider, toolkit
from sso.saml.refusals import Refused

#: How far their clock and ours may be apart.
SKEW: Final = timedelta(seconds=120)
MOST_AGE: Final = timedelta(minutes=15)
MOST_LIFETIME: Final = timedelta(hours=24)
MOST_CHARACTERS: Final = xml.MOST_BYTES * 4 // 3

_BEARER: Final = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
_KNOWN_CONDITIONS: Final = frozenset({"AudienceRestriction", "OneTimeUse", "ProxyRestriction"})


@dataclass(frozen=True, slots=True)
class Asserted:
    """What a provider says about a person, all of it checked. Times are UTC."""

    subject: str
    email: str
    name: str
    attributes: Mapping[str, list[str]] = field(repr=False)
    assertion_id: str
    #: The id of our request; empty where the provider sent it unasked.
    in_response_to: str
    #: Until then the assertion could be shown again.
    expires_at: datetime
    #: When the provider's session ends, where it says so.
    session_ends_at: datetime | None = None


def in_response_to(message: str) -> str:
    """The id of the request that a message claims to answer, before anything of it is believed. Raises Refused."""
    root = _read(_decoded(message))
    return str(root.get("InResponseTo") or "")


def read(
    message: str,
    idp: IdentityProvider,
    sp: ServiceProvider,
    *,
    request_id: str,
    attribute_map: Mapping[str, str] | None = None,
) -> Asserted:
    """What the base64 ``message`` says, if all of it holds. Raises Refused.

    ``request_id``: our request that it must answer; empty for an answer that must name none.
    """
    _read(_decoded(message))  # the plain form, before the package opens what is encrypted
    try:
        response = CheckedResponse(idp, sp, message)
        response.check(request_id)
        return response.asserted(attribute_map or {})
    except OneLogin_Saml2_ValidationError as fault:
        raise refusals.of_toolkit(fault) from None
    except xmlsec.Error as fault:
        raise Refused("encryption", type(fault).__name__) from None
    except (OneLogin_Saml2_Error, xml.Malformed) as fault:
        raise Refused("malformed", str(fault)) from None


def _decoded(message: str) -> bytes:
    if len(message) > MOST_CHARACTERS:
        raise Refused("too_large")
    try:
        return base64.b64decode("".join(message.split()), validate=True)
    except (binascii.Error, ValueError):
        raise Refused("malformed", "not base64") from None


def _read(document: bytes) -> xml.Element:
    try:
        root = xml.read(document)
    except xml.Malformed as error:
        raise Refused("malformed", str(error)) from None
    if root.tag != f"{{{xml.NAMES['samlp']}}}Response":
        raise Refused("malformed", "not a Response")
    return root


def _moment(text: str | None, what: str) -> datetime:
    """A SAML time. Raises Refused."""
    try:
        return datetime.fromtimestamp(Utils.parse_SAML_to_time(text or ""), UTC)
    except Exception as error:  # the package raises bare Exception for a time it can't read
        raise Refused("malformed", f"{what} is no time") from error


def same_url(left: str, right: str) -> bool:
    """Whether two URLs are one: scheme and host without regard to case, the rest to the letter."""
    a, b = urlsplit(left), urlsplit(right)
    return (a.scheme.lower(), a.netloc.lower(), *a[2:]) == (b.scheme.lower(), b.netloc.lower(), *b[2:])


class CheckedResponse(OneLogin_Saml2_Response):  # type: ignore[misc]  # the package has no types
    """The package's response with what it leaves open."""

    def __init__(self, idp: IdentityProvider, sp: ServiceProvider, message: str) -> None:
        self._idp = idp
        self._sp = sp
        self._now = clock.now()
        super().__init__(toolkit(idp, sp), message)

    # ── Where the package asks us ────────────────────────────────────────────────────────────────────────────────────
    def _decrypt_assertion(self, document: xml.Element) -> xml.Element:
        signatures.check_encryption(document)
        opened = super()._decrypt_assertion(document)
        if xml.find(opened, "//comment() | //processing-instruction()"):  # this part no parser of ours has seen
            raise Refused("malformed", "a comment in the encrypted part")
        return opened

    def _query_assertion(self, path: str) -> list[xml.Element]:
        found: list[xml.Element] = super()._query_assertion(path)
        if path == "/saml:Subject/saml:SubjectConfirmation":
            return [self._widened(node) for node in found]
        return found

    def _widened(self, confirmation: xml.Element) -> xml.Element:
        """A copy whose times have the skew that the package does not allow here; `_confirmed` reads the original."""
        copy = deepcopy(confirmation)
        for data in xml.find(copy, "saml:SubjectConfirmationData"):
            for name, shift in (("NotBefore", -SKEW), ("NotOnOrAfter", SKEW)):
                if data.get(name):
                    data.set(name, f"{_moment(data.get(name), name) + shift:%Y-%m-%dT%H:%M:%SZ}")
        return copy

    def get_session_not_on_or_after(self) -> int | None:
        """The end of the provider's session in Unix seconds, with the skew."""
        end = super().get_session_not_on_or_after()
        return None if end is None else int(end) + int(SKEW.total_seconds())

    # ── What must hold ───────────────────────────────────────────────────────────────────────────────────────────────
    def check(self, request_id: str) -> None:
        """Raise Refused, or the package's own fault, unless all of it holds."""
        tree = self.get_xml_document()
        signatures.check_ids(tree)
        signatures.check(tree)
        self.is_valid(self._place(), request_id=request_id or None, raise_exceptions=True)
        self._check_envelope(request_id)
        self._check_conditions()
        self._confirmed(request_id)

    def _place(self) -> dict[str, str]:
        """This endpoint, as the package wants a request described."""
        acs = urlsplit(self._sp.acs_url)
        on = "on" if acs.scheme == "https" else "off"
        return {"https": on, "http_host": acs.netloc, "script_name": "", "path_info": acs.path}

    @property
    def _assertion(self) -> xml.Element:
        """The only one there is, as verified."""
        return self._query_assertion("")[0]

    def _check_envelope(self, request_id: str) -> None:
        """The Response element itself: addressed here, recent, from whom it should be, for this request."""
        destination = self.document.get("Destination")
        if not destination or not same_url(destination, self._sp.acs_url):
            raise Refused("destination", str(destination))
        if str(self.document.get("InResponseTo") or "") != request_id:
            raise Refused("in_response_to" if request_id else "unsolicited")
        self._check_age(self.document, "Response")
        signed_alone = bool(xml.find(self._assertion, "ds:Signature")) and not self.encrypted
        issuers = [xml.text_of(node) for node in xml.find(self.document, "saml:Issuer")]
        if issuers != [self._idp.entity_id] and not (signed_alone and not issuers):
            raise Refused("issuer", ", ".join(issuers))

    def _check_age(self, node: xml.Element, what: str) -> None:
        issued = _moment(node.get("IssueInstant"), "IssueInstant")
        if issued > self._now + SKEW:
            raise Refused("early", f"{what} issued at {issued}")
        if issued < self._now - MOST_AGE - SKEW:
            raise Refused("expired", f"{what} issued at {issued}")

    def _check_conditions(self) -> None:
        """Audience, times, and no condition that we don't understand."""
        assertion = self._assertion
        self._check_age(assertion, "Assertion")
        if [xml.text_of(node) for node in xml.find(assertion, "saml:Issuer")] != [self._idp.entity_id]:
            raise Refused("issuer")
        (conditions,) = xml.find(assertion, "saml:Conditions")
        for condition in xml.find(conditions, "*"):
            if condition.tag.rpartition("}")[2] not in _KNOWN_CONDITIONS:
                raise Refused("conditions", str(condition.tag))
        restrictions = xml.find(conditions, "saml:AudienceRestriction")
        if not restrictions or not all(self._is_audience(restriction) for restriction in restrictions):
            raise Refused("audience")
        begin, end = conditions.get("NotBefore"), conditions.get("NotOnOrAfter")
        if begin is not None and _moment(begin, "NotBefore") > self._now + SKEW:
            raise Refused("early")
        if end is not None:
            self._check_end(end, "Conditions")

    def _is_audience(self, restriction: xml.Element) -> bool:
        return self._sp.entity_id in [xml.text_of(node) for node in xml.find(restriction, "saml:Audience")]

    def _check_end(self, text: str | None, what: str) -> datetime:
        end = _moment(text, f"{what} NotOnOrAfter")
        if end + SKEW <= self._now:
            raise Refused("expired", what)
        if end > self._now + MOST_LIFETIME + SKEW:
            raise Refused("lifetime", what)
        return end

    def _confirmed(self, request_id: str) -> datetime:
        """When the one bearer confirmation ends. It says: for this endpoint, this request, and not for ever."""
        path = f"saml:Subject/saml:SubjectConfirmation[@Method='{_BEARER}']"
        found = xml.find(self._assertion, path)
        if len(found) != 1:
            raise Refused("confirmation", f"{len(found)} bearer confirmations")
        data = xml.find(found[0], "saml:SubjectConfirmationData")
        if len(data) != 1:
            raise Refused("confirmation", "no data")
        recipient = data[0].get("Recipient")
        if not recipient or not same_url(recipient, self._sp.acs_url):
            raise Refused("confirmation", f"recipient {recipient}")
        if str(data[0].get("InResponseTo") or "") != request_id:
            raise Refused("in_response_to" if request_id else "unsolicited", "subject confirmation")
        if not data[0].get("NotOnOrAfter"):
            raise Refused("confirmation", "no end")
        begin = data[0].get("NotBefore")
        if begin is not None and _moment(begin, "NotBefore") > self._now + SKEW:
            raise Refused("early", "subject confirmation")
        return self._check_end(data[0].get("NotOnOrAfter"), "subject confirmation")

    # ── What it says ─────────────────────────────────────────────────────────────────────────────────────────────────
    def asserted(self, chosen: Mapping[str, str]) -> Asserted:
        """The person. ``chosen`` maps our names of attributes to the provider's. Call `check` first."""
        found = self._plain_attributes()
        data: dict[str, Any] = self.get_nameid_data()
        name_id = people.NameId(str(data.get("Value") or "").strip(), str(data.get("Format") or ""))
        ends = self.get_session_not_on_or_after()
        request_id = str(self.document.get("InResponseTo") or "")
        return Asserted(
            subject=people.subject(found, name_id, chosen),
            email=people.email(found, name_id, chosen),
            name=people.name(found, chosen),
            attributes=found,
            assertion_id=str(self._assertion.get("ID")),
            in_response_to=request_id,
            expires_at=self._confirmed(request_id) + SKEW,
            session_ends_at=None if ends is None else datetime.fromtimestamp(ends, UTC),
        )

    def _plain_attributes(self) -> dict[str, list[str]]:
        """Name → values that are plain text. One with elements in it is somebody else's business."""
        found: dict[str, list[str]] = {}
        for attribute in self._query_assertion("/saml:AttributeStatement/saml:Attribute"):
            name = attribute.get("Name") or ""
            for value in xml.find(attribute, "saml:AttributeValue"):
                if not xml.find(value, "*"):
                    found.setdefault(name, []).append(xml.text_of(value))
        return found

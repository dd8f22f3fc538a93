"""What an identity provider's answer must be: honest ones in every shape are taken, hostile ones refused by name."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from lxml import etree

from sso.saml import response
from sso.saml.parties import IdentityProvider, KeyPair, ServiceProvider
from sso.saml.refusals import TEXTS, Refused
from tests.fakes import identity_provider as fake
from tests.fakes.identity_provider import Says, Transform
from tests.sso import attacks

SP_ENTITY = "https://hypereal.example/api/auth/sso/AAAAAAAAAAAAAAAAAAAAAA/metadata"
ACS = "https://hypereal.example/api/auth/sso/AAAAAAAAAAAAAAAAAAAAAA"
REQUEST = "_request"
ROBIN = "robin@acme.example"
BOSS = "boss@acme.example"

IDP = fake.IdentityProvider()


@pytest.fixture(scope="module")
def sp() -> ServiceProvider:
    keys = KeyPair.new("test")
    return ServiceProvider(SP_ENTITY, ACS, keys.private_key, keys.certificate)


def registered(*pairs: fake.Pair) -> IdentityProvider:
    certificates = tuple(pair.certificate.decode() for pair in pairs or (IDP.keys,))
    return IdentityProvider(IDP.entity_id, IDP.sso_url, certificates)


def says(**changes: Any) -> Says:
    return IDP.says(SP_ENTITY, ACS, REQUEST, ROBIN).but(**changes)


def read(message: str, sp: ServiceProvider, request_id: str = REQUEST, **rest: Any) -> response.Asserted:
    return response.read(message, registered(), sp, request_id=request_id, **rest)


def refused(message: str, sp: ServiceProvider, *reasons: str, **rest: Any) -> None:
    with pytest.raises(Refused) as caught:
        read(message, sp, **rest)
    assert caught.value.reason in reasons, f"{caught.value.reason}: {caught.value.detail}"
    assert caught.value.message == str(TEXTS[caught.value.reason])


# ── Honest answers ───────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "signed", [(True, False), (False, True), (True, True)], ids=["the assertion", "the response", "both"]
)
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_any_sound_signature_is_taken(signed: tuple[bool, bool], encrypted: bool, sp: ServiceProvider) -> None:
    how = {"sign_assertion": signed[0], "sign_response": signed[1]}
    if encrypted:
        message = IDP.respond_encrypted(says(), sp.certificate.encode(), **how)
    else:
        message = IDP.respond(says(), **how)
    found = read(message, sp)
    assert (found.subject, found.email, found.name) == (ROBIN, ROBIN, "Robin Example")
    assert (found.assertion_id, found.in_response_to) == ("_assertion", REQUEST)
    assert found.expires_at > datetime.now(UTC)


@pytest.mark.parametrize("content", ["Aes128Cbc", "Aes256Cbc", "Aes128Gcm", "Aes256Gcm"])
def test_usual_ways_to_encrypt_are_taken(content: str, sp: ServiceProvider) -> None:
    transform, bits = getattr(Transform, f"Transform{content}"), int(content[3:6])
    message = IDP.respond_encrypted(says(), sp.certificate.encode(), content=transform, bits=bits)
    assert read(message, sp).email == ROBIN


def test_a_signature_by_an_elliptic_curve_is_taken(sp: ServiceProvider) -> None:
    keys = fake.pair("curve", curve=True)
    message = fake.IdentityProvider(keys=keys).respond(says(), method=Transform.TransformEcdsaSha256)
    assert response.read(message, registered(keys), sp, request_id=REQUEST).email == ROBIN
    refused(message, sp, "signature")


@pytest.mark.parametrize("seconds", [-100, 100], ids=["behind", "ahead"])
def test_a_clock_that_is_a_little_off_does_no_harm(seconds: int, sp: ServiceProvider) -> None:
    issued = datetime.now(UTC) + timedelta(seconds=seconds)
    short = timedelta(seconds=60)
    message = IDP.respond(says(issued=issued, not_on_or_after=short, confirmed_until=short, session_until=short))
    assert read(message, sp).email == ROBIN


def test_either_certificate_of_the_metadata_may_have_signed(sp: ServiceProvider) -> None:
    new = fake.IdentityProvider(keys=fake.pair("new"))
    both = registered(fake.pair(), fake.pair("new"))
    for provider in (IDP, new):
        assert response.read(provider.respond(says()), both, sp, request_id=REQUEST).email == ROBIN


@pytest.mark.parametrize(
    "name",
    [
        "urn:oid:0.9.2342.19200300.100.1.3",
        "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress",
        "Email",
    ],
)
def test_the_address_is_found_under_its_usual_names(name: str, sp: ServiceProvider) -> None:
    said = says(name_id="7f3a", name_id_format=fake.PERSISTENT, attributes={name: ["Robin@ACME.example"]})
    found = read(IDP.respond(said), sp)
    assert (found.subject, found.email) == ("7f3a", ROBIN)


def test_a_name_id_alone_is_enough(sp: ServiceProvider) -> None:
    assert read(IDP.respond(says(attributes={})), sp).email == ROBIN


def test_the_chosen_attribute_counts(sp: ServiceProvider) -> None:
    said = says(attributes={"work": ["robin@acme.example"], "mail": ["robin@home.example"], "nick": ["Rob"]})
    found = read(IDP.respond(said), sp, attribute_map={"email": "work", "name": "nick"})
    assert (found.email, found.name) == (ROBIN, "Rob")


def test_a_passing_name_needs_a_lasting_attribute(sp: ServiceProvider) -> None:
    said = says(name_id="_x81", name_id_format=fake.TRANSIENT)
    refused(IDP.respond(said), sp, "subject")
    lasting = {**said.attributes, "urn:oasis:names:tc:SAML:attribute:subject-id": ["robin@acme.example!7"]}
    assert read(IDP.respond(said.but(attributes=lasting)), sp).subject == "robin@acme.example!7"


def test_an_answer_that_nobody_asked_for_names_no_request(sp: ServiceProvider) -> None:
    unasked = says(in_response_to=None, confirmed_request=None)
    assert read(IDP.respond(unasked), sp, request_id="").in_response_to == ""
    refused(IDP.respond(unasked), sp, "in_response_to")
    refused(IDP.respond(says()), sp, "unsolicited", request_id="")
    refused(IDP.respond(says(in_response_to=None)), sp, "unsolicited", request_id="")


# ── Hostile ones: what they say ──────────────────────────────────────────────────────────────────────────────────────
LONG_AGO = datetime.now(UTC) - timedelta(hours=1)
TOO_LONG = timedelta(hours=30)

LIES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "another audience": ({"audiences": ["https://other.example/metadata"]}, ("audience",)),
    "an audience that begins alike": ({"audiences": [f"{SP_ENTITY}x"]}, ("audience",)),
    "no audience": ({"audiences": []}, ("audience",)),
    "one restriction of two names us": ({"audiences": [SP_ENTITY, "https://other.example"]}, ("audience",)),
    "another recipient": ({"recipient": "https://other.example/acs"}, ("confirmation",)),
    "a recipient that begins alike": ({"recipient": f"{ACS}B"}, ("confirmation",)),
    "a recipient that holds ours": ({"recipient": f"https://other.example/?{ACS}"}, ("confirmation",)),
    "no recipient": ({"recipient": None}, ("confirmation",)),
    "another destination": ({"destination": "https://other.example/acs"}, ("destination",)),
    "a destination that begins alike": ({"destination": f"{ACS}B"}, ("destination",)),
    "no destination": ({"destination": None}, ("destination",)),
    "an empty destination": ({"destination": ""}, ("destination", "malformed")),
    "another issuer": ({"issuer": "https://evil.example"}, ("issuer",)),
    "another issuer of the response": ({"response_issuer": "https://evil.example"}, ("issuer",)),
    "no issuer": ({"issuer": None}, ("issuer", "malformed", "signature_form")),
    "another request": ({"in_response_to": "_other"}, ("in_response_to",)),
    "no request": ({"in_response_to": None}, ("in_response_to",)),
    "another confirmed request": ({"confirmed_request": "_other"}, ("in_response_to", "confirmation")),
    "no confirmed request": ({"confirmed_request": None}, ("in_response_to",)),
    "no request anywhere": ({"in_response_to": None, "confirmed_request": None}, ("in_response_to",)),
    "expired": ({"not_on_or_after": timedelta(hours=-1)}, ("expired",)),
    "the confirmation expired": ({"confirmed_until": timedelta(minutes=-10)}, ("confirmation", "expired")),
    "no end of the confirmation": ({"confirmed_until": None}, ("confirmation",)),
    "the session is over": ({"session_until": timedelta(hours=-1)}, ("expired",)),
    "not yet valid": ({"not_before": timedelta(minutes=20)}, ("early",)),
    "issued long ago": (
        {"issued": LONG_AGO, "not_on_or_after": timedelta(hours=2), "confirmed_until": timedelta(hours=2)},
        ("expired",),
    ),
    "an assertion of long ago": ({"assertion_issued": LONG_AGO}, ("expired",)),
    "issued in the future": ({"issued": datetime.now(UTC) + timedelta(hours=1), "not_before": None}, ("early",)),
    "valid for too long": ({"not_on_or_after": TOO_LONG}, ("lifetime",)),
    "confirmed for too long": ({"confirmed_until": TOO_LONG}, ("lifetime",)),
    "not a success": ({"status": "urn:oasis:names:tc:SAML:2.0:status:Requester"}, ("status",)),
    "another confirmation method": ({"method": "urn:oasis:names:tc:SAML:2.0:cm:sender-vouches"}, ("confirmation",)),
    "two confirmations": ({"confirmations": 2}, ("confirmation",)),
    "no confirmation": ({"confirmations": 0}, ("confirmation",)),
    "no NameID": ({"name_id": None}, ("subject",)),
    "an empty NameID": ({"name_id": ""}, ("subject",)),
    "a NameID for another service": ({"sp_name_qualifier": "https://other.example"}, ("subject",)),
    "two addresses": ({"attributes": {"mail": [ROBIN, BOSS]}}, ("email",)),
    "no address": ({"name_id": "7f3a", "name_id_format": fake.PERSISTENT, "attributes": {}}, ("email",)),
    "an address that is none": ({"attributes": {"mail": ["robin"]}}, ("email",)),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES, ids=list(LIES))
@pytest.mark.parametrize("whole", [False, True], ids=["assertion signed", "response signed"])
def test_a_lie_under_a_good_signature_is_refused(lie: str, whole: bool, sp: ServiceProvider) -> None:
    changes, reasons = LIES[lie]
    refused(IDP.respond(says(**changes), sign_assertion=not whole, sign_response=whole), sp, *reasons)


def test_a_condition_that_is_not_understood_is_refused(sp: ServiceProvider) -> None:
    refused(IDP.respond(says(extra_condition="DelegationRestriction")), sp, "conditions", "malformed")


# ── Hostile ones: how they are signed ────────────────────────────────────────────────────────────────────────────────
def test_an_unsigned_answer_is_refused(sp: ServiceProvider) -> None:
    refused(IDP.respond(says(), sign_assertion=False), sp, "unsigned")


@pytest.mark.parametrize("whole", [False, True], ids=["assertion signed", "response signed"])
def test_a_stripped_signature_is_refused(whole: bool, sp: ServiceProvider) -> None:
    tree = IDP.tree(says(), sign_assertion=not whole, sign_response=whole)
    for signature in tree.findall(".//ds:Signature", fake.NAMES):
        signature.getparent().remove(signature)
    refused(fake.encoded(tree), sp, "unsigned")


@pytest.mark.parametrize("name,whole,attack", attacks.WRAPPINGS, ids=[name for name, *_rest in attacks.WRAPPINGS])
def test_a_wrapped_signature_is_refused(name: str, whole: bool, attack: attacks.Attack, sp: ServiceProvider) -> None:
    honest = IDP.tree(says(), sign_assertion=not whole, sign_response=whole)
    assert read(fake.encoded(honest), sp).email == ROBIN
    refused(fake.encoded(attack(honest, BOSS)), sp, "signature_form", "assertions", "signature", "malformed")


def test_a_foreign_key_is_refused(sp: ServiceProvider) -> None:
    foreign = fake.IdentityProvider(keys=fake.pair("foreign"))
    for how in ({}, {"sign_assertion": False, "sign_response": True}):
        refused(foreign.respond(says(), **how), sp, "signature")


def test_the_certificate_as_a_shared_secret_is_refused(sp: ServiceProvider) -> None:
    refused(IDP.respond(says(), method=Transform.TransformHmacSha256, hmac=True), sp, "algorithm")


@pytest.mark.parametrize(
    "how",
    [{"method": Transform.TransformRsaSha1}, {"digest": Transform.TransformSha1}],
    ids=["signature", "digest"],
)
def test_sha1_is_refused(how: dict[str, Any], sp: ServiceProvider) -> None:
    refused(IDP.respond(says(), **how), sp, "algorithm")


@pytest.mark.parametrize(
    "how",
    [
        {"transforms": [Transform.TransformEnveloped, Transform.TransformExclC14N, Transform.TransformExclC14N]},
        {"transforms": [Transform.TransformEnveloped, Transform.TransformInclC14N]},
        {"transforms": [Transform.TransformExclC14N]},
        {"xpath": "not(ancestor-or-self::*[local-name()='AttributeStatement'])"},
    ],
    ids=["one too many", "inclusive", "not enveloped", "xpath"],
)
def test_other_transforms_are_refused(how: dict[str, Any], sp: ServiceProvider) -> None:
    refused(IDP.respond(says(), **how), sp, "signature_form")


def test_content_changed_after_signing_is_refused(sp: ServiceProvider) -> None:
    for whole in (False, True):
        tree = IDP.tree(says(), sign_assertion=not whole, sign_response=whole)
        tree.find(".//saml:NameID", fake.NAMES).text = BOSS
        refused(fake.encoded(tree), sp, "signature")


def test_a_signed_assertion_in_somebody_else_s_envelope_is_refused(sp: ServiceProvider) -> None:
    """The envelope is not signed, so whoever holds an old assertion can write a new one around it."""
    old = says(in_response_to="_old", confirmed_request="_old")
    tree = IDP.tree(old)
    tree.set("InResponseTo", REQUEST)
    refused(fake.encoded(tree), sp, "in_response_to", "confirmation")


def _two_references(tree: Any) -> None:
    info = tree.find(".//ds:SignedInfo", fake.NAMES)
    info.append(etree.fromstring(etree.tostring(info.find("ds:Reference", fake.NAMES))))


def _reference_to_all(tree: Any) -> None:
    tree.find(".//ds:Reference", fake.NAMES).set("URI", "")


def _same_ids(tree: Any) -> None:
    tree.set("ID", "_assertion")


def _signature_elsewhere(tree: Any) -> None:
    tree.find(".//saml:Subject", fake.NAMES).append(tree.find(".//ds:Signature", fake.NAMES))


@pytest.mark.parametrize("change", [_two_references, _reference_to_all, _same_ids, _signature_elsewhere])
def test_a_signature_of_another_form_is_refused(change: Callable[[Any], None], sp: ServiceProvider) -> None:
    tree = IDP.tree(says())
    change(tree)
    refused(fake.encoded(tree), sp, "signature_form")


# ── Hostile ones: the document ───────────────────────────────────────────────────────────────────────────────────────
def _raw(change: Callable[[bytes], bytes]) -> str:
    return base64.b64encode(change(etree.tostring(IDP.tree(says())))).decode()


FILE = b'<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
BOMB = b'<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'

DOCUMENTS: dict[str, Callable[[bytes], bytes]] = {
    "a comment in the NameID": lambda xml: xml.replace(b">robin@", b">robin<!-- x -->@"),
    "a comment that cuts the address": lambda xml: xml.replace(b"acme.example<", b"acme.example<!-- -->.evil.example<"),
    "a processing instruction": lambda xml: xml.replace(b">robin@", b"><?x y?>robin@"),
    "an external entity": lambda xml: FILE + xml.replace(b"robin@", b"&x;@"),
    "a parameter entity": lambda xml: b'<!DOCTYPE r [<!ENTITY % x SYSTEM "http://127.0.0.1:1/x"> %x;]>' + xml,
    "an entity bomb": lambda xml: BOMB + xml.replace(b"robin@", b"&b;@"),
    "a document type": lambda xml: b"<!DOCTYPE Response>" + xml,
    "an encoding that hides": lambda xml: b'<?xml version="1.0" encoding="UTF-7"?>' + xml,
    "sixteen bits": lambda xml: xml.decode().encode("utf-16"),
    "no XML": lambda xml: b"SAML",
    "nothing": lambda xml: b"",
    "half of it": lambda xml: xml[: len(xml) // 2],
    "another message": lambda xml: xml.replace(b"Response", b"LogoutResponse"),
    "another version": lambda xml: xml.replace(b'Version="2.0"', b'Version="1.1"', 1),
}  # fmt: skip


@pytest.mark.parametrize("name", DOCUMENTS, ids=list(DOCUMENTS))
def test_a_document_of_another_form_is_refused(name: str, sp: ServiceProvider) -> None:
    refused(_raw(DOCUMENTS[name]), sp, "malformed")


@pytest.mark.parametrize("message", ["%%%", "é", "=" * 9], ids=["signs", "letters", "padding"])
def test_what_is_not_base64_is_refused(message: str, sp: ServiceProvider) -> None:
    refused(message, sp, "malformed")


def test_what_is_too_large_is_refused(sp: ServiceProvider) -> None:
    refused("A" * 1_000_000, sp, "too_large")


# ── Hostile ones: what is encrypted ──────────────────────────────────────────────────────────────────────────────────
def test_an_assertion_for_another_key_is_refused(sp: ServiceProvider) -> None:
    refused(IDP.respond_encrypted(says(), fake.pair("foreign").certificate), sp, "encryption")


def test_an_unsigned_encrypted_assertion_is_refused(sp: ServiceProvider) -> None:
    refused(IDP.respond_encrypted(says(), sp.certificate.encode(), sign_assertion=False), sp, "unsigned")


def test_old_key_transport_is_refused(sp: ServiceProvider) -> None:
    message = IDP.respond_encrypted(says(), sp.certificate.encode(), transport=Transform.TransformRsaPkcs1)
    refused(message, sp, "algorithm")


def test_a_comment_inside_the_encrypted_part_is_refused(sp: ServiceProvider) -> None:
    inner = fake.sign(fake.assertion(says()), IDP.keys)
    name = inner.find(".//saml:NameID", fake.NAMES)
    name.text, _rest = "robin", name.append(etree.Comment("x"))
    name[0].tail = "@acme.example"
    message = IDP.respond_encrypted(says(), sp.certificate.encode(), sign_assertion=False, inner=inner)
    refused(message, sp, "malformed")

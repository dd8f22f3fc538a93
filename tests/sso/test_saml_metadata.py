"""Metadata of identity providers that is pasted or fetched, our own, and the request that follows from both."""

from __future__ import annotations

import base64
import zlib
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from django.test import override_settings
from lxml import etree
from onelogin.saml2.settings import OneLogin_Saml2_Settings

from core.errors import InvalidRequest
from sso.saml import metadata, request
from sso.saml.parties import KeyPair, ServiceProvider
from tests.fakes import identity_provider as fake

SP_ENTITY = "https://hypereal.example/api/auth/sso/AAAAAAAAAAAAAAAAAAAAAA/metadata"
ACS = "https://hypereal.example/api/auth/sso/AAAAAAAAAAAAAAAAAAAAAA"
IDP = fake.IdentityProvider()
LOOPBACK = ["identity_provider=127.0.0.1:8080"]


@pytest.fixture(scope="module")
def sp() -> ServiceProvider:
    keys = KeyPair.new("test")
    return ServiceProvider(SP_ENTITY, ACS, keys.private_key, keys.certificate)


def read(text: str, **rest: Any) -> Any:
    return metadata.read(text.encode(), **rest)


def refused(text: str | bytes, words: str, **rest: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        metadata.read(text if isinstance(text, bytes) else text.encode(), **rest)
    assert words in caught.value.message
    assert caught.value.param == "metadataXml"


# ── Theirs ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_what_is_needed_is_read() -> None:
    found = read(IDP.metadata())
    assert (found.entity_id, found.sso_url, found.sign_requests) == (IDP.entity_id, IDP.sso_url, False)
    assert [text.strip() for text in found.certificates] == [IDP.keys.certificate.decode().strip()]


def test_signed_requests_are_wanted_where_it_says_so() -> None:
    assert read(IDP.metadata(want_signed=True)).sign_requests


def test_all_signing_certificates_are_kept_once() -> None:
    text = IDP.metadata(certificates=[fake.pair(), fake.pair("new"), fake.pair()])
    assert len(read(text).certificates) == 2


def test_a_certificate_for_encryption_signs_nothing() -> None:
    root = etree.fromstring(IDP.metadata(certificates=[]).encode())
    root[0].insert(0, fake.key_descriptor(fake.pair("other"), use="encryption"))
    refused(etree.tostring(root), "no certificate for signing")
    root[0].insert(0, fake.key_descriptor(fake.pair(), use=None))
    assert len(metadata.read(etree.tostring(root)).certificates) == 1


def test_comments_that_people_write_do_no_harm() -> None:
    assert read(f"<!-- ours -->\n{IDP.metadata()}").entity_id == IDP.entity_id


def test_several_providers_need_a_choice() -> None:
    other = fake.IdentityProvider(entity_id="https://idp.other.example")
    several = f'<md:EntitiesDescriptor xmlns:md="{fake.MD}">{IDP.metadata()}{other.metadata()}</md:EntitiesDescriptor>'
    refused(several, "several identity providers")
    assert read(several, entity_id=other.entity_id).entity_id == other.entity_id


def test_the_name_format_is_asked_for_that_the_provider_offers_first() -> None:
    root = etree.fromstring(IDP.metadata().encode())
    assert read(IDP.metadata()).name_id_format == ""
    for form in (fake.TRANSIENT, fake.PERSISTENT, fake.EMAIL):
        root[0].insert(len(root[0]) - 1, fake.node("md", "NameIDFormat", form))
    assert metadata.read(etree.tostring(root)).name_id_format == fake.PERSISTENT


@pytest.mark.parametrize(
    "text,words",
    [
        ("", "not well-formed"),
        ("<x/>", "no SAML 2.0 identity provider"),
        ("{}", "not well-formed"),
        ('<!DOCTYPE x SYSTEM "file:///etc/passwd"><x/>', "document type"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>', "document type"),
        (f"<x>{'a' * 500_001}</x>", "larger than 500 kB"),
        (IDP.metadata(certificates=[]), "no certificate for signing"),
        (IDP.metadata().replace("HTTP-Redirect", "SOAP"), "HTTP-Redirect"),
        (IDP.metadata().replace("HTTP-Redirect", "HTTP-POST"), "POST only"),
        (IDP.metadata().replace(IDP.keys.certificate_body, "AAAA"), "certificate in the metadata can't be read"),
        (IDP.metadata().replace(IDP.keys.certificate_body, "%%%"), "certificate in the metadata can't be read"),
        (IDP.metadata().replace(f'entityID="{IDP.entity_id}"', ""), "entityID is missing"),
        (IDP.metadata().replace("SAML:2.0:protocol", "SAML:1.1:protocol"), "no SAML 2.0 identity provider"),
        (IDP.metadata().replace("IDPSSODescriptor", "SPSSODescriptor"), "no SAML 2.0 identity provider"),
        (IDP.metadata().replace("https://idp.acme.example/sso", "http://idp.acme.example/sso"), "begin with https"),
        (IDP.metadata().replace("https://idp.acme.example/sso", "javascript:alert(1)"), "not a valid URL"),
        (IDP.metadata().replace("https://idp.acme.example/sso", "https://u:p@idp.acme.example/"), "not a valid URL"),
        (IDP.metadata().replace("https://idp.acme.example/sso", "//idp.acme.example/"), "not a valid URL"),
    ],
    ids=[
        "nothing", "no metadata", "JSON", "document type", "entity", "too large", "no certificate", "no redirect",
        "post binding", "a bad certificate", "no base64", "no entity id", "SAML 1", "a service", "plain http",
        "javascript", "a password in the address", "no scheme",
    ],
)  # fmt: skip
def test_other_documents_are_refused(text: str, words: str) -> None:
    refused(text, words)


def test_plain_http_is_for_hosts_that_the_operator_allows() -> None:
    text = IDP.metadata().replace("https://idp.acme.example/sso", "http://127.0.0.1:8080/saml")
    refused(text, "begin with https")
    with override_settings(EGRESS_ALLOW=LOOPBACK):
        assert read(text).sso_url.startswith("http://127.0.0.1:8080/saml")
        refused(text.replace("8080", "8081"), "begin with https")


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/m", "https://127.0.0.1/m", "file:///etc/passwd", "https://[::1]/m"]
)
def test_metadata_is_fetched_through_the_guard(url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        metadata.fetch(url)
    assert caught.value.param == "metadataUrl"


# ── Ours ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_our_metadata_is_valid_and_has_both_keys(sp: ServiceProvider) -> None:
    document = metadata.of_service(sp, sign_requests=True)
    checker = OneLogin_Saml2_Settings(
        {"sp": {"entityId": SP_ENTITY, "assertionConsumerService": {"url": ACS}}}, None, True
    )
    assert checker.validate_metadata(document) == []
    root = etree.fromstring(document)
    assert root.get("entityID") == SP_ENTITY
    assert [node.get("use") for node in root.iter(f"{{{fake.MD}}}KeyDescriptor")] == ["signing", "encryption"]
    assert root.find(".//md:AssertionConsumerService", fake.NAMES).get("Location") == ACS
    assert b"PRIVATE" not in document


# ── The request ──────────────────────────────────────────────────────────────────────────────────────────────────────
def sent(sp: ServiceProvider, **changes: Any) -> tuple[str, dict[str, list[str]], Any]:
    provider = read(IDP.metadata(**changes))
    url = request.address(provider, sp, request_id="_request", relay_state="state&with=signs")
    query = parse_qs(urlsplit(url).query)
    return url, query, etree.fromstring(zlib.decompress(base64.b64decode(query["SAMLRequest"][0]), -15))


def test_the_request_says_who_asks_and_where_to_answer(sp: ServiceProvider) -> None:
    url, query, document = sent(sp)
    assert url.startswith(f"{IDP.sso_url}&SAMLRequest=")
    assert query["RelayState"] == ["state&with=signs"]
    assert "Signature" not in query
    assert document.get("ID") == "_request"
    assert document.get("Destination") == IDP.sso_url
    assert document.get("AssertionConsumerServiceURL") == ACS
    assert document.findtext("saml:Issuer", None, fake.NAMES) == SP_ENTITY


def test_the_request_is_signed_where_the_provider_wants_it(sp: ServiceProvider) -> None:
    url, query, _document = sent(sp, want_signed=True)
    signed = url.partition("SAMLRequest=")[2].partition("&Signature=")[0]
    key = x509.load_pem_x509_certificate(sp.certificate.encode()).public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    signature = base64.b64decode(query["Signature"][0])
    key.verify(signature, f"SAMLRequest={signed}".encode(), padding.PKCS1v15(), hashes.SHA256())


def test_ids_are_names_that_xml_takes_and_nobody_guesses() -> None:
    made = {request.new_id() for _number in range(50)}
    assert len(made) == 50
    assert all(identifier[0] == "_" and len(identifier) == 43 for identifier in made)


def test_a_private_key_does_not_show(sp: ServiceProvider) -> None:
    assert "PRIVATE" not in repr(sp)
    assert "PRIVATE" not in repr(KeyPair.new("x"))

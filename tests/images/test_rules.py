"""Every picture model of the catalog × every rule broken: 400 with ``param``, nothing reserved (C-IMG-3, C-IMG-4)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from catalog import source
from catalog.media import MediaRules, parse
from catalog.pricing import Rates
from tests.fakes import upstream as fake
from tests.images.provider import B64, PICTURE, ask, draws, serve
from tests.support.gateway import CREDIT, Caller, Gateway

MODELS = {model.slug: model for model in source.read().models.values() if "images" in model.endpoints}
DATA_URL = f"data:image/png;base64,{B64}"
HTTPS = "https://example.com/a.png"


def broken(rules: MediaRules) -> Iterator[tuple[str, dict[str, Any], str]]:
    """A name for each rule, members that break it, and the member that is to be named."""
    yield "no prompt", {"prompt": "  "}, "prompt"
    yield "long prompt", {"prompt": "x" * 40_000}, "prompt"
    yield "n no number", {"n": "two"}, "n"
    yield "n a fraction", {"n": 1.5}, "n"
    yield "size not offered", {"size": "640x481"}, "size"
    yield "size no size", {"size": "large"}, "size"
    yield "ratio not offered", {"aspect_ratio": "5:7"}, "aspect_ratio"
    yield "resolution not offered", {"resolution": "16K"}, "resolution"
    if rules.qualities:
        yield "quality not offered", {"quality": "ultra"}, "quality"
    yield "format of the answer", {"response_format": "gif"}, "response_format"
    yield "format of the picture", {"output_format": "bmp"}, "output_format"
    yield "stream", {"stream": True}, "stream"
    yield "partial images", {"partial_images": 1}, "partial_images"
    yield "no URL", {"image": 5}, "image"
    yield "other scheme", {"image_urls": ["http://example.com/a.png"]}, "image_urls"
    yield "no picture", {"image_urls": ["data:text/html;base64,PGI+"]}, "image_urls"
    yield "mask alone", {"mask": HTTPS}, "mask"
    if rules.references is None:
        yield "no references", {"reference_images": [HTTPS]}, "reference_images"
    else:
        many = [HTTPS] * (rules.references.maximum + 1)
        yield "too many references", {"reference_images": many}, "reference_images"
        if "data" not in rules.references.kinds:
            yield "base64", {"reference_images": [DATA_URL]}, "reference_images"
    if rules.sizes and "16:9" in rules.aspect_ratios:
        yield "size against ratio", {"size": rules.sizes[0][0], "aspect_ratio": "16:9"}, "aspect_ratio"
    others = [name for name, tier in rules.resolutions if rules.sizes and tier != rules.sizes[0][1]]
    if others:
        yield "size against resolution", {"size": rules.sizes[0][0], "resolution": others[0]}, "resolution"


def accepted(rules: MediaRules) -> Iterator[tuple[dict[str, Any], str]]:
    """Everything that a model offers, choice by choice, and its price tier."""
    yield {}, rules.tier() or ""
    yield {"size": "auto", "n": 1}, rules.tier() or ""
    for size, tier in rules.sizes:
        yield {"size": size}, tier
    for ratio in rules.aspect_ratios:
        yield {"aspect_ratio": ratio}, rules.tier() or ""
    for resolution, tier in rules.resolutions:
        yield {"resolution": resolution}, tier
        yield {"resolution": resolution.lower()}, tier
    for quality, _ in rules.qualities:
        yield {"quality": quality}, rules.at_quality(rules.tier() or "", quality)
    if rules.qualities:
        yield {"quality": "auto"}, rules.at_quality(rules.tier() or "")
        yield {"quality": "standard"}, rules.at_quality(rules.tier() or "", "medium")
    if rules.references is not None:
        yield {"image_urls": [HTTPS] * rules.references.maximum}, rules.tier() or ""
        if "data" in rules.references.kinds:
            yield {"image": DATA_URL}, rules.tier() or ""


@pytest.fixture(scope="module")
def served(_gateway_session: Gateway, django_db_blocker: Any) -> Any:
    """Each of the catalog's models under a name of its own, served by a provider that always draws."""
    with _gateway_session.connected(django_db_blocker):
        names: dict[str, str] = {}
        route = _gateway_session.upstream.serve(draws())
        for slug, model in MODELS.items():
            rules = parse(model.media)
            rates = Rates(unit="image", unit_prices=tuple((tier, _price(tier)) for tier in sorted(rules.tiers)))
            columns: dict[str, Any] = {"max_output_tokens": None, "default_max_output_tokens": None}
            names[slug] = _gateway_session.new_model(route, kind="images", media=model.media, rates=rates, **columns)
        _gateway_session.until_known(list(names.values())[-1])
        return names, route


def _price(tier: str) -> int:
    """A price for each tier that no other has."""
    return (sum(tier.encode()) % 97 + 1) * CREDIT


def refused(caller: Caller, model: str, fields: dict[str, Any]) -> Any:
    reply = ask(caller, model, **fields)
    assert reply.status == 400, (fields, reply.body)
    assert reply.error["type"] == "invalid_request_error"
    return reply.error["param"]


@pytest.mark.parametrize("slug", sorted(MODELS))
def test_a_broken_rule_names_its_member_and_reserves_nothing(gateway: Gateway, served: Any, slug: str) -> None:
    names, route = served
    caller, before = gateway.caller(), route.calls
    rules = list(broken(parse(MODELS[slug].media)))
    found = {name: refused(caller, names[slug], fields) for name, fields, _ in rules}
    assert found == {name: param for name, _, param in rules}
    books = caller.settled_books(len(rules))
    assert (books.holds, books.charged, books.balance) == ([], 0, 1000 * CREDIT)
    assert {row["status"] for row in books.log} == {400}
    assert route.calls == before


@pytest.mark.parametrize("slug", sorted(MODELS))
def test_what_is_offered_is_quoted_at_its_tier(gateway: Gateway, served: Any, slug: str) -> None:
    caller, name = gateway.caller(0), served[0][slug]
    for fields, tier in accepted(parse(MODELS[slug].media)):
        body = {"model": name, "prompt": "a red fox", "n": 2, **fields}
        quote = caller.send("POST", "/v1/quote", body).json
        assert quote["tier"] == tier, (fields, quote)
        assert quote["reservation_credits"] == quote["units"] * _price(tier) // CREDIT


SSRF = {
    "loopback": "https://127.0.0.1/a.png",
    "loopback-name": "https://localhost/a.png",
    "private-10": "https://10.1.2.3/a.png",
    "private-172": "https://172.16.0.1/a.png",
    "private-192": "https://192.168.1.1/a.png",
    "link-local": "https://169.254.10.10/a.png",
    "metadata": "https://169.254.169.254/latest/meta-data/",
    "carrier-grade": "https://100.64.0.1/a.png",
    "zero": "https://0.0.0.0/a.png",
    "decimal": "https://2130706433/a.png",
    "octal": "https://0177.0.0.1/a.png",
    "hexadecimal": "https://0x7f000001/a.png",
    "short": "https://127.1/a.png",
    "ipv6-loopback": "https://[::1]/a.png",
    "ipv6-local": "https://[fd00::1]/a.png",
    "ipv6-link-local": "https://[fe80::1]/a.png",
    "ipv4-mapped": "https://[::ffff:169.254.169.254]/a.png",
    "other-port": "https://8.8.8.8:8443/a.png",
    "user-info": "https://user:word@8.8.8.8/a.png",
    "plain-http": "http://8.8.8.8/a.png",
    "file": "file:///etc/passwd",
    "gopher": "gopher://8.8.8.8/",
    "ftp": "ftp://8.8.8.8/a.png",
    "no-scheme": "//8.8.8.8/a.png",
    "bare": "8.8.8.8/a.png",
    "control-character": "https://8.8.8.8/\r\nx: y",
    "backslash": "https://8.8.8.8\\@127.0.0.1/a.png",
}


@pytest.mark.parametrize("member", ["image", "reference_images", "image_urls", "mask"])
@pytest.mark.parametrize("name", sorted(SSRF))
def test_a_reference_that_is_not_public_https_is_refused(gateway: Gateway, served: Any, name: str, member: str) -> None:
    names, route = served
    caller, before = gateway.caller(), route.calls
    fields: dict[str, Any] = {member: SSRF[name]}
    if member == "mask":
        fields["image"] = DATA_URL
    assert refused(caller, names["gpt-4o-image"], fields) == member
    books = caller.settled_books()
    assert (books.holds, books.charged) == ([], 0)
    assert route.calls == before


def test_a_reference_that_can_not_be_read_is_refunded(gateway: Gateway, served: Any) -> None:
    """Its name resolves to nothing: who fetches it finds out, and nobody pays."""
    caller = gateway.caller()
    reply = ask(caller, served[0]["gpt-4o-image"], image_urls=["https://nowhere.invalid/a.png"])
    assert (reply.status, reply.error["param"]) == (400, "image_urls")
    books = caller.settled_books()
    assert (books.charged, books.held) == (0, 0)


def test_references_are_read_once_for_all_targets(gateway: Gateway) -> None:
    """Two targets that need the bytes of one data URL: the second gets them too."""
    lock, seen = threading.Lock(), []

    def noted(behaviour: Any) -> Any:
        async def behave(talk: Any) -> None:
            with lock:
                seen.append(PICTURE in talk.body)
            await behaviour(talk)

        return behave

    model, caller = serve(gateway, noted(fake.fails(403, "no")), noted(draws(1))), gateway.caller()
    assert ask(caller, model, image=DATA_URL).status == 200
    assert seen == [True, True]

"""What a call for pictures looks like to its caller and to its provider (C-IMG-1, C-IMG-3, C-PLUS-1)."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from catalog.pricing import Rates
from storage.models import StoredObject
from storage.objects import open_bytes
from tests.fakes.upstream import Conversation
from tests.images.provider import B64, MEDIA, PICTURE, USAGE, ask, draws, gemini, serve
from tests.support import http
from tests.support.gateway import CREDIT, Caller, Gateway

DATA_URL = f"data:image/png;base64,{B64}"
GEMINI_MEDIA: dict[str, Any] = {
    "aspect_ratios": ["1:1", "16:9"],
    "default_aspect_ratio": "1:1",
    "resolutions": {"0.5K": "0.5K", "1K": "1K", "2K": "2K"},
    "default_resolution": "1K",
    "references": {"kinds": ["https", "data"], "max": 4},
}
GEMINI_RATES = Rates(unit="image", unit_prices=(("0.5K", 4 * CREDIT), ("1K", 8 * CREDIT), ("2K", 16 * CREDIT)))


@pytest.fixture
def caller(gateway: Gateway) -> Caller:
    return gateway.caller()


@pytest.fixture
def sdk(caller: Caller) -> Iterator[openai.OpenAI]:
    base_url = f"http://127.0.0.1:{caller.port}/api/v1"
    with openai.OpenAI(api_key=caller.secret, base_url=base_url, max_retries=0, timeout=90) as client:
        yield client


def stored(url: str) -> bytes:
    """What lies at a signed address, which any face of the site would serve."""
    row = StoredObject.objects.get(pk=_object_id(url))
    assert row.content_type == "image/png"
    with open_bytes(row) as file:
        return file.read()


def _object_id(url: str) -> Any:
    name = url.rsplit("/", 1)[1]
    return StoredObject.objects.filter(filename=name).latest("id").pk


def test_the_official_sdk_generates(gateway: Gateway, sdk: openai.OpenAI, caller: Caller) -> None:
    model = serve(gateway, draws())
    made = sdk.images.generate(model=model, prompt="a red fox", n=2, size="1536x1024")
    assert made.created
    assert made.data is not None
    assert [item.b64_json for item in made.data] == [None, None]
    urls = [item.url or "" for item in made.data]
    assert all(url.startswith("http") for url in urls)
    assert [stored(url) for url in urls] == [PICTURE, PICTURE]
    assert made.usage is not None
    assert made.usage.total_tokens == USAGE["total_tokens"]
    assert caller.settled_books().charged == 16 * CREDIT


def test_base64_where_it_is_asked_for(gateway: Gateway, sdk: openai.OpenAI) -> None:
    made = sdk.images.generate(model=serve(gateway, draws()), prompt="a red fox", response_format="b64_json")
    assert made.data is not None
    assert made.data[0].b64_json is not None
    assert base64.b64decode(made.data[0].b64_json) == PICTURE


def test_an_address_of_the_provider_is_copied(gateway: Gateway, caller: Caller) -> None:
    async def behave(talk: Conversation) -> None:
        if talk.seen.path.endswith("/file.png"):
            await talk.json(PICTURE, headers={"content-type": "image/png"})
        else:
            await talk.json({"created": 1, "data": [{"url": f"{route.base_url}/file.png"}]})

    route = gateway.upstream.serve(behave)
    model = serve(gateway, route)
    url = ask(caller, model).json["data"][0]["url"]
    assert route.base_url not in url
    assert stored(url) == PICTURE
    inline = ask(caller, model, response_format="b64_json").json["data"][0]
    assert inline == {"b64_json": B64}


def test_an_address_that_can_not_be_read_goes_out_as_it_is(gateway: Gateway, caller: Caller) -> None:
    async def behave(talk: Conversation) -> None:
        await talk.json({"created": 1, "data": [{"url": "https://10.0.0.9/private.png"}]})

    reply = ask(caller, serve(gateway, behave), response_format="b64_json")
    assert reply.json["data"] == [{"url": "https://10.0.0.9/private.png"}]
    assert caller.settled_books().charged == 8 * CREDIT


def test_what_the_provider_sees(gateway: Gateway, caller: Caller) -> None:
    route = gateway.upstream.serve(draws())
    model = serve(gateway, route)
    reply = ask(caller, model, quality="low", background="transparent", user="u1", hypereal={"x": 1}, seed=7)
    assert reply.status == 200
    assert route.seen[0].path.endswith("/images/generations")
    assert route.seen[0].body == {
        "model": f"up-{model}", "prompt": "a red fox", "n": 1, "size": "1024x1024", "quality": "low",
        "background": "transparent", "user": "u1", "seed": 7,
    }  # fmt: skip
    assert reply.json["quality"] == "medium"
    assert caller.secret not in str(route.seen[0].headers)


def test_a_quality_that_costs_more_has_its_own_price(gateway: Gateway, caller: Caller) -> None:
    route = gateway.upstream.serve(draws())
    media = {**MEDIA, "sizes": {"1024x1024": "1K"}, "qualities": {"low": "", "medium": "", "high": "high"}}
    rates = Rates(unit="image", unit_prices=(("1K", 8 * CREDIT), ("1K high", 28 * CREDIT)))
    model = serve(gateway, route, media={**media, "default_quality": "medium"}, rates=rates)
    for asked, sent, paid in (({}, "medium", "8"), ({"quality": "hd"}, "high", "28"), ({"quality": "low"}, "low", "8")):
        reply = ask(caller, model, **asked)
        assert (reply.headers["x-hypereal-credits"], route.seen[-1].body["quality"]) == (paid, sent)


def test_the_official_sdk_edits(gateway: Gateway, sdk: openai.OpenAI, caller: Caller) -> None:
    route = gateway.upstream.serve(draws(2))
    model = serve(gateway, route)
    pictures = [("a.png", PICTURE, "image/png"), ("b.png", PICTURE, "image/png")]
    made = sdk.images.edit(model=model, prompt="at night", image=pictures, mask=io.BytesIO(PICTURE), n=2)
    assert made.data is not None
    assert len(made.data) == 2
    seen = route.seen[0]
    assert seen.path.endswith("/images/edits")
    assert seen.body.count(PICTURE) == 3
    for part in (b'name="image[]"', b'name="mask"', b'name="prompt"\r\n\r\nat night', b'name="n"\r\n\r\n2'):
        assert part in seen.body
    assert f'name="model"\r\n\r\nup-{model}'.encode() in seen.body
    assert caller.settled_books().charged == 16 * CREDIT


def test_one_picture_is_edited_alone(gateway: Gateway, sdk: openai.OpenAI) -> None:
    route = gateway.upstream.serve(draws(1))
    sdk.images.edit(model=serve(gateway, route), prompt="at night", image=("a.png", PICTURE, "image/png"))
    assert b'name="image"' in route.seen[0].body
    assert b"image[]" not in route.seen[0].body


def test_an_edit_needs_a_picture(gateway: Gateway, caller: Caller) -> None:
    model = serve(gateway, draws())
    reply = ask(caller, model, path="/v1/images/edits")
    assert (reply.status, reply.error["param"]) == (400, "image")


@pytest.mark.parametrize("member", ["image", "reference_images", "image_urls", "images"])
def test_a_reference_makes_it_image_to_image(gateway: Gateway, caller: Caller, member: str) -> None:
    route = gateway.upstream.serve(draws(1))
    value: Any = DATA_URL if member == "image" else [{"image_url": DATA_URL}, DATA_URL]
    assert ask(caller, serve(gateway, route), **{member: value}).status == 200
    assert route.seen[0].path.endswith("/images/edits")
    assert PICTURE in route.seen[0].body


def test_a_provider_that_takes_json_gets_references_as_urls(gateway: Gateway, caller: Caller) -> None:
    route = gateway.upstream.serve(draws(1))
    slug = serve(gateway, route, options={"images": "json-singly"})
    reply = ask(caller, slug, n=2, image_urls=[DATA_URL, "https://example.com/a.png"])
    assert (reply.status, len(reply.json["data"])) == (200, 2)
    assert [seen.body["n"] for seen in route.seen] == [1, 1]
    assert route.seen[0].body["image"] == [DATA_URL, "https://example.com/a.png"]


def test_huge_pictures_come_one_by_one(gateway: Gateway, caller: Caller) -> None:
    """Several of them in one answer would be more than an answer may be."""
    route = gateway.upstream.serve(draws())
    reply = ask(caller, serve(gateway, route), n=3, size="4096x4096")
    assert (reply.status, len(reply.json["data"])) == (200, 3)
    assert [seen.body["n"] for seen in route.seen] == [1, 1, 1]
    assert caller.settled_books().charged == 96 * CREDIT


def test_what_google_sees(gateway: Gateway, caller: Caller) -> None:
    route = gateway.upstream.serve(gemini())
    model = serve(gateway, route, adapter="gemini", media=GEMINI_MEDIA, rates=GEMINI_RATES)
    reply = ask(caller, model, aspect_ratio="16:9", resolution="0.5k", image_urls=[DATA_URL], n=2)
    assert (reply.status, len(reply.json["data"]), route.calls) == (200, 2, 2)
    assert route.seen[0].path.endswith(f"/v1beta/models/up-{model}:generateContent")
    assert route.seen[0].headers["x-goog-api-key"]
    assert route.seen[0].body == {
        "contents": [
            {"role": "user", "parts": [{"text": "a red fox"}, {"inlineData": {"mimeType": "image/png", "data": B64}}]}
        ],
        "generationConfig": {
            "responseModalities": ["IMAGE"],
            "imageConfig": {"aspectRatio": "16:9", "imageSize": "512"},
        },
    }
    assert caller.settled_books().charged == 8 * CREDIT


@pytest.mark.parametrize("reason", ["IMAGE_SAFETY", "PROHIBITED_CONTENT", "SAFETY"])
def test_google_refuses_the_content(gateway: Gateway, caller: Caller, reason: str) -> None:
    model = serve(gateway, gemini(reason), adapter="gemini", media=GEMINI_MEDIA, rates=GEMINI_RATES)
    reply = ask(caller, model, n=2)
    assert (reply.status, reply.error["code"]) == (400, "content_policy_violation")
    assert caller.settled_books().charged == 0


def test_no_picture_without_a_reason_is_the_providers_failure(gateway: Gateway, caller: Caller) -> None:
    model = serve(gateway, gemini("NO_IMAGE"), adapter="gemini", media=GEMINI_MEDIA, rates=GEMINI_RATES)
    assert ask(caller, model).status == 502
    assert caller.settled_books().charged == 0


@pytest.mark.parametrize("member", ["stream", "partial_images"])
def test_streams_are_refused_clearly(gateway: Gateway, caller: Caller, member: str) -> None:
    fields: dict[str, Any] = {member: True if member == "stream" else 2}
    reply = ask(caller, serve(gateway, draws()), **fields)
    assert (reply.status, reply.error["param"], reply.error["code"]) == (400, member, "stream_not_offered")


def test_a_quote_says_what_will_be_reserved(gateway: Gateway, caller: Caller) -> None:
    model = serve(gateway, draws())
    body = {"model": model, "prompt": "a red fox", "n": 3, "size": "2048x2048"}
    for asked in (body, {"endpoint": "/v1/images/generations", "body": body}):
        quote = caller.send("POST", "/v1/quote", asked).json
        assert (quote["reservation_credits"], quote["likely_credits"], quote["min_balance_credits"]) == (48, 48, 0)
        assert (quote["unit"], quote["units"], quote["tier"]) == ("image", 3, "2K")
    assert caller.books().log == []
    assert caller.books().holds == []


def test_a_model_of_pictures_is_named_where_one_of_words_is_asked_for(gateway: Gateway, caller: Caller) -> None:
    model = serve(gateway, draws())
    reply = caller.chat(model)
    assert reply.status == 400
    assert "/v1/images/generations" in reply.error["message"]


@pytest.mark.parametrize(
    ("body", "param"),
    [(b"{", None), (b"[]", None), (b"{}", "model"), (b'{"model":"m","prompt":"a fox"}', "model")],
    ids=["not-json", "list", "empty", "unknown"],
)
def test_malformed_bodies(gateway: Gateway, caller: Caller, body: bytes, param: str | None) -> None:
    headers = caller.headers({"content-type": "application/json"})
    reply = http.send(caller.port, "POST", "/v1/images/generations", body, headers)
    assert (reply.status, reply.error["param"]) == (400, param)
    assert caller.settled_books().log[0]["endpoint"] == "images"


def form_of(model: str, *files: tuple[str, str, bytes], **fields: str) -> dict[str, Any]:
    """What a page's form sends: the body, and the header that says so."""
    parts = [(name, "", value.encode()) for name, value in {"model": model, "prompt": "at night", **fields}.items()]
    parts += [(name, f'; filename="{filename}"', data) for name, filename, data in files]
    body = b"".join(
        f'--frontier\r\ncontent-disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + data + b"\r\n"
        for name, more, data in parts
    )
    return {"body": body + b"--frontier--\r\n", "content_type": "multipart/form-data; boundary=frontier"}


def test_forms_with_odd_numbers_and_fields_for_files_that_were_left_empty(gateway: Gateway, caller: Caller) -> None:
    route = gateway.upstream.serve(draws(10))
    model, picture = serve(gateway, route), ("image", "a.png", PICTURE)
    for number, drawn in (("3", 3), (" +2 ", 2), ("-0", 1), ("-7", 1), ("9" * 18, 10)):
        reply = caller.send("POST", "/v1/images/edits", **form_of(model, picture, n=number))
        assert (reply.status, len(reply.json["data"])) == (200, drawn), reply.body
    calls = route.calls
    for number in ("--5", "²", "9" * 5_000, "1e1", "٣", "x", "1_0"):
        reply = caller.send("POST", "/v1/images/edits", **form_of(model, picture, n=number))
        assert (reply.status, reply.error["param"]) == (400, "n"), reply.body
    assert route.calls == calls
    assert caller.send("POST", "/v1/images/edits", **form_of(model, picture, ("mask", "", b""))).status == 200
    assert b'name="mask"' not in route.seen[-1].body
    nothing = caller.send("POST", "/v1/images/edits", **form_of(model, ("image", "", b"")))
    assert (nothing.status, nothing.error["param"]) == (400, "image")
    assert "missing" in nothing.error["message"]
    assert caller.settled_books(14).charged == 18 * 8 * CREDIT


def test_what_is_no_picture_is_neither_charged_nor_handed_on(gateway: Gateway, caller: Caller) -> None:
    """Words in base64, addresses that lead nowhere: the next target draws, and only pictures are paid for."""
    page = base64.b64encode(b"<html>sorry</html>").decode()

    async def behave(talk: Conversation) -> None:
        half = "\ud800"  # half a character, which only an escape can carry
        items = [{"b64_json": page}, {"url": "javascript:alert(1)"}, {"b64_json": B64, "revised_prompt": f"a{half}b"}]
        await talk.json({"created": 1, "data": items, "usage": {"note": half}})

    model = serve(gateway, draws(3, b64_json=page), behave)
    reply = ask(caller, model, n=3, response_format="b64_json")
    assert reply.status == 200, reply.body
    assert [item["b64_json"] for item in reply.json["data"]] == [B64]
    assert reply.headers["x-hypereal-attempts"] == "3"
    assert caller.settled_books().charged == 8 * CREDIT


def test_a_page_at_the_providers_address_is_not_kept_as_a_picture(gateway: Gateway, caller: Caller) -> None:
    async def behave(talk: Conversation) -> None:
        if talk.seen.path.endswith("/file.png"):
            await talk.json(b"<html>sorry</html>", headers={"content-type": "image/png"})
        else:
            await talk.json({"created": 1, "data": [{"url": f"{route.base_url}/file.png"}]})

    route = gateway.upstream.serve(behave)
    model = serve(gateway, route)
    for wanted in ("url", "b64_json"):
        assert ask(caller, model, response_format=wanted).json["data"] == [{"url": f"{route.base_url}/file.png"}]
    assert not StoredObject.objects.filter(workspace=caller.workspace).exists()

"""What the adapters make of providers' answers, and of orders (pure)."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest

from tests.images.provider import B64, REFUSED
from upstreams import images, images_gemini, images_openai
from upstreams.errors import BadAnswer, ServerFailed, UpstreamError, UpstreamRefusal
from upstreams.images import Drawn, Order, Picture, Source, gathered
from upstreams.wire import Target

TARGET = Target("openai", "openai", "https://api.openai.com/v1", "gpt-image-2", secret="sk-secret")
SOURCE = Source("image", "upload", data=b"\x89PNG\r\n\x1a\nrest", content_type="image/png")


def body_of(**order: Any) -> Any:
    return json.loads(images_openai.generation_request(TARGET, Order(prompt="a fox", **order)).body)


def test_models_that_answer_base64_only_are_not_asked_for_a_format() -> None:
    members = {"response_format": msgspec.Raw(b'"url"'), "user": msgspec.Raw(b'"u"')}
    assert body_of(members=members) == {"model": "gpt-image-2", "prompt": "a fox", "n": 1, "user": "u"}


def test_nothing_of_a_form_can_break_out_of_its_part() -> None:
    members = {'a"\r\nx: y': msgspec.Raw(b'"1"'), "user": msgspec.Raw('"é\\n--"'.encode())}
    request = images_openai.edit_request(TARGET, Order(prompt="a fox", members=members), [SOURCE], None)
    assert b'name="a%22%0D%0Ax: y"' in request.body
    boundary = dict(request.headers)["content-type"].partition("boundary=")[2]
    assert request.body.endswith(f"--{boundary}--\r\n".encode())
    assert request.body.count(f"--{boundary}\r\n".encode()) == 6  # two members, prompt, n, model, one picture


#: What stood in providers' answers in place of a picture: words, a page, an error, nothing.
NO_PICTURES = [
    "not base64!", "", "=", "====", "A",
    *(base64.b64encode(text.encode()).decode() for text in ("<html>sorry</html>", '{"error": "é"}', "図" * 40, "à")),
]  # fmt: skip
NO_ADDRESSES = ["data:text/html,<b>x</b>", "data:image/svg+xml,<svg/>", "javascript:alert(1)", "/file.png", "ftp://a/b"]
ANSWERS: dict[str, tuple[Any, type[UpstreamError] | int]] = {
    "two": ({"data": [{"b64_json": B64}, {"url": "https://a.example/1.png"}]}, 2),
    "one of two": ({"data": [{"b64_json": B64}, {"error": {"message": "no"}}, {}, None, {"url": None}]}, 1),
    "a data URL": ({"data": [{"url": f"data:image/png;base64,{B64}"}]}, 1),
    "a data URL in the wrong member": ({"data": [{"b64_json": f"data:image/png;base64,{B64}"}]}, 1),
    "base64 in lines": ({"data": [{"b64_json": f"{B64[:76]}\r\n{B64[76:]}\n"}]}, 1),
    "a drawing in XML": ({"data": [{"b64_json": base64.b64encode(b"<svg xmlns='x'/>").decode()}]}, 1),
    "pictures that are none": ({"data": [{"b64_json": each} for each in NO_PICTURES]}, BadAnswer),
    "addresses that are none": ({"data": [{"url": each} for each in NO_ADDRESSES]}, BadAnswer),
    "one is a picture": ({"data": [{"b64_json": "!"}, {"b64_json": B64}, {"url": "/file.png"}]}, 1),
    "none": ({"data": []}, BadAnswer),
    "no list": ({"created": 1}, BadAnswer),
    "an error": ({"error": {"message": "boom", "type": "server_error"}}, ServerFailed),
    "refused": ({"error": REFUSED}, UpstreamRefusal),
    "each refused": ({"data": [{"error": {"code": "OutputImageSensitiveContentDetected", "message": "no"}}]},
                     UpstreamRefusal),
    "a list": ([1], BadAnswer),
}  # fmt: skip


@pytest.mark.parametrize("name", list(ANSWERS))
def test_answers_of_openais_format(name: str) -> None:
    answer, outcome = ANSWERS[name]
    data = json.dumps(answer).encode()
    if isinstance(outcome, int):
        assert len(images_openai.read(data).pictures) == outcome
        return
    with pytest.raises(outcome):
        images_openai.read(data)


def test_a_page_is_no_answer() -> None:
    for read in (images_openai.read, images_gemini.read):
        with pytest.raises(BadAnswer):
            read(b"<html>")


def test_a_key_never_stands_in_a_refusal() -> None:
    error = {**REFUSED, "message": "rejected for sk-secret"}
    with pytest.raises(UpstreamRefusal) as caught:
        images_openai.read(json.dumps({"error": error}).encode(), "sk-secret")
    assert "sk-secret" not in caught.value.message


def inline(**more: Any) -> dict[str, Any]:
    return {"inlineData": {"mimeType": "image/png", "data": B64}, **more}


def candidates(*parts: Any, **more: Any) -> bytes:
    return json.dumps({"candidates": [{"content": {"parts": list(parts)}, **more}]}).encode()


def test_sketches_and_words_are_no_pictures() -> None:
    drawn = images_gemini.read(candidates({"text": "Here"}, inline(thought=True), inline()))
    assert drawn.pictures == (Picture(b64=B64),)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (candidates({"text": "I would rather not"}, finishReason="STOP"), BadAnswer),
        (candidates(finishReason="IMAGE_SAFETY"), UpstreamRefusal),
        (json.dumps({"promptFeedback": {"blockReason": "SAFETY"}}).encode(), UpstreamRefusal),
        (json.dumps({"error": {"code": 503, "status": "UNAVAILABLE", "message": "busy"}}).encode(), ServerFailed),
        (b"[]", BadAnswer),
    ],
    ids=["words", "safety", "blocked", "error", "list"],
)
def test_answers_of_googles_format_without_a_picture(body: bytes, error: type[UpstreamError]) -> None:
    with pytest.raises(error):
        images_gemini.read(body)


def test_some_pictures_are_better_than_an_error_and_a_refusal_tells_the_most() -> None:
    one, failed, refused = Drawn((Picture(b64=B64),)), ServerFailed("it failed"), images.refusal("no")
    assert len(gathered([failed, one, refused]).pictures) == 1
    with pytest.raises(UpstreamRefusal):
        gathered([failed, refused])
    with pytest.raises(ServerFailed):
        gathered([failed])
    assert gathered([]).pictures == ()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"RIFF\0\0\0\0WEBP", "image/webp"),
        (b"GIF89a", "image/gif"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'>", None),
        (b"<!doctype html>", None),
        (b"RIFF\0\0\0\0WAVE", None),
        (b"", None),
    ],
    ids=["png", "jpeg", "webp", "gif", "svg", "html", "wave", "nothing"],
)
def test_what_a_picture_is_its_bytes_say(data: bytes, kind: str | None) -> None:
    assert images.image_type(data) == kind

"""The request that goes upstream, and what a whole answer used."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from tests.upstreams.exchanges import COMPLETION
from upstreams import estimate
from upstreams.errors import AccountRefused, BadAnswer, ServerFailed, UpstreamRefusal
from upstreams.openai import build_request, complete
from upstreams.wire import Target, TargetOptions, UpstreamRequest, Usage

SECRET = "sk-upstream-0123456789abcdef"
TARGET = Target("openai", "openai", "https://api.provider.test/v1/", "provider-model-2", SECRET)


def fields(body: str) -> dict[str, msgspec.Raw]:
    return msgspec.json.decode(body, type=dict[str, msgspec.Raw])


def build(body: str, *, stream: bool = False, target: Target = TARGET) -> tuple[UpstreamRequest, dict[str, Any]]:
    request = build_request(target, fields(body), stream=stream)
    return request, json.loads(request.body)


def test_model_is_replaced_and_everything_else_kept_to_the_byte() -> None:
    messages = '[ {"role":"user","content":"a\\u2028b é"} ]'
    request, sent = build('{"model":"gpt-5.4","messages":' + messages + ',"x_new":1.10,"hypereal":{"cache":false}}')
    assert sent == {"model": "provider-model-2", "messages": [{"role": "user", "content": "a\u2028b é"}], "x_new": 1.1}
    assert messages.encode() in request.body
    assert b'"x_new":1.10' in request.body


def test_an_escaped_or_doubled_name_cannot_smuggle_another_model() -> None:
    request, sent = build('{"mod\\u0065l":"cheap","model":"dear","messages":[]}')
    assert sent["model"] == "provider-model-2" and request.body.count(b"model") == 2  # the name and its value


def test_where_it_goes() -> None:
    request, _ = build('{"messages":[]}')
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.origin == ("https", "api.provider.test", 443)
    headers = dict(request.headers)
    assert headers["authorization"] == f"Bearer {SECRET}"
    assert headers["accept"] == "application/json" and headers["accept-encoding"] == "identity"


def test_azure() -> None:
    options = TargetOptions.from_mapping(
        {"auth": "api-key", "query": "?api-version=2025-01-01", "headers": {"x-a": "1"}}
    )
    target = Target("azure", "openai", "https://r.openai.azure.test/openai/deployments/d", "m", SECRET, options=options)
    request, _ = build('{"messages":[]}', target=target)
    headers = dict(request.headers)
    assert request.path == "/openai/deployments/d/chat/completions?api-version=2025-01-01"
    assert headers["api-key"] == SECRET and headers["x-a"] == "1" and "authorization" not in headers


def test_no_secret_no_header() -> None:
    request, _ = build('{"messages":[]}', target=Target("sandbox", "openai", "http://127.0.0.1:9", "m"))
    assert "authorization" not in dict(request.headers)


@pytest.mark.parametrize("bad", [{"auth": "basic"}, {"colour": "red"}, {"headers": "x"}, {"ask_usage": 1}])
def test_options_are_checked(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be|unknown"):
        TargetOptions.from_mapping(bad)


@pytest.mark.parametrize("url", ["ftp://x/v1", "https://", "https://u:p@x/v1", "https://x/v1?a=1", "x/v1"])
def test_base_urls_are_checked(url: str) -> None:
    with pytest.raises(ValueError, match="base URL"):
        build('{"messages":[]}', target=Target("x", "openai", url, "m"))


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("{}", {"include_usage": True}),
        ('{"stream_options":null}', {"include_usage": True}),
        ('{"stream_options":{"include_usage":false}}', {"include_usage": True}),
        ('{"stream_options":{"include_obfuscation":false}}', {"include_obfuscation": False, "include_usage": True}),
        ('{"stream_options":"yes"}', "yes"),
    ],
)
def test_a_stream_always_asks_for_usage(given: str, sent: Any) -> None:
    request, body = build(given, stream=True)
    assert body["stream"] is True and body["stream_options"] == sent
    assert dict(request.headers)["accept"] == "text/event-stream"


def test_an_upstream_that_refuses_stream_options_gets_none() -> None:
    target = Target("x", "openai", "https://x.test", "m", SECRET, options=TargetOptions(ask_usage=False))
    _, body = build('{"stream_options":{"include_usage":true}}', stream=True, target=target)
    assert "stream_options" not in body


def test_the_callers_fields_are_not_touched() -> None:
    given = fields('{"model":"a","hypereal":{},"messages":[]}')
    before = dict(given)
    build_request(TARGET, given, stream=True)
    assert given == before


def test_secrets_hide_from_repr() -> None:
    request, _ = build('{"messages":[]}')
    assert SECRET not in repr(TARGET) and SECRET not in repr(request)


def test_usage_of_an_answer() -> None:
    assert complete(json.dumps(COMPLETION).encode()) == Usage(input_tokens=21, cached_input_tokens=16, output_tokens=3)
    tiered = json.dumps({**COMPLETION, "service_tier": "flex"}).encode()
    assert complete(tiered).service_tier == "flex"


def test_an_answer_without_usage_is_estimated() -> None:
    message = {"role": "assistant", "content": "x" * 400, "reasoning_content": "y" * 40}
    answer = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": None}
    assert complete(json.dumps(answer).encode(), input_estimate=50) == Usage(
        input_tokens=50, output_tokens=110, estimated=True
    )


def test_odd_types_and_lone_surrogates_are_survived() -> None:
    text = json.dumps({**COMPLETION, "service_tier": 3}).replace("Hello", "\\ud83d")
    assert complete(text.encode()) == Usage(input_tokens=21, cached_input_tokens=16, output_tokens=3)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"error":{"message":"no such tool","type":"invalid_request_error"}}', UpstreamRefusal),
        (b'{"error":{"message":"busy","code":503},"choices":null}', ServerFailed),
        (b'{"error":{"message":"x","code":"insufficient_quota"}}', AccountRefused),
        (b'{"object":"chat.completion"}', BadAnswer),
        (b"[]", BadAnswer),
        (b"", BadAnswer),
        (b'{"choices":[{"index":0,"mess', BadAnswer),
        (b"<!doctype html><title>502</title>", BadAnswer),
        (b'{"choices":' + b"[" * 200_000 + b"]" * 200_000 + b"}", BadAnswer),
    ],
)
def test_a_200_that_is_no_completion(body: bytes, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        complete(body)
    assert type(caught.value) is kind


class TestInputEstimates:
    def test_text(self) -> None:
        body = json.dumps({"messages": [{"role": "user", "content": "word " * 1000}]}).encode()
        assert 1000 < estimate.estimate_input_tokens(body) < 1400
        assert estimate.ceiling_input_tokens(body) > estimate.estimate_input_tokens(body)

    def test_scripts_of_three_bytes_a_letter_are_not_underestimated(self) -> None:
        body = json.dumps({"content": "漢" * 1000}, ensure_ascii=False).encode()
        assert estimate.ceiling_input_tokens(body) >= 2000

    def test_a_picture_is_no_text(self) -> None:
        url = "data:image/png;base64," + "iVBORw0KGgo" + "A" * 1_000_000
        body = json.dumps({"messages": [{"content": [{"type": "image_url", "image_url": {"url": url}}]}]}).encode()
        assert estimate.IMAGE_TOKENS <= estimate.ceiling_input_tokens(body) < estimate.IMAGE_TOKENS + 100

    def test_several_pictures_and_links(self) -> None:
        parts = [{"type": "image_url", "image_url": {"url": "data:image/jpeg;base64," + "/9j/" + "A" * 5000}}] * 3
        parts.append({"type": "image_url", "image_url": {"url": "https://example.org/a.png"}})
        tokens = estimate.estimate_input_tokens(json.dumps({"content": parts}).encode())
        assert 4 * estimate.IMAGE_TOKENS <= tokens < 4 * estimate.IMAGE_TOKENS + 200

    def test_sound_and_documents_grow_with_their_size(self) -> None:
        sound = json.dumps({"type": "input_audio", "input_audio": {"data": "A" * 128_000, "format": "mp3"}}).encode()
        assert 700 < estimate.estimate_input_tokens(sound) < 900
        file = json.dumps({"file": {"file_data": "data:application/pdf;base64,JVBERi" + "A" * 40_000}}).encode()
        assert 2900 < estimate.estimate_input_tokens(file) < 3200

    def test_windows_do_not_lose_or_double_anything(self, monkeypatch: pytest.MonkeyPatch) -> None:
        picture = {"image_url": {"url": "data:image/png;base64," + "A" * 900}}
        parts = [{"text": "x" * 37}, {"image_url": {"url": "https://a.test/b"}}, picture] * 30
        body = json.dumps(parts).encode()
        whole = estimate.ceiling_input_tokens(body)
        assert whole // estimate.IMAGE_TOKENS == 60
        for window in (50, 64, 333, 1000):
            monkeypatch.setattr(estimate, "_WINDOW_BYTES", window)
            assert estimate.ceiling_input_tokens(body) == whole

    def test_a_long_word_in_a_text_is_text(self) -> None:
        body = json.dumps({"messages": [{"role": "user", "content": "A" * 30_000}]}).encode()
        assert estimate.estimate_input_tokens(body) >= 7500

    def test_text_that_pretends_to_be_data_is_text(self) -> None:
        body = json.dumps({"content": '{"data": "' + "A" * 30_000 + '"} ;base64,'}).encode()
        assert estimate.estimate_input_tokens(body) >= 7500

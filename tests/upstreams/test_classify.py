"""Which failures are retried, which mean our own account, which are the caller's; and what a caller gets to read."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from upstreams import classify
from upstreams.errors import (
    AccountRefused,
    BadAnswer,
    ModelMissing,
    ServerFailed,
    TargetUnusable,
    UnknownHere,
    UpstreamRateLimited,
    UpstreamRefusal,
)
from upstreams.redact import MESSAGE_LIMIT, clean

SECRET = "sk-upstream-0123456789abcdef"


def error(**members: Any) -> bytes:
    return json.dumps({"error": members}).encode()


def bare(**members: Any) -> bytes:
    return json.dumps(members).encode()


LOW_CREDIT = "Your credit balance is too low to access the API."
SPENT = {"error_code": "enforced_spend_limit_reached"}
BAD_KEY = [{"reason": "API_KEY_INVALID"}]
GOOGLES_404 = "models/gemini-3.6-flahs is not found for API version v1beta, or is not supported for generateContent."
PAGE = b"<html><h1>no</h1></html>"

RETRIED = [
    ("server error", 500, error(type="server_error", message="x"), ServerFailed),
    ("overloaded", 529, error(type="overloaded_error", message="x"), ServerFailed),
    ("page of a proxy", 503, PAGE, ServerFailed),
    ("empty", 502, b"", ServerFailed),
    ("request time-out", 408, b"", ServerFailed),
    ("redirect", 302, b"", BadAnswer),
    ("rate limit", 429, error(type="requests", code="rate_limit_exceeded"), UpstreamRateLimited),
    ("rate limit without body", 429, b"", UpstreamRateLimited),
    ("rate limit behind a router", 429, error(code=429, message="Provider returned error"), UpstreamRateLimited),
    ("quota by the minute", 429, error(code=429, status="RESOURCE_EXHAUSTED", message="quota"), UpstreamRateLimited),
]
OURS = [
    ("quota", 429, error(type="insufficient_quota", code="insufficient_quota"), AccountRefused),
    ("quota with another status", 400, error(code="insufficient_quota", message="x"), AccountRefused),
    ("spend limit", 429, error(type="rate_limit_error", details=SPENT), AccountRefused),
    ("credit balance", 400, error(type="invalid_request_error", message=LOW_CREDIT), AccountRefused),
    ("key", 401, error(code="invalid_api_key", message="Incorrect API key provided."), AccountRefused),
    ("key, Azure", 401, error(code="401", message="Access denied"), AccountRefused),
    ("key, Google", 400, error(code=400, status="INVALID_ARGUMENT", details=BAD_KEY), AccountRefused),
    ("key, no body", 401, b"", AccountRefused),
    ("credit", 402, error(message="Insufficient credits", code=402), AccountRefused),
    ("region", 403, error(code="unsupported_country_region_territory"), AccountRefused),
    ("deployment", 404, error(code="DeploymentNotFound", message="x"), AccountRefused),
    ("a page instead of a reason", 404, PAGE, TargetUnusable),
    ("an address that is not there", 404, bare(detail="Not Found"), TargetUnusable),
    ("another", 404, error(type="invalid_request_error", message="Invalid URL (POST /v2/chat)"), TargetUnusable),
]
THE_CALLERS = [
    ("moderation", 403, error(code=403, message="flagged", metadata={"reasons": ["violence"]}), UpstreamRefusal),
    ("bad field", 400, error(type="invalid_request_error", param="n", code="unsupported_parameter"), UpstreamRefusal),
    ("unknown model", 404, error(code="model_not_found", message="x"), ModelMissing),
    ("unknown model, Anthropic", 404, error(type="not_found_error", message="model: claude-x"), ModelMissing),
    ("unknown model, Google", 404, error(code=404, message=GOOGLES_404, status="NOT_FOUND"), ModelMissing),
    ("unknown model, DeepSeek", 400, error(code="invalid_request_error", message="Model Not Exist"), ModelMissing),
    ("unknown model, OpenRouter", 400, error(code=400, message="a/b is not a valid model ID"), ModelMissing),
    ("a model that can't", 400, error(message="This model does not support image input."), UpstreamRefusal),
    ("a file", 404, error(message="No such File object: file-x", code="not_found"), UpstreamRefusal),
    ("kept elsewhere", 400, error(code="previous_response_not_found", message="x"), UnknownHere),
    ("signed elsewhere", 400, error(code="invalid_encrypted_content", message="x"), UnknownHere),
    ("too large", 413, PAGE, UpstreamRefusal),
    ("unprocessable", 422, bare(detail=[{"loc": ["body"], "msg": "field required"}]), UpstreamRefusal),
    ("Mistral's shape", 400, bare(object="error", message="bad", type="invalid", code="1"), UpstreamRefusal),
]
CASES = [*RETRIED, *OURS, *THE_CALLERS]


@pytest.mark.parametrize(("status", "body", "kind"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_by_status_and_body(status: int, body: bytes, kind: type[Exception]) -> None:
    assert type(classify.refuse(status, {}, body)) is kind


def test_the_tree_says_what_to_do_next() -> None:
    assert ServerFailed("x").retry_same_target and ServerFailed("x").try_next_target
    assert not AccountRefused("x").retry_same_target and AccountRefused("x").try_next_target
    refusal = UpstreamRefusal("x", status=400)
    assert not refusal.retry_same_target and not refusal.try_next_target


def test_a_refusal_keeps_what_the_caller_needs() -> None:
    refusal = classify.refuse(
        400, {}, error(type="invalid_request_error", param="tools[0]", code="invalid_value", message="Bad tool.")
    )
    assert isinstance(refusal, UpstreamRefusal)
    assert (refusal.status, refusal.message, refusal.param, refusal.code, refusal.type) == (
        400, "Bad tool.", "tools[0]", "invalid_value", "invalid_request_error",
    )  # fmt: skip


def test_the_message_behind_a_message() -> None:
    raw = json.dumps({"error": {"message": "max_tokens is too large", "type": "x"}})
    refusal = classify.refuse(400, {}, error(code=400, message="Provider returned error", metadata={"raw": raw}))
    assert refusal.message == "max_tokens is too large"


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        (f"Incorrect key: {SECRET}.", SECRET),
        ("The key sk-proj-abcd****wxyz is odd.", "wxyz"),
        ("Authorization: Bearer abcdef0123456789", "abcdef0123456789"),
        ("Organization org-AbCdEf123456 is over its limit", "org-AbCdEf123456"),
        ("See https://api.provider.test/v1/x?key=1 for more", "provider.test"),
        ("upstream inference-7.eu.provider.ai:8443 refused", "provider.ai"),
        ("connect to 10.3.2.1:443 failed", "10.3.2.1"),
        ("token=abcdefgh12345", "abcdefgh12345"),
        ("key AIzaSyA0123456789abcdef is bad", "AIzaSyA0123456789abcdef"),
    ],
)
def test_messages_are_cleaned(text: str, hidden: str) -> None:
    refusal = classify.refuse(400, {}, error(message=text, type="invalid_request_error"), secret=SECRET)
    assert hidden not in refusal.message and "[removed]" in refusal.message


def test_the_callers_own_link_stays() -> None:
    text = "Failed to download https://pictures.example.org/a.png. Ask support at help.provider.com."
    shown = clean(text, known=b'{"url":"https://pictures.example.org/a.png"}')
    assert shown == "Failed to download https://pictures.example.org/a.png. Ask support at [removed]."


def test_ordinary_words_stay() -> None:
    text = "Unsupported parameter: 'max_tokens' is not supported with this model (gpt-5.4-mini). Use 1.5 instead."
    assert clean(text) == text


@pytest.mark.parametrize("unit", ["a.", "a-", "a", "1.", "[::", "https://", "key-", "token ", "*", "aa***", "a.co"])
def test_cleaning_takes_no_longer_on_hostile_text(unit: str) -> None:
    started = time.process_time()
    clean(unit * (8000 // len(unit)))
    assert time.process_time() - started < 0.5


def test_messages_are_bounded_and_plain() -> None:
    shown = clean("a\x00b\x1b[31m" + "x" * 10_000)
    assert len(shown) == MESSAGE_LIMIT and "\x1b" not in shown and "\x00" not in shown


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"retry-after": "2"}, None, 2.0),
        ({"retry-after": "1.5"}, None, 1.5),
        ({"retry-after": "99999999"}, None, 3600.0),
        ({"retry-after-ms": "2500", "retry-after": "3"}, None, 2.5),
        ({"retry-after": "soon"}, None, None),
        ({"retry-after": "-3"}, None, None),
        ({}, {"details": [{"retryDelay": "34.4s"}]}, 34.4),
        ({}, {"details": "x"}, None),
        ({}, None, None),
    ],
)
def test_waits(headers: dict[str, str], body: Any, seconds: float | None) -> None:
    assert classify.retry_after(headers, body) == seconds


def test_a_wait_as_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 27 < (classify.retry_after({"retry-after": date}) or 0) <= 30


def test_a_rate_limit_bears_its_wait() -> None:
    failure = classify.refuse(429, {"retry-after": "7"}, b"")
    assert failure.retry_after == 7.0

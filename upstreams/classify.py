"""From a provider's failing answer to the right class of UpstreamError. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from upstreams import loose_json
from upstreams.errors import (
    AccountRefused,
    BadAnswer,
    ModelMissing,
    ServerFailed,
    TargetUnusable,
    UnknownHere,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamRefusal,
)
from upstreams.redact import clean

RETRY_AFTER_LIMIT_SECONDS = 3600.0

# Words in an error's code, type, status or reason that mean our account, whatever the HTTP status.
_ACCOUNT_CODES = frozenset({
    "401", "402", "account_deactivated", "api_key_invalid", "authentication_error", "billing_error",
    "billing_hard_limit_reached", "billing_not_active", "consumer_suspended", "deploymentnotfound",
    "enforced_spend_limit_reached", "insufficient_balance", "insufficient_credits", "insufficient_quota",
    "invalid_api_key", "payment_required", "permission_denied", "permission_error", "service_disabled",
    "spend_limit_exceeded", "unauthenticated", "unauthorized", "unsupported_country_region_territory",
})  # fmt: skip
_ACCOUNT_TEXT = re.compile(
    r"credit balance is too low|insufficient (?:balance|credits?|funds)|api key not valid|incorrect api key"
    r"|invalid (?:x-)?api[- ]key"
    r"|user location is not supported|enable billing|credits? (?:is|are|have been) (?:depleted|exhausted)"
    r"|spend(?:ing)? limit|account (?:is|has been) (?:suspended|deactivated|not active)"
    r"|organization has been disabled",
    re.IGNORECASE,
)
_RATE_CODES = frozenset({"rate_limit_exceeded", "rate_limit_error", "rate_limited", "resource_exhausted", "requests",
                         "tokens", "too_many_requests", "throttling"})  # fmt: skip
_SERVER_CODES = frozenset({"server_error", "api_error", "internal_error", "internal_server_error", "internal",
                           "overloaded_error", "overloaded", "unavailable", "service_unavailable", "timeout_error",
                           "deadline_exceeded", "bad_gateway", "upstream_error"})  # fmt: skip
_OVERLOAD_CODES = frozenset({"overloaded_error", "overloaded"})
_CALLER_CODES = frozenset({"invalid_request_error", "invalid_prompt", "context_length_exceeded", "content_filter",
                           "content_policy_violation", "request_too_large", "not_found_error", "invalid_argument",
                           "model_not_found", "tool_use_failed", "bad_request"})  # fmt: skip

# The model by the name that we gave it: the catalog is wrong about this target, or the provider took the model away.
_MODEL_CODES = frozenset({"model_not_found", "model_not_available", "model_not_exist", "modelnotfound",
                          "invalid_model"})  # fmt: skip
_MODEL_TEXT = re.compile(
    r"^model: ?\S+$|^model not (?:exist|found)\b|^\S+ is not a valid model\b|^(?:unknown|invalid) model\b"
    r"|\bmodels?(?:/|:? )[`'\"]?[\w./:@-]{1,120}[`'\"]? (?:does not exist|(?:is |was )?not found)\b",
    re.IGNORECASE,
)
# What a provider keeps or has signed for its own customers: another target may be the one that did.
_KEPT_CODES = frozenset({"previous_response_not_found", "invalid_encrypted_content", "conversation_not_found"})
_KEPT_TEXT = re.compile(
    r"\b(?:previous response|conversation|item|cached ?content)\b[^.]{0,120}\bnot found\b"
    r"|encrypted content[^.]{0,120}\b(?:verified|decrypted)\b|invalid `?signature`? in `?thinking`?",
    re.IGNORECASE,
)
# An address that the provider does not have: our base URL is wrong, whatever the caller asked.
_NOWHERE_TEXT = re.compile(r"^(?:404 )?(?:page )?not found\.?$|^(?:invalid|unknown request) url\b", re.IGNORECASE)


def refuse(
    status: int, headers: Mapping[str, str], body: bytes, *, secret: str = "", known: bytes = b""
) -> UpstreamError:
    """What an answer with a failing status means. ``headers`` have lower-case names.

    ``secret`` (the target's key) is kept out of messages; ``known`` is the caller's request, whose own URLs may stay.
    """
    error = error_in(body)
    wait = retry_after(headers, error)
    if status in (408, 425) or status >= 500:
        return ServerFailed(f"the upstream answered {status}", status=status, retry_after=wait)
    if status < 400:
        return BadAnswer(f"the upstream answered {status}", status=status)
    if _is_moderation(error):
        return _refusal(status, error, secret, known)
    if status in (401, 402, 403, 407) or _is_account(error, status):
        return AccountRefused("the upstream refused our account", status=status, retry_after=wait)
    if status == 429:
        return UpstreamRateLimited("the upstream is rate-limited", status=429, retry_after=wait)
    if status == 404 and _NOWHERE_TEXT.search(_said(error)):
        return TargetUnusable("the upstream does not have this address", status=404)
    if error is None and status != 413 and body.lstrip()[:1] != b"{":
        return TargetUnusable(f"the upstream answered {status} without a reason", status=status)
    return _refusal(status, error, secret, known)


def refuse_inside(error: Any, *, secret: str = "", known: bytes = b"") -> UpstreamError:
    """What an error object inside a 200 means: the whole body, or one event of a stream."""
    words = _words(error)
    status = _status_of(error)
    if _is_account(error, status or 0) or status in (401, 402, 403):
        return AccountRefused("the upstream refused our account", status=status)
    if status == 429 or words & _RATE_CODES:
        return UpstreamRateLimited("the upstream is rate-limited", status=429, retry_after=retry_after({}, error))
    if (status is None or status < 500) and not words & _SERVER_CODES and (status or words & _CALLER_CODES):
        return _refusal(status if status and status >= 400 else 400, error, secret, known)
    if status is None and words & _OVERLOAD_CODES:
        status = 529
    return ServerFailed("the upstream reported an error in its answer", status=status)


def not_json(body: bytes, content_type: str) -> UpstreamError:
    """What a 200 whose body can't be read as JSON means: a proxy's HTML page, or text cut short."""
    if "html" in content_type or body.lstrip()[:1] == b"<":
        return BadAnswer("the upstream answered with a page instead of data", status=200)
    return BadAnswer("the upstream's answer is not valid JSON", status=200)


def error_in(body: bytes) -> Any:
    """The error member of a JSON body (an object or a string); the body itself if it looks like one; else None."""
    try:
        value = loose_json.decode(body)
    except ValueError:
        return None
    if isinstance(value, list) and value:  # Google wraps errors of its OpenAI endpoint in a list
        value = value[0]
    if not isinstance(value, dict):
        return None
    return error_of(value)


def error_of(value: Mapping[str, Any]) -> Any:
    """The error that a decoded object bears, in any of the shapes providers use; None where it bears none."""
    error = value.get("error")
    if error:
        return error
    if value.get("object") == "error" or value.get("type") == "error":
        return value
    if "message" in value and "choices" not in value and ("code" in value or "type" in value or "status" in value):
        return value
    return value.get("detail") or value.get("errors") or None


def retry_after(headers: Mapping[str, str], error: Any = None) -> float | None:
    """The wait in seconds that headers or Google's RetryInfo ask for, bounded; None where nothing asks."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        if not value:
            continue
        seconds = _number(value)
        if seconds is not None:
            return _bounded(seconds * scale)
        try:
            moment = parsedate_to_datetime(value)
        except ValueError:
            continue
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return _bounded((moment - datetime.now(UTC)).total_seconds())
    details = error.get("details") if isinstance(error, Mapping) else None
    for detail in details if isinstance(details, list) else ():
        delay = detail.get("retryDelay") if isinstance(detail, Mapping) else None
        if isinstance(delay, str) and (seconds := _number(delay.rstrip("s"))) is not None:
            return _bounded(seconds)
    return None


def _refusal(status: int, error: Any, secret: str, known: bytes) -> UpstreamRefusal:
    message = param = code = kind = None
    if isinstance(error, Mapping):
        message = _text(_inner_message(error)) or _text(error.get("message")) or _text(error.get("detail"))
        param, code, kind = _text(error.get("param")), _text(error.get("code")), _text(error.get("type"))
    elif error is not None:
        message = _text(error)
    return _class_of(status, error)(
        clean(message or "the provider refused the request", secret=secret, known=known),
        status=status,
        param=clean(param, secret=secret, known=known)[:200] if param else None,
        code=clean(code, secret=secret)[:100] if code and not code.isdigit() else None,
        type=clean(kind, secret=secret)[:100] if kind and kind != "error" else "invalid_request_error",
    )


def _class_of(status: int, error: Any) -> type[UpstreamRefusal]:
    """Whether another target might take what this one refuses."""
    if status not in (400, 404):
        return UpstreamRefusal
    words, text = _words(error), _said(error)
    if words & _KEPT_CODES or _KEPT_TEXT.search(text):
        return UnknownHere
    if words & _MODEL_CODES or _MODEL_TEXT.search(text):
        return ModelMissing
    return UpstreamRefusal


def _said(error: Any) -> str:
    text = error.get("message") if isinstance(error, Mapping) else error
    return text[:1000] if isinstance(text, str) else ""


def _inner_message(error: Mapping[str, Any]) -> Any:
    """OpenRouter hides the real message of the provider behind it in ``metadata.raw``."""
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, Mapping) else None
    if not isinstance(raw, str):
        return None
    inner = error_in(raw.encode())
    return inner.get("message") if isinstance(inner, Mapping) else None


def _is_moderation(error: Any) -> bool:
    """OpenRouter answers 403 when it finds the caller's input offensive: that is no matter of our account."""
    metadata = error.get("metadata") if isinstance(error, Mapping) else None
    return isinstance(metadata, Mapping) and bool(metadata.get("reasons"))


def _is_account(error: Any, status: int) -> bool:
    words = _words(error)
    if words & _ACCOUNT_CODES:
        return True
    text = error.get("message") if isinstance(error, Mapping) else error
    if status in (400, 404, 429) and isinstance(text, str):
        return _ACCOUNT_TEXT.search(text) is not None
    return False


def _words(error: Any) -> frozenset[str]:
    """Every short word by which an error says what it is, in lower case."""
    if not isinstance(error, Mapping):
        return frozenset()
    found = [error.get(name) for name in ("code", "type", "status", "reason")]
    details = error.get("details")
    if isinstance(details, Mapping):
        found += [details.get("error_code"), details.get("code")]
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, Mapping):
            found.append(detail.get("reason"))
    inner = error.get("error") or error.get("innererror")
    if isinstance(inner, Mapping):
        found += [inner.get("type"), inner.get("code")]
    return frozenset(str(word).lower() for word in found if isinstance(word, (str, int)))


def _status_of(error: Any) -> int | None:
    if not isinstance(error, Mapping):
        return None
    for name in ("code", "status", "status_code"):
        value = error.get(name)
        if isinstance(value, str) and value.isdigit():
            value = int(value)
        if isinstance(value, int) and 400 <= value < 600:
            return value
    return None


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool):
        return None
    return json.dumps(value, ensure_ascii=False, default=str)


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d{1,9}(?:\.\d{1,9})?", text) else None


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), RETRY_AFTER_LIMIT_SECONDS)

"""Errors in Google's shape: ``code``, ``message``, ``status`` and details, beside the gateway's own members. Pure."""

from __future__ import annotations

from typing import Any, Final

from core.errors import ProductError

_STATUSES: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "FAILED_PRECONDITION",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    409: "ABORTED",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_DOMAIN: Final = "hypereal"


def members(error: ProductError) -> dict[str, Any]:
    """The error object. A wait stands in it as well: Gemini CLI heeds Google's ``RetryInfo``, not the header."""
    told: dict[str, Any] = {
        "code": error.status,
        "message": error.message,
        "status": _STATUSES.get(error.status, "INVALID_ARGUMENT" if error.status < 500 else "UNAVAILABLE"),
        "type": error.type,
        "param": error.param,
    }
    details: list[dict[str, Any]] = []
    if error.code:
        details.append({
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": error.code.upper(),
            "domain": _DOMAIN,
        })  # fmt: skip
    if wait := error.headers.get("Retry-After"):
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{wait}s"})
    return {**told, **({"details": details} if details else {}), **error.extra}

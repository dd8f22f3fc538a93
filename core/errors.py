"""The product's errors, one family.

ProductError
├── InvalidRequest 400          the caller's fault, ``param`` names the field
├── AuthenticationFailed 401
├── PaymentRequired 402
│   ├── InsufficientCredits     the wallet
│   └── SpendingLimitExceeded   the key's month
├── PermissionDenied 403
├── NotFound 404 · MethodNotAllowed 405 · Conflict 409 · Gone 410 · RequestTooLarge 413 · UpgradeRequired 426
├── RateLimited 429             always with Retry-After
├── InternalError 500
└── UpstreamFailed 502 · Overloaded 503 · TimedOut 504

One rim per dialect turns them into bytes. Messages are written for the caller: no host, secret or stack in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from core.storable import whole


class ProductError(Exception):
    """Something the caller is told about. ``extra`` members go into the error object, ``headers`` onto the answer."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "api_error"
    code: str | None = None

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        # Names of a caller's own may hold half a character, which no answer could carry back.
        self.message = whole(message)
        self.param = whole(param) if param is not None else None
        self.code = code or type(self).code
        self.extra: dict[str, Any] = dict(extra or {})
        self.headers: dict[str, str] = dict(headers or {})


class InvalidRequest(ProductError):
    status = 400
    type = "invalid_request_error"


class AuthenticationFailed(ProductError):
    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class PaymentRequired(ProductError):
    status = 402


class InsufficientCredits(PaymentRequired):
    type = "insufficient_credits"
    code = "insufficient_credits"


class SpendingLimitExceeded(PaymentRequired):
    type = "spending_limit_exceeded"
    code = "spending_limit_exceeded"


class PermissionDenied(ProductError):
    status = 403
    type = "permission_error"


class NotFound(ProductError):
    status = 404
    type = "not_found_error"


class MethodNotAllowed(ProductError):
    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"


class Conflict(ProductError):
    status = 409
    type = "conflict_error"


class Gone(ProductError):
    status = 410
    type = "not_found_error"


class RequestTooLarge(ProductError):
    status = 413
    type = "request_too_large"


class UpgradeRequired(ProductError):
    status = 426
    type = "invalid_request_error"
    code = "websocket_not_supported"


class RateLimited(ProductError):
    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, retry_after: int, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message, headers={"Retry-After": str(retry_after), **(headers or {})})


class InternalError(ProductError):
    status = 500
    type = "api_error"


class UpstreamFailed(ProductError):
    status = 502
    type = "upstream_error"


class Overloaded(ProductError):
    status = 503
    type = "overloaded_error"


class TimedOut(ProductError):
    status = 504
    type = "timeout_error"

"""What can go wrong on the way to a provider, one family.

UpstreamError
├── Retryable                   once more on the same target, then the next one
│   ├── ConnectFailed           no connection (DNS, refused, TLS); PoolBusy: no free connection in time
│   ├── UpstreamTimedOut        ConnectTimedOut, FirstByteTimedOut, IdleTimedOut, TotalTimedOut
│   ├── ConnectionLost          closed in the middle; StaleConnection: a kept one, closed before any byte
│   ├── BadAnswer               not HTTP, not JSON, HTML, a stream that breaks its format
│   ├── ServerFailed            5xx and errors of the provider's own inside a 200
│   └── UpstreamRateLimited     429, with the wait it asks for
├── TargetUnusable              no second try, but the next target may serve
│   ├── AccountRefused          our key, our credit, our region: never shown as the caller's fault
│   └── AnswerTooLarge
└── UpstreamRefusal             the caller's own fault: passed on, cleaned of our secrets and of upstream hosts
    └── UnknownHere             something that is named in it, and that another target may know
        └── ModelMissing        the model, by the name that we gave it

Nothing here holds a header value, a key or a URL, so that any of it may be logged.
"""

from __future__ import annotations

from typing import ClassVar


class UpstreamError(Exception):
    """A call that one target did not serve.

    ``kind`` is one word for the log. ``status`` is the upstream's own, None where none came. ``retry_after`` is the
    wait in seconds that the upstream asked for.
    """

    kind: ClassVar[str] = "upstream"
    retry_same_target: ClassVar[bool] = False
    try_next_target: ClassVar[bool] = False

    def __init__(self, message: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.retry_after = retry_after


class Retryable(UpstreamError):
    retry_same_target = True
    try_next_target = True


class ConnectFailed(Retryable):
    kind = "connect"


class PoolBusy(ConnectFailed):
    kind = "pool_busy"


class UpstreamTimedOut(Retryable):
    kind = "timeout"


class ConnectTimedOut(UpstreamTimedOut):
    kind = "connect_timeout"


class FirstByteTimedOut(UpstreamTimedOut):
    kind = "first_byte_timeout"


class IdleTimedOut(UpstreamTimedOut):
    kind = "idle_timeout"


class TotalTimedOut(UpstreamTimedOut):
    kind = "total_timeout"


class ConnectionLost(Retryable):
    kind = "cut"


class StaleConnection(ConnectionLost):
    kind = "stale"


class BadAnswer(Retryable):
    kind = "bad_answer"


class ServerFailed(Retryable):
    kind = "server_error"


class UpstreamRateLimited(Retryable):
    kind = "rate_limit"


class TargetUnusable(UpstreamError):
    kind = "unusable"
    try_next_target = True


class AccountRefused(TargetUnusable):
    kind = "account"


class AnswerTooLarge(TargetUnusable):
    kind = "too_large"


class UpstreamRefusal(UpstreamError):
    """The provider found the caller's request wrong. ``message``, ``param``, ``code`` and ``type`` may be shown."""

    kind = "refused"

    def __init__(
        self,
        message: str,
        *,
        status: int,
        param: str | None = None,
        code: str | None = None,
        type: str = "invalid_request_error",
    ) -> None:
        super().__init__(message, status=status)
        self.param = param
        self.code = code
        self.type = type


class UnknownHere(UpstreamRefusal):
    """Passed on as well, but only when no other target could serve."""

    kind = "unknown_here"
    try_next_target = True


class ModelMissing(UnknownHere):
    kind = "model_missing"

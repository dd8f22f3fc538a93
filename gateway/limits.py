"""Every time and size that bounds a call, in one value: read from the settings once, replaced by tests."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings

from core.money import MICROCREDITS_PER_CREDIT


@dataclass(frozen=True, slots=True)
class Limits:
    """Times are in seconds."""

    max_body_bytes: int = 32 * 1024 * 1024
    max_body_bytes_in_flight: int = 512 * 1024 * 1024
    max_answer_bytes: int = 64 * 1024 * 1024
    #: Bodies above this are parsed in a thread, so that one caller does not hold up all others.
    parse_in_thread_bytes: int = 1024 * 1024
    body_seconds: float = 120.0
    min_balance_microcredits: int = 0
    step_output_tokens: int = 2_048
    #: Reserved for a call that names no ceiling, to a model that has none.
    default_output_tokens: int = 4_096
    keepalive_seconds: float = 15.0
    connect_seconds: float = 5.0
    first_byte_seconds: float = 300.0
    idle_seconds: float = 300.0
    total_seconds: float = 14_400.0
    #: A picture or a sound that is answered in one piece: all attempts together.
    media_seconds: float = 300.0
    slow_reader_seconds: float = 120.0
    read_on_seconds: float = 10.0
    settle_wait_seconds: float = 5.0
    drain_seconds: float = 25.0
    #: After the drain, what open calls get to end in their own format and be settled.
    abort_seconds: float = 10.0
    backoff_seconds: float = 0.25
    most_backoff_seconds: float = 4.0
    #: A longer Retry-After is not waited for: the next target is tried, or the caller is told.
    most_retry_after_seconds: float = 10.0
    #: An attempt that took longer is not repeated on the same target.
    retry_within_seconds: float = 30.0
    directory_ttl_seconds: float = 5.0
    breaker_failures: int = 5
    breaker_seconds: float = 10.0
    most_breaker_seconds: float = 120.0

    @classmethod
    def from_settings(cls) -> Limits:
        """The installation's own."""
        return cls(
            max_body_bytes=settings.GATEWAY_MAX_BODY_BYTES,
            max_body_bytes_in_flight=settings.GATEWAY_MAX_BODY_BYTES_IN_FLIGHT,
            min_balance_microcredits=settings.MIN_BALANCE_CREDITS * MICROCREDITS_PER_CREDIT,
            step_output_tokens=settings.GATEWAY_STEP_OUTPUT_TOKENS,
            keepalive_seconds=settings.GATEWAY_KEEPALIVE_SECONDS,
            connect_seconds=settings.GATEWAY_CONNECT_SECONDS,
            first_byte_seconds=settings.GATEWAY_FIRST_BYTE_SECONDS,
            idle_seconds=settings.GATEWAY_IDLE_SECONDS,
            total_seconds=settings.GATEWAY_TOTAL_SECONDS,
            media_seconds=settings.GATEWAY_MEDIA_SECONDS,
            slow_reader_seconds=settings.GATEWAY_SLOW_READER_SECONDS,
            read_on_seconds=settings.GATEWAY_LEFT_CLIENT_READ_ON_SECONDS,
            settle_wait_seconds=settings.GATEWAY_SETTLE_WAIT_SECONDS,
            drain_seconds=settings.GATEWAY_DRAIN_SECONDS,
            directory_ttl_seconds=settings.GATEWAY_DIRECTORY_TTL_SECONDS,
        )

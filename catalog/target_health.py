"""How targets fare, as gateway processes report it and operators read it: disposable data in Redis, gone by itself.

Each process writes one report every few seconds under a key of its own that expires; a sorted set names the processes
that wrote lately. Nothing depends on any of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import redis

from core import clock

KEY: Final = "hypereal:targets"
EVERY_SECONDS: Final = 5.0
#: A report older than this is that of a process that ended, or that can't reach Redis.
LIVES_SECONDS: Final = 20
#: Minutes that the counts in a report look back.
WINDOW_MINUTES: Final = 5
_WAIT_SECONDS: Final = 2

#: A circuit: calls pass; left out for a while; one call may try whether the target is back.
CLOSED, OPEN, PROBING = "closed", "open", "probing"
_BY_GRAVITY: Final = (OPEN, PROBING, CLOSED)


class TargetReport(msgspec.Struct, omit_defaults=True):
    """One target as one process saw it. ``target`` reads provider/region/upstream model, as in the log."""

    target: str
    #: In the last WINDOW_MINUTES.
    calls: int = 0
    failures: int = 0
    #: Of the latest calls that it served: to the first content of a stream, else to the whole answer.
    latencies_ms: list[int] = []
    circuit: str = CLOSED
    #: How long it is still left out.
    open_seconds: float = 0.0
    last_error: str = ""
    last_status: int | None = None
    #: Unix time of the last failure, 0 for none.
    failed_at: float = 0.0


class ProcessReport(msgspec.Struct):
    """What one gateway process knows. ``at`` is Unix time."""

    process: str
    at: float
    targets: list[TargetReport]


@dataclass(frozen=True, slots=True)
class Health:
    """One target over all processes."""

    target: str
    calls: int
    failures: int
    p50_ms: int | None
    p95_ms: int | None
    circuit: str
    open_seconds: float
    last_error: str
    last_status: int | None
    failed_at: float
    #: The same by process, in the order of their names.
    by_process: tuple[tuple[str, Health], ...] = field(default=(), repr=False)

    @property
    def error_percent(self) -> float:
        """Failures in a hundred calls, of the window."""
        return 100 * self.failures / self.calls if self.calls else 0.0

    @property
    def provider(self) -> str:
        """The first word of the target."""
        return self.target.partition("/")[0]

    @property
    def region(self) -> str:
        """Empty where the provider has none."""
        return self.target.split("/", 2)[1]

    @property
    def upstream_model(self) -> str:
        """What the provider calls the model."""
        return self.target.split("/", 2)[2]


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(ProcessReport)


def encode(report: ProcessReport) -> bytes:
    """A report as it is kept."""
    return _encoder.encode(report)


def read(redis_url: str) -> list[ProcessReport] | None:
    """The reports of all living processes, by name; None where Redis does not answer."""
    client: Any = redis.Redis.from_url(redis_url, socket_timeout=_WAIT_SECONDS, socket_connect_timeout=_WAIT_SECONDS)
    try:
        since = clock.now().timestamp() - LIVES_SECONDS
        names = [name.decode() for name in client.zrangebyscore(KEY, since, "+inf")]
        found = client.mget([f"{KEY}:{name}" for name in names]) if names else []
    except redis.RedisError:
        return None
    finally:
        client.close()
    reports = [report for body in found if body is not None and (report := _decode(body)) is not None]
    return sorted(reports, key=lambda report: report.process)


def _decode(body: bytes) -> ProcessReport | None:
    """None for what another version wrote."""
    try:
        return _decoder.decode(body)
    except msgspec.DecodeError:
        return None


def merged(reports: Iterable[ProcessReport]) -> dict[str, Health]:
    """Each reported target over all processes: counts added, the gravest circuit, the last failure."""
    found: dict[str, list[tuple[str, TargetReport]]] = {}
    for report in reports:
        for target in report.targets:
            found.setdefault(target.target, []).append((report.process, target))
    return {name: _together(name, parts) for name, parts in found.items()}


def unreported(target: str) -> Health:
    """A target that nobody has called lately."""
    return _together(target, [])


def _together(name: str, parts: list[tuple[str, TargetReport]]) -> Health:
    reports = [report for _, report in parts]
    latest = max(reports, key=lambda report: report.failed_at, default=TargetReport(name))
    latencies = sorted(milliseconds for report in reports for milliseconds in report.latencies_ms)
    return Health(
        target=name,
        calls=sum(report.calls for report in reports),
        failures=sum(report.failures for report in reports),
        p50_ms=_percentile(latencies, 0.5),
        p95_ms=_percentile(latencies, 0.95),
        circuit=min((report.circuit for report in reports), key=_gravity, default=CLOSED),
        open_seconds=max((report.open_seconds for report in reports), default=0.0),
        last_error=latest.last_error,
        last_status=latest.last_status,
        failed_at=latest.failed_at,
        by_process=tuple((process, _together(name, [("", report)])) for process, report in parts if process),
    )


def _gravity(circuit: str) -> int:
    return _BY_GRAVITY.index(circuit) if circuit in _BY_GRAVITY else len(_BY_GRAVITY)


def _percentile(ordered: list[int], part: float) -> int | None:
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else None

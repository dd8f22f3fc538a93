"""What a gateway counts of its targets, and that its report reaches whoever asks (C-ROUTE-3)."""

from __future__ import annotations

import redis
from django.conf import settings

from catalog import target_health
from catalog.target_health import CLOSED, OPEN, PROBING
from core import clock
from gateway.breaker import Breaker
from gateway.health import Health
from gateway.limits import Limits
from tests.fakes import upstream as fake
from tests.support.gateway import Gateway, wait_for
from upstreams.wire import Target

TARGET = Target("p", "openai", "http://x", "m", region="eu")


class Clock:
    def __init__(self) -> None:
        self.now = 6_000.0

    def __call__(self) -> float:
        return self.now


def test_counts_look_back_a_few_minutes() -> None:
    ticks = Clock()
    health, breaker = Health(ticks), Breaker(Limits(breaker_failures=2, breaker_seconds=10), ticks)
    health.served(TARGET, 0.12)
    ticks.now += 60
    health.failed(TARGET, "server_error", 500, 1.0)
    health.failed(TARGET, "cut", None, None)  # a stream that was counted when it began
    [seen] = health.report("1-a", breaker).targets
    assert (seen.target, seen.calls, seen.failures, seen.latencies_ms) == ("p/eu/m", 2, 2, [120])
    assert (seen.last_error, seen.last_status, seen.circuit) == ("cut", None, CLOSED)
    ticks.now += 240
    [seen] = health.report("1-a", breaker).targets
    assert (seen.calls, seen.failures) == (1, 2)
    ticks.now += 120
    assert health.report("1-a", breaker).targets == []


def test_a_circuit_is_shown_while_it_is_open_and_on_trial() -> None:
    ticks = Clock()
    health, breaker = Health(ticks), Breaker(Limits(breaker_failures=2, breaker_seconds=10), ticks)
    for _ in range(2):
        breaker.failed(TARGET)
        health.failed(TARGET, "server_error", 500, 0.1)
    [seen] = health.report("1-a", breaker).targets
    assert (seen.circuit, seen.open_seconds) == (OPEN, 10.0)
    ticks.now += 11
    assert health.report("1-a", breaker).targets[0].circuit == PROBING
    breaker.succeeded(TARGET)
    assert health.report("1-a", breaker).targets[0].circuit == CLOSED
    breaker.failed(TARGET, at_once=True)
    ticks.now += 3_601
    assert health.report("1-a", breaker).targets == []  # nobody has called it since


def test_a_gateway_reports(gateway: Gateway) -> None:
    bad, good = gateway.upstream.serve(fake.fails(401)), gateway.upstream.serve(fake.answers())
    model = gateway.model(bad, good)
    caller = gateway.caller()
    for _ in range(3):
        assert caller.chat(model).status == 200

    def seen() -> dict[str, target_health.Health]:
        return target_health.merged(target_health.read(settings.REDIS_URL) or [])

    def served() -> int:
        target = seen().get(f"{model}-p1//up-{model}")
        return target.calls if target is not None else 0

    wait_for(lambda: served() == 3)  # a report may be made between two calls
    first, second = seen()[f"{model}-p0//up-{model}"], seen()[f"{model}-p1//up-{model}"]
    assert (first.circuit, first.calls, first.failures, first.last_error, first.last_status) == (
        OPEN, 1, 1, "account", 401
    )  # fmt: skip
    assert (second.circuit, second.calls, second.failures, len(second.by_process)) == (CLOSED, 3, 0, 1)
    assert second.p50_ms is not None


def test_what_another_version_reports_is_passed_over() -> None:
    client = redis.Redis.from_url(settings.REDIS_URL)
    client.set(f"{target_health.KEY}:1-odd", b'{"other": 1}', ex=30)
    client.zadd(target_health.KEY, {"1-odd": clock.now().timestamp()})
    reports = target_health.read(settings.REDIS_URL)
    client.delete(f"{target_health.KEY}:1-odd")
    client.zrem(target_health.KEY, "1-odd")
    client.close()
    assert reports is not None
    assert "1-odd" not in {report.process for report in reports}

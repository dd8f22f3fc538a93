"""Failover and breakers on a clock that the test turns: order, waits, verdicts."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from catalog.entries import TargetEntry
from core.errors import Overloaded, ProductError, TimedOut, UpstreamFailed
from core.ids import uuid7
from gateway.breaker import Breaker
from gateway.failover import CallerLeft, Failover, PassedOn, Trail, cut_short, verdict
from gateway.limits import Limits
from upstreams.errors import (
    AccountRefused,
    ConnectFailed,
    ConnectionLost,
    FirstByteTimedOut,
    ModelMissing,
    PoolBusy,
    ServerFailed,
    TotalTimedOut,
    UnknownHere,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamRefusal,
)
from upstreams.wire import Target, TargetOptions, Timeouts

LIMITS = Limits(breaker_failures=3, breaker_seconds=10, most_breaker_seconds=60)


class World:
    """A clock, the waits that were asked for, and targets that fail as scripted."""

    def __init__(self, *scripts: Sequence[UpstreamError | None], limits: Limits = LIMITS) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self.breaker = Breaker(limits, lambda: self.now)
        self.failover = Failover(
            self.breaker, limits, sleep=self._sleep, jitter=lambda: 0.5, monotonic=lambda: self.now
        )
        self.chain = [entry(f"p{number}") for number in range(len(scripts))]
        self.scripts = {
            target.target.provider: list(script) for target, script in zip(self.chain, scripts, strict=True)
        }
        self.trail = Trail()
        self.gone = False

    async def serve(self) -> str:
        self.trail = Trail()
        return await self.failover.serve(self.chain, self._attempt, self.trail, lambda: self.gone)

    @property
    def asked(self) -> list[str]:
        return [entry.target.provider for entry in self.trail.entries]

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def _attempt(self, target: TargetEntry, timeouts: Timeouts) -> str:
        script = self.scripts[target.target.provider]
        outcome = script.pop(0) if len(script) > 1 else script[0]
        if outcome is not None:
            raise outcome
        return target.target.provider


def entry(provider: str) -> TargetEntry:
    return TargetEntry(uuid7(), Target(provider, "openai", "http://x", "m"), frozenset({"chat"}))


BROKEN = ServerFailed("x", status=500)


async def test_one_retry_a_target_with_growing_care() -> None:
    world = World([BROKEN], [BROKEN], [None])
    assert await world.serve() == "p2"
    assert world.asked == ["p0", "p0", "p1", "p1", "p2"]
    assert world.slept == [0.25, 0.5]  # exponential over the waits of one call


@pytest.mark.parametrize(
    ("error", "asked", "slept"),
    [
        (UpstreamRateLimited("x", status=429, retry_after=3.0), ["p0", "p0", "p1"], [3.125]),
        (UpstreamRateLimited("x", status=429, retry_after=11.0), ["p0", "p1"], []),
        (AccountRefused("x", status=401), ["p0", "p1"], []),
        (FirstByteTimedOut("x"), ["p0", "p1"], []),
        (ConnectFailed("x"), ["p0", "p0", "p1"], [0.25]),
    ],
)
async def test_what_is_tried_again(error: UpstreamError, asked: list[str], slept: list[float]) -> None:
    world = World([error], [None])
    assert await world.serve() == "p1"
    assert (world.asked, world.slept) == (asked, slept)


async def test_the_callers_mistake_ends_it() -> None:
    world = World([UpstreamRefusal("bad field", status=422, param="x", code="c", type="t")], [None])
    with pytest.raises(PassedOn) as passed:
        await world.serve()
    assert (passed.value.status, passed.value.param, passed.value.code, passed.value.type) == (422, "x", "c", "t")
    assert world.asked == ["p0"]


async def test_nothing_is_repeated_for_a_caller_who_left() -> None:
    world = World([BROKEN], [None])
    world.gone = True
    with pytest.raises(CallerLeft):
        await world.serve()
    assert world.asked == ["p0"]


async def test_the_whole_call_has_a_deadline() -> None:
    world = World([BROKEN], limits=Limits(total_seconds=0.2))
    with pytest.raises(UpstreamFailed):
        await world.serve()
    assert (world.asked, world.slept) == (["p0"], [])


async def test_a_target_that_keeps_failing_is_left_out_probed_and_taken_back() -> None:
    world = World([BROKEN], [None])
    await world.serve()
    await world.serve()
    assert world.asked == ["p0", "p1"]  # the third failure opened the circuit: no second try
    await world.serve()
    assert world.asked == ["p1"]
    world.now += 10.1
    await world.serve()
    assert world.asked == ["p0", "p1"]  # one probe
    await world.serve()
    assert world.asked == ["p1"]  # left out for twice as long
    world.now += 15
    await world.serve()
    assert world.asked == ["p1"]
    world.now += 6
    world.scripts["p0"] = [None]
    assert await world.serve() == "p0"
    assert world.breaker.state() == {}


async def test_where_all_are_left_out_one_is_tried_all_the_same() -> None:
    world = World([BROKEN])
    for _ in range(4):
        with pytest.raises(UpstreamFailed):
            await world.serve()
    assert world.asked[:1] == ["p0"]
    world.scripts["p0"] = [None]
    assert await world.serve() == "p0"


def test_one_probe_at_a_time_and_an_abandoned_one_is_given_back() -> None:
    now = 0.0
    breaker, target = Breaker(LIMITS, lambda: now), entry("p").target
    breaker.failed(target, at_once=True)
    assert not breaker.admits(target)
    assert breaker.seconds_left(target) == 10
    now = 10.5
    assert breaker.admits(target)
    assert not breaker.admits(target)
    breaker.released(target)
    assert breaker.admits(target)


def test_old_failures_are_forgotten_and_long_waits_are_believed() -> None:
    now = 0.0
    breaker, target = Breaker(LIMITS, lambda: now), entry("p").target
    for _ in range(10):
        breaker.failed(target)
        now += 61
    assert breaker.admits(target)
    breaker.failed(target, retry_after=40.0)
    assert breaker.seconds_left(target) == 40


@pytest.mark.parametrize(
    ("errors", "kind", "retry_after"),
    [
        ([], Overloaded, "30"),
        ([BROKEN, TotalTimedOut("x")], UpstreamFailed, None),
        ([TotalTimedOut("x"), FirstByteTimedOut("x")], TimedOut, None),
        ([UpstreamRateLimited("x", status=429, retry_after=7.2), PoolBusy("x")], Overloaded, "8"),
        ([ServerFailed("x", status=503)], Overloaded, "5"),
        ([AccountRefused("x", status=429)], UpstreamFailed, None),
        ([UpstreamRateLimited("x", status=429), AccountRefused("x", status=401)], UpstreamFailed, None),
    ],
)
def test_verdicts(errors: list[UpstreamError], kind: type[ProductError], retry_after: str | None) -> None:
    error = verdict(errors)
    assert type(error) is kind
    assert error.headers.get("Retry-After") == retry_after


def test_what_is_told_inside_a_stream() -> None:
    assert type(cut_short(ConnectionLost("x"))) is UpstreamFailed
    assert type(cut_short(TotalTimedOut("x"))) is TimedOut
    assert type(cut_short(UpstreamRateLimited("x", status=429))) is Overloaded
    assert cut_short(UpstreamRefusal("filtered", status=400)).message == "filtered"


async def test_a_target_that_may_be_probed_keeps_its_turn_while_others_serve() -> None:
    world = World([BROKEN, BROKEN, BROKEN, None], [BROKEN, BROKEN, None])
    world.breaker.failed(world.chain[1].target, at_once=True)
    world.now += 11  # it may be probed now
    world.scripts["p0"] = [None]
    assert await world.serve() == "p0"
    world.scripts["p0"], world.scripts["p1"] = [AccountRefused("x", status=401)], [None]
    assert await world.serve() == "p1"  # the call before took nothing from it


async def test_a_model_that_one_target_does_not_know_is_asked_of_the_next() -> None:
    missing = ModelMissing("The model `m` does not exist", status=404)
    world = World([missing], [None])
    assert await world.serve() == "p1"
    assert world.asked == ["p0", "p1"]
    assert await world.serve() == "p1"
    assert world.asked == ["p1"]  # what we gave as its name is wrong until somebody corrects it
    assert world.slept == []


async def test_a_model_that_nobody_knows_is_told_in_the_providers_words() -> None:
    world = World([ModelMissing("The model `m` does not exist", status=404, code="model_not_found")])
    for _ in range(2):
        with pytest.raises(PassedOn) as caught:
            await world.serve()
        assert (caught.value.status, caught.value.code) == (404, "model_not_found")


async def test_another_name_than_ours_does_not_leave_a_target_out() -> None:
    world = World([ModelMissing("model: claude-of-the-caller", status=404)])
    with pytest.raises(PassedOn):
        await world.serve()
    assert world.breaker.seconds_left(world.chain[0].target) == 0


async def test_what_another_target_keeps_is_looked_for_there() -> None:
    world = World([UnknownHere("not found", status=404)], [None])
    assert await world.serve() == "p1"
    world = World([UnknownHere("not found", status=404)], [UnknownHere("nor here", status=400)])
    with pytest.raises(PassedOn, match="not found"):
        await world.serve()
    world = World([BROKEN], [UnknownHere("not found", status=404)])
    with pytest.raises(UpstreamFailed):  # whoever keeps it may be the one that is broken
        await world.serve()


async def test_the_trail_tells_each_attempt() -> None:
    world = World([BROKEN], [None])
    await world.serve()
    assert (
        world.trail.header() == "p0;error=server_error;status=500;ms=0, p0;error=server_error;status=500;ms=0, p1;ms=0"
    )
    assert [step.target for step in world.trail.steps] == ["p0//m", "p0//m", "p1//m"]
    world.trail.broke(ConnectionLost("x"))
    assert world.trail.steps[-1].error == "cut"


async def test_a_target_has_times_of_its_own() -> None:
    seen: list[Timeouts] = []

    async def ask(target: TargetEntry, timeouts: Timeouts) -> str:
        seen.append(timeouts)
        return "served"

    world = World([None])
    own = Target(
        "p",
        "openai",
        "http://x",
        "m",
        options=TargetOptions.from_mapping({"first_byte_seconds": 7, "total_seconds": 9}),
    )
    for target in (own, Target("p", "openai", "http://x", "m")):
        chain = [TargetEntry(uuid7(), target, frozenset({"chat"}))]
        await world.failover.serve(chain, ask, Trail(), lambda: False)
    assert (seen[0].connect_seconds, seen[0].first_byte_seconds, seen[0].idle_seconds) == (5.0, 7.0, 300.0)
    assert (seen[0].total_seconds, seen[1].first_byte_seconds, seen[1].total_seconds) == (9.0, 300.0, 14_400.0)


@pytest.mark.parametrize("value", [0, -1, "5", True, 1e9])
def test_times_of_a_target_are_checked(value: object) -> None:
    with pytest.raises(ValueError, match="idle_seconds"):
        TargetOptions.from_mapping({"idle_seconds": value})

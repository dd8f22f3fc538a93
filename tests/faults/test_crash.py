"""Processes that die: what a caller holds in full is billed once; what broke is logged as interrupted, for nothing.

The cluster is one of its own with fsync on. Nothing in the product helps these tests: a step is held up by whoever it
waits for, an upstream that does not answer or a wallet that somebody else has locked, and then the process is killed.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from billing.models import HoldOwner, SpendMeter
from core import clock
from orgs.models import Membership
from tests.fakes import upstream as fake
from tests.fakes.upstream import Conversation
from tests.support import load
from tests.support.gateway import CREDIT, Caller, in_organization, price_of, wait_for
from tests.support.installation import Installation, beats, kill, look_for_the_dead, own_redis, pending
from tests.support.load import Load, Outcome
from usage import sweep, verify

Figures = Callable[[str], None]

CREDITS = 500
PRICE = price_of(40, 20)
#: A settlement that takes its time holds its answer back, so that a whole answer is always a settled one.
PATIENT = {"GATEWAY_SETTLE_WAIT_SECONDS": "60"}
#: Times of hours, shortened: a process beats five times a second and is dead after eight seconds of silence.
DEAD_SECONDS = 8.0
SHORTENED = {"HOLD_HEARTBEAT_SECONDS": "0.2", "HOLD_OWNER_DEAD_SECONDS": str(DEAD_SECONDS), "SWEEP_SECONDS": "0.5"}


async def never(talk: Conversation) -> None:
    await talk.gone()


async def endless(talk: Conversation) -> None:
    await talk.start()
    while True:
        await talk.chunk("sixteen letters!")
        await talk.pause(0.02)


class Held:
    """A provider that sends all but its last word at once, and that when it is told to."""

    def __init__(self) -> None:
        self.go = threading.Event()

    async def __call__(self, talk: Conversation) -> None:
        if not talk.body.get("stream"):
            await self._told(talk)
            await talk.json(fake.completion("Hello", 40, 20))
            return
        await talk.start()
        await talk.chunk("Hello")
        await self._told(talk)
        await talk.send(fake.event("", finish="stop", usage=fake.usage(40, 20)))
        await talk.send(fake.DONE)
        await talk.end()

    async def _told(self, talk: Conversation) -> None:
        while not self.go.is_set() and not await talk.gone(0.02):
            pass


async def steady(talk: Conversation) -> None:
    """A quick provider whose calls all cost PRICE."""
    if not talk.body.get("stream"):
        await talk.gone(0.05)
        await talk.json(fake.completion("Hello", 40, 20))
        return
    await talk.start()
    for _ in range(5):
        await talk.chunk("some words ")
        await talk.gone(0.02)
    await talk.send(fake.event("", finish="stop", usage=fake.usage(40, 20)))
    await talk.send(fake.DONE)
    await talk.end()


def begin(pool: ThreadPoolExecutor, caller: Caller, model: str, *, stream: bool) -> Any:
    """A call under way; its result is the Outcome."""
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": stream, "max_tokens": 1000}
    return pool.submit(lambda: load.together([load.call(caller.port, caller.secret, body)])[0])


def check_expired(caller: Caller, looks: Any = None) -> None:
    """The call's hold is ended exactly once, at the sixtieth second of stillness, and costs nothing."""
    assert caller.books().holds == ["pending"]
    assert caller.books().balance == CREDITS * CREDIT
    assert list(looks or look_for_the_dead()) == [0, 0, 0, 0, 1, 0]
    books = caller.books()
    assert (books.balance, books.held, books.meter_held, books.spent) == (CREDITS * CREDIT, 0, 0, 0)
    assert (books.holds, books.transfers) == (["expired"], [])
    assert [(row["error_type"], row["status"], row["charged_microcredits"]) for row in books.log] == [
        ("interrupted", 500, 0)
    ]
    assert pending() == 0
    assert verify.verify().findings == ()


@pytest.mark.parametrize("stream", [False, True])
def test_killed_before_it_is_admitted(installation: Installation, stream: bool) -> None:
    server = installation.start()
    route = installation.upstream.serve(steady)
    model, caller = installation.model(route), installation.caller(CREDITS, server)
    with ThreadPoolExecutor(1) as pool:
        with installation.locked(caller):
            call = begin(pool, caller, model, stream=stream)
            installation.wait_for_waiting()
            kill(server)
            assert not call.result().whole
        installation.wait_for_nobody(server)
    books = caller.books()
    assert (books.balance, books.held, books.holds, books.log) == (CREDITS * CREDIT, 0, [], [])
    assert route.calls == 0
    assert verify.verify().findings == ()


@pytest.mark.parametrize("stream", [False, True])
def test_killed_before_the_first_byte(installation: Installation, stream: bool) -> None:
    server = installation.start()
    route = installation.upstream.serve(never)
    model, caller = installation.model(route), installation.caller(CREDITS, server)
    with ThreadPoolExecutor(1) as pool:
        call = begin(pool, caller, model, stream=stream)
        wait_for(lambda: route.calls == 1)
        kill(server)
        assert not call.result().whole
    check_expired(caller)


def test_killed_in_the_middle_of_a_stream(installation: Installation) -> None:
    server = installation.start()
    model, caller = installation.model(endless), installation.caller(CREDITS, server)
    with caller.stream(model, max_tokens=4000) as stream:
        for _ in range(40):  # by then the hold has grown
            assert stream.line()
        kill(server)
    check_expired(caller)


@pytest.mark.parametrize("stream", [False, True])
def test_killed_while_it_settles(installation: Installation, stream: bool, figures: Figures) -> None:
    """The upstream's last byte is there, the settlement waits for the wallet: nobody has been told of an end yet."""
    server = installation.start(**PATIENT)
    held = Held()
    route = installation.upstream.serve(held)
    model, caller = installation.model(route), installation.caller(CREDITS, server)
    with ThreadPoolExecutor(1) as pool:
        call = begin(pool, caller, model, stream=stream)
        wait_for(lambda: route.calls == 1 and caller.books().holds == ["pending"])
        with installation.locked(caller):
            held.go.set()
            installation.wait_for_waiting()
            kill(server)
            outcome = call.result()
        assert not outcome.whole
        assert b"[DONE]" not in outcome.body
        installation.wait_for_nobody(server)
    check_expired(caller)


def test_whoever_is_killed_the_wallet_can_be_used_again(installation: Installation) -> None:
    server, other = installation.start(), installation.start()
    model, caller = installation.model(endless), installation.caller(250, server)
    fine = installation.model(steady)
    with caller.stream(model, max_tokens=4000) as stream:
        assert stream.line()
        kill(server)
    again = Caller(caller.user, caller.workspace, caller.key, caller.secret, other.port)
    assert again.chat(fine).status == 200
    assert sum(look_for_the_dead()) == 1
    assert again.chat(fine, stream=True).events[-1] == "[DONE]"
    books = caller.settled_books(rows=3)
    assert (books.balance, books.held) == (250 * CREDIT - 2 * PRICE, 0)
    assert other.stop() == 0


def test_a_process_that_was_only_stopped_is_charged_late_and_once(installation: Installation) -> None:
    """It looked dead, its hold was given back, and then it served the call after all."""
    server = installation.start(HOLD_HEARTBEAT_SECONDS="0.2", **PATIENT)
    held = Held()
    route = installation.upstream.serve(held)
    model, caller = installation.model(route), installation.caller(CREDITS, server)
    with ThreadPoolExecutor(1) as pool:
        call = begin(pool, caller, model, stream=True)
        wait_for(lambda: route.calls == 1 and caller.books().holds == ["pending"])
        server.process.send_signal(signal.SIGSTOP)
        try:
            check_expired(caller)
            held.go.set()
        finally:
            server.process.send_signal(signal.SIGCONT)
        assert call.result().whole
    books = caller.settled_books(rows=2)
    assert [(row["error_type"], row["late"], row["charged_microcredits"]) for row in books.log] == [
        ("interrupted", False, 0),
        ("", True, PRICE),
    ]
    assert len({row["request_id"] for row in books.log}) == 1
    assert (books.transfers, books.balance, books.held) == ([PRICE], CREDITS * CREDIT - PRICE, 0)
    assert verify.verify().findings == ()
    assert server.stop() == 0


def make_calls(caller: Caller, model: str, ports: list[int]) -> Callable[[random.Random], Any]:
    """One call of a load: whole or streamed, at one of the ports."""

    def make(chances: random.Random) -> Any:
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": chances.random() < 0.5}
        return load.call(chances.choice(ports), caller.secret, body)

    return make


def check_account(caller: Caller, outcomes: list[Outcome]) -> None:
    """Whatever a caller holds in full is logged and charged exactly once; nothing else but what was served is."""
    wait_for(lambda: pending() == 0)
    books = caller.books()
    charged = {}
    for row in books.log:
        if row["charged_microcredits"]:
            assert row["request_id"] not in charged, "charged twice"
            charged[str(row["request_id"])] = row["charged_microcredits"]
    for outcome in outcomes:
        if outcome.whole:
            assert charged.pop(outcome.request_id) == PRICE
    # What is left was served to somebody who did not get to see its end.
    assert len(charged) <= sum(not outcome.whole for outcome in outcomes)
    assert sum(books.transfers) == books.charged
    assert (books.held, books.meter_held) == (0, 0)
    assert verify.verify().findings == ()


def test_gateways_are_killed_under_load(installation: Installation, figures: Figures) -> None:
    servers = [installation.start(**PATIENT) for _ in range(2)]
    model = installation.model(steady)
    caller = installation.caller(CREDITS, servers[0])
    caller.give(10_000 * CREDIT)
    ports = [server.port for server in servers]
    with Load(make_calls(caller, model, ports), callers=12, seed=11) as under_load:
        for number in (0, 1):
            time.sleep(1.0)
            kill(servers[number])
            servers[number] = installation.start(**PATIENT)
            ports[number] = servers[number].port
        time.sleep(0.5)
    interrupted = sum(look_for_the_dead())
    check_account(caller, under_load.outcomes)
    assert {server.stop() for server in servers} == {0}
    log = caller.books().log
    assert sum(row["error_type"] == "interrupted" for row in log) == interrupted
    figures(
        f"gateways killed twice under load: {len(under_load.whole)} of {len(under_load.outcomes)} calls whole, each "
        f"billed once, {interrupted} interrupted"
    )


def test_postgresql_is_killed_under_load(installation: Installation, figures: Figures) -> None:
    server = installation.start(RATE_LIMIT_PER_MINUTE="100000", **PATIENT)
    model = installation.model(steady)
    caller = installation.caller(CREDITS, server)
    caller.give(10_000 * CREDIT)
    with Load(make_calls(caller, model, [server.port]), callers=12, seed=12) as under_load:
        for _ in range(2):
            time.sleep(1.0)
            installation.restart_database()
            at = len(under_load.whole)
            wait_for(lambda at=at: len(under_load.whole) > at + 20, 120)  # type: ignore[misc]
    check_account(caller, under_load.outcomes)
    assert sum(look_for_the_dead()) == 0, "a process that lives was taken for dead, or left a hold behind"
    lost = sum(row["late"] for row in caller.books().log)
    refused = sum(outcome.status == 503 for outcome in under_load.outcomes)
    assert server.stop() == 0
    figures(
        f"PostgreSQL killed twice under load: {len(under_load.whole)} of {len(under_load.outcomes)} calls whole, each "
        f"billed once, {refused} refused while it was away, {lost} holds lost and charged all the same"
    )


def test_a_hold_that_the_database_lost_counts_for_member_and_organization(installation: Installation) -> None:
    """A hold may wait a moment for the disk; a power cut just then takes it, and the call is charged all the same."""
    server = installation.start(GATEWAY_IDLE_SECONDS="120", **PATIENT)
    held = Held()
    route = installation.upstream.serve(held)
    model, caller = installation.model(route), in_organization(installation.caller(0, server))
    caller.give(CREDITS * CREDIT)
    with installation.slow_to_write(), ThreadPoolExecutor(1) as pool:
        call = begin(pool, caller, model, stream=True)
        wait_for(lambda: route.calls == 1 and caller.books().holds == ["pending"])
        installation.restart_database()
        assert caller.books().holds == []
        held.go.set()
        assert call.result().whole
        books = caller.settled_books()
    assert [(row["late"], row["charged_microcredits"]) for row in books.log] == [(True, PRICE)]
    membership = Membership.objects.get(workspace=caller.workspace, user=caller.user)
    spent = dict(SpendMeter.objects.values_list("scope_id", "spent_microcredits"))
    assert [spent[each.pk] for each in (caller.key, membership, caller.workspace)] == [PRICE] * 3
    assert (books.holds, books.held, books.balance) == (["posted"], 0, CREDITS * CREDIT - PRICE)
    assert verify.verify().findings == ()
    assert server.stop() == 0


def test_a_database_that_was_away_is_no_death(installation: Installation) -> None:
    """It was gone for longer than a process may be silent; the calls that were open go on and are charged in order."""
    server = installation.start(GATEWAY_IDLE_SECONDS="120", **SHORTENED, **PATIENT)
    held = Held()
    route = installation.upstream.serve(held)
    model, caller = installation.model(route), installation.caller(CREDITS, server)
    with installation.running("run_cron", **SHORTENED), ThreadPoolExecutor(1) as pool:
        wait_for(lambda: HoldOwner.objects.filter(ended_at=None, seen_beats__gt=0).exists())
        call = begin(pool, caller, model, stream=True)
        wait_for(lambda: route.calls == 1 and caller.books().holds == ["pending"])
        installation.write_to_disk()
        installation.restart_database(seconds_away=DEAD_SECONDS + 1)
        seen = beats()
        wait_for(lambda: beats() > seen + 3)
        time.sleep(DEAD_SECONDS + 1)  # several sweeps, and the limit once more
        assert caller.books().holds == ["pending"]
        held.go.set()
        assert call.result().whole
        [row] = caller.settled_books().log
    assert (row["late"], row["charged_microcredits"]) == (False, PRICE)
    assert server.stop() == 0


def test_a_stream_of_hours_is_never_ended_under_its_caller(installation: Installation, figures: Figures) -> None:
    """Sweeps look at every forty seconds of four hours; the process beats between two of them, as it does in life."""
    server = installation.start(HOLD_HEARTBEAT_SECONDS="0.02", GATEWAY_STEP_OUTPUT_TOKENS="8")
    model, caller = installation.model(endless), installation.caller(CREDITS, server)
    start, hours, looks = time.time(), 4, 0
    with caller.stream(model, max_tokens=4000) as stream:
        assert stream.line()
        moment = clock.now()
        for second in range(0, hours * 3600, 40):
            seen = beats()
            wait_for(lambda seen=seen: beats() > seen)  # type: ignore[misc]
            assert sweep.sweep(moment + timedelta(seconds=second)) == 0
            looks += 1
            assert stream.line()
        assert caller.books().holds == ["pending"]
        extended = caller.books().held
        stream.leave()
    [row] = caller.settled_books().log
    assert (row["client_disconnected"], row["late"], row["error_type"]) == (True, False, "")
    assert extended > price_of(0, 100)
    assert server.stop() == 0
    figures(
        f"a stream of {hours} hours, shortened to {time.time() - start:.0f} seconds: {looks} sweeps looked, "
        f"{row['output_tokens']} tokens in steps of 8, its hold stood to the end"
    )


def test_sigterm_settles_every_open_stream(installation: Installation) -> None:
    speaking = set()

    async def counted(talk: Conversation) -> None:
        await talk.start()
        await talk.chunk("sixteen letters!")
        await talk.taken()
        speaking.add(id(talk))
        while True:
            await talk.chunk("sixteen letters!")
            await talk.pause(0.05)

    server = installation.start(GATEWAY_DRAIN_SECONDS="2")
    model, caller = installation.model(counted), installation.caller(CREDITS, server)
    with ThreadPoolExecutor(20) as pool:
        calls = [begin(pool, caller, model, stream=True) for _ in range(20)]
        wait_for(lambda: len(speaking) == 20 and pending() == 20)
        assert server.stop() == 0
        outcomes = [call.result() for call in calls]
    assert all(b'"overloaded_error"' in outcome.body for outcome in outcomes)
    assert pending() == 0
    books = caller.books()
    assert (books.held, len(books.log), books.holds) == (0, 20, ["posted"] * 20)
    assert {row["error_type"] for row in books.log} == {"overloaded_error"}
    assert all(row["charged_microcredits"] > 0 for row in books.log)
    assert sum(look_for_the_dead()) == 0
    assert verify.verify().findings == ()


def test_redis_is_killed_under_load(installation: Installation, figures: Figures) -> None:
    with own_redis() as redis:
        server = installation.start(REDIS_URL=redis.url, RATE_LIMIT_PER_MINUTE="100000")
        model = installation.model(steady)
        caller = installation.caller(CREDITS, server)
        caller.give(10_000 * CREDIT)
        with Load(make_calls(caller, model, [server.port]), callers=8, seed=13) as under_load:
            time.sleep(1.0)
            redis.kill()
            at = len(under_load.outcomes)
            wait_for(lambda: len(under_load.outcomes) > at + 50)
            redis.start()
            wait_for(lambda: "x-ratelimit-remaining" in under_load.outcomes[-1].headers)
            at = len(under_load.outcomes)
            wait_for(lambda: len(under_load.outcomes) > at + 20)
    assert [outcome.status for outcome in under_load.outcomes] == [200] * len(under_load.outcomes)
    check_account(caller, under_load.outcomes)
    assert "x-ratelimit-remaining" in under_load.outcomes[-1].headers
    assert server.stop() == 0
    figures(f"Redis killed under load: all of {len(under_load.outcomes)} calls served and billed")

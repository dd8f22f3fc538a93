"""Which of equal targets a conversation goes to: always the same one, by what clients really send."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any
from uuid import UUID

import pytest

from catalog.entries import TargetEntry
from catalog.models import Target as TargetRow
from core.ids import uuid7
from gateway import affinity
from gateway.dialects.anthropic_messages import AnthropicMessages
from gateway.dialects.base import Call
from gateway.dialects.openai_chat import DIALECT as CHAT
from gateway.dialects.openai_responses import DIALECT as RESPONSES
from tests.fakes import upstream as fake
from tests.support.gateway import Gateway, wait_for
from upstreams.wire import Target

WORKSPACE = UUID(int=7)


def entry(provider: str, position: int = 0) -> TargetEntry:
    return TargetEntry(uuid7(), Target(provider, "openai", "http://x", "m"), frozenset({"chat"}), position)


def chat(said: str = "Hello", *more: str, **fields: Any) -> Call:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": said}]
    messages += [{"role": "assistant", "content": text} for text in more]
    return CHAT.parse(json.dumps({"model": "m", "messages": messages, **fields}).encode())


def messages(*said: Any, **fields: Any) -> Call:
    turns = [{"role": "user", "content": text} for text in said]
    return AnthropicMessages().parse(json.dumps({"model": "m", "max_tokens": 9, "messages": turns, **fields}).encode())


def responses(**fields: Any) -> Call:
    return RESPONSES.parse(json.dumps({"model": "m", "input": "Hello", **fields}).encode())


def identity(call: Call, workspace: UUID = WORKSPACE, **headers: str) -> bytes:
    raw = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return affinity.identity_of(raw, call, workspace)


def test_only_equal_positions_change_places() -> None:
    first, last = entry("first", 0), entry("last", 30)
    equals = [entry(f"equal{number}", 10) for number in range(4)]
    chain = [first, *equals, last]
    orders = set()
    for number in range(40):
        order = affinity.ordered(chain, {}, chat(f"Question {number}"), WORKSPACE)
        assert (order[0], order[-1]) == (first, last)
        assert sorted(each.target.provider for each in order[1:-1]) == [f"equal{number}" for number in range(4)]
        orders.add(tuple(each.target.provider for each in order))
    assert len(orders) > 4
    assert affinity.has_equals(chain)
    assert not affinity.has_equals([first, last])


def test_conversations_are_spread_evenly_and_a_lost_target_moves_only_its_own() -> None:
    chain = [entry(f"p{number}") for number in range(4)]
    calls = [chat(f"Question {number}") for number in range(400)]
    before = [affinity.ordered(chain, {}, call, WORKSPACE)[0] for call in calls]
    counts = Counter(each.target.provider for each in before)
    assert min(counts.values()) > 60
    after = [affinity.ordered(chain[1:], {}, call, WORKSPACE)[0] for call in calls]
    for was, now in zip(before, after, strict=True):
        assert now is was or was is chain[0]


def test_a_conversation_keeps_its_target_while_it_grows() -> None:
    assert identity(chat("Hello")) == identity(chat("Hello", "Hi.", "Bye."))
    assert identity(chat("Hello")) != identity(chat("Goodbye"))
    assert identity(messages("a", "b")) == identity(messages("a", "b", "c", "d"))


def test_marks_of_caching_and_versions_do_not_move_a_conversation() -> None:
    def block(text: str, **more: Any) -> dict[str, Any]:
        return {"type": "text", "text": text, **more}

    marked = {"cache_control": {"type": "ephemeral"}}
    one = messages([block("a", **marked)], "x", system=[block("x-anthropic-billing-header: v=1"), block("Be.")])
    two = messages([block("a")], "x", "y", system=[block("x-anthropic-billing-header: v=2"), block("Be.", **marked)])
    assert identity(one) == identity(two)


@pytest.mark.parametrize(
    "name", ["x_session_affinity", "x_session_id", "x_claude_code_session_id", "session_id", "thread_id"]
)
def test_a_session_header_names_the_conversation(name: str) -> None:
    assert identity(chat("one"), WORKSPACE, **{name: "s1"}) == identity(chat("two"), WORKSPACE, **{name: "s1"})
    assert identity(chat("one"), WORKSPACE, **{name: "s1"}) != identity(chat("one"), WORKSPACE, **{name: "s2"})


def test_members_that_name_the_conversation() -> None:
    assert identity(chat("one", prompt_cache_key="k")) == identity(chat("two", prompt_cache_key="k"))
    assert identity(chat("one", prompt_cache_key="k")) != identity(chat("one", prompt_cache_key="l"))
    assert identity(chat("one", prompt_cache_key="k"), x_session_id="1") == identity(chat("", prompt_cache_key="k"))
    user = {"metadata": {"user_id": '{"session_id":"s"}'}}
    assert identity(messages("one", **user)) == identity(messages("two", **user))
    assert identity(messages("one", metadata={"user_id": ""})) == identity(messages("one", metadata="odd"))


def test_what_goes_on_from_a_kept_response_finds_where_it_is_kept() -> None:
    kept = identity(responses(input="first"))
    assert identity(responses(input="second", previous_response_id="resp_1")) == kept
    assert identity(responses(input="second", previous_response_id="resp_1", store=False)) == kept
    assert identity(responses(input="first", store=False)) != kept
    assert identity(responses(input="first"), UUID(int=8)) != kept


def test_workspaces_never_share_a_conversation() -> None:
    call = chat("Hello", prompt_cache_key="k")
    assert identity(call, UUID(int=1)) != identity(call, UUID(int=2))


def test_equal_targets_share_the_conversations(gateway: Gateway) -> None:
    routes = [gateway.upstream.serve(fake.answers()) for _ in range(3)]
    model = gateway.new_model(*routes)
    TargetRow.objects.filter(model__slug=model).update(position=5)
    gateway.until_known(model)
    caller = gateway.caller()

    def serving(session: str) -> str:
        reply = caller.chat(model, headers={"x_session_id": session})
        assert reply.status == 200
        return reply.headers["x-hypereal-provider"]

    wait_for(lambda: len({serving(f"w{number}") for number in range(8)}) > 1)  # until the new positions are known
    chosen = {f"s{number}": serving(f"s{number}") for number in range(12)}
    assert len(set(chosen.values())) > 1
    assert {session: serving(session) for session in chosen} == chosen


def test_health_goes_before_affinity(gateway: Gateway) -> None:
    routes = [gateway.upstream.serve(fake.fails(401)), gateway.upstream.serve(fake.answers())]
    model = gateway.new_model(*routes)
    TargetRow.objects.filter(model__slug=model).update(position=5)
    gateway.until_known(model)
    caller = gateway.caller()
    replies = [caller.chat(model, headers={"x_session_id": f"s{number}"}) for number in range(8)]
    assert {reply.headers["x-hypereal-provider"] for reply in replies} == {f"{model}-p1"}
    assert routes[0].calls == 1  # left out from its first refusal on, whoever would belong there

"""Hypereal Cache: where breakpoints stand, and that nothing beside them changes (C-MSG-4)."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cache import BILLING_HEADER, MOST_BREAKPOINTS, Placed, place

MARK = {"type": "ephemeral"}
Json = dict[str, Any]


def fields_of(request: Json) -> dict[str, msgspec.Raw]:
    return msgspec.json.decode(json.dumps(request).encode(), type=dict[str, msgspec.Raw])


def placed(request: Json) -> tuple[Json, Placed]:
    result = place(fields_of(request))
    return json.loads(msgspec.json.encode(result.fields)), result


def text(words: str = "hi", **more: Any) -> Json:
    return {"type": "text", "text": words, **more}


def user(*content: Json | str) -> Json:
    said = content[0] if len(content) == 1 and isinstance(content[0], str) else list(content)
    return {"role": "user", "content": said}


def assistant(*content: Json) -> Json:
    return {"role": "assistant", "content": list(content) or "ok"}


def marks(request: Any, path: str = "") -> list[str]:
    """Where breakpoints stand."""
    if isinstance(request, dict):
        own = [path] if request.get("cache_control") is not None else []
        return own + [found for name, value in request.items() for found in marks(value, f"{path}/{name}")]
    if isinstance(request, list):
        return [found for at, value in enumerate(request) for found in marks(value, f"{path}/{at}")]
    return []


def turn(at: int) -> str:
    """Where the breakpoint of a message with one block stands."""
    return f"/messages/{at}/content/0"


RESULT = {"type": "tool_result", "tool_use_id": "t", "content": "25"}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "s"}


@pytest.mark.parametrize(
    ("request_", "where"),
    [
        ({"messages": [user("hi")]}, [turn(0)]),
        ({"messages": [user(text("a"), text("b"))]}, ["/messages/0/content/1"]),
        ({"messages": [user(text("a"), text(" \n"), text(""))]}, [turn(0)]),
        ({"messages": [user(" ")]}, []),
        ({"messages": [user("1"), assistant(), user("2"), assistant(), user("3")]}, [turn(2), turn(4)]),
        ({"messages": [user("1"), assistant(), user("2"), user("3")]}, [turn(0), turn(3)]),
        ({"messages": [user("1"), assistant(), user("2"), user(" ")]}, [turn(0), turn(2)]),
        ({"messages": [user("1"), assistant(text("prefill"))]}, [turn(0)]),
        ({"messages": [user("1"), assistant(THOUGHT, text("x")), user(RESULT)]}, [turn(0), turn(2)]),
        ({"messages": [user({"type": "image", "source": {"type": "url", "url": "u"}})]}, [turn(0)]),
        ({"messages": [user(text("a"), {"type": "something_new"})]}, [turn(0)]),
        ({"messages": [assistant()]}, []),
        ({"messages": [user("x")], "system": "be brief"}, ["/system/0", turn(0)]),
        ({"messages": [user("x")], "system": ""}, [turn(0)]),
        ({"messages": [user("x")], "system": [text("a"), text("b"), text("")]}, ["/system/1", turn(0)]),
        ({"messages": [user("x")], "system": [text(f"{BILLING_HEADER}: v=1")]}, [turn(0)]),
        ({"messages": [user("x")], "system": f"{BILLING_HEADER}: v=1"}, [turn(0)]),
        ({"messages": [user("x")], "system": [text(f"{BILLING_HEADER}: v=1"), text("a")]}, ["/system/1", turn(0)]),
        ({"messages": [user("x")], "tools": [{"name": "a"}, {"name": "b"}]}, ["/tools/1", turn(0)]),
        ({"messages": [user("x")], "tools": [{"name": "a"}, {"name": "b", "defer_loading": 1}]}, ["/tools/0", turn(0)]),
        ({"messages": [user("x")], "tools": [{"name": "a", "defer_loading": True}]}, [turn(0)]),
        ({"messages": [user("x")], "tools": [{"name": "a"}, {"type": "mcp_toolset"}]}, ["/tools/0", turn(0)]),
        ({"messages": [user("x")], "tools": []}, [turn(0)]),
        ({"messages": [user(text("a", cache_control=None))], "cache_control": None}, [turn(0)]),
    ],
    ids=str,
)  # fmt: skip
def test_places(request_: Json, where: list[str]) -> None:
    sent, result = placed(request_)
    assert sorted(marks(sent)) == sorted(where)
    assert (result.breakpoints, result.own) == (len(where), False)


@pytest.mark.parametrize(
    "request_",
    [
        {"messages": [user("x")], "cache_control": MARK},
        {"messages": [user("x")], "tools": [{"name": "a", "cache_control": MARK}]},
        {"messages": [user("x")], "system": [text("a", cache_control={"type": "ephemeral", "ttl": "1h"}), text("b")]},
        {"messages": [user(text("x", cache_control=MARK)), assistant(), user("y")]},
        {"messages": [user("x"), assistant(text("y", cache_control=MARK)), user("y")]},
        {"messages": [user({**RESULT, "content": [text("x", cache_control=MARK)]})]},
        {"messages": [user({"type": "document", "source": {"content": [text(cache_control=MARK)]}})]},
    ],
    ids=str,
)  # fmt: skip
def test_who_brings_breakpoints_is_left_alone(request_: Json) -> None:
    fields = fields_of(request_)
    assert place(fields) == Placed(fields, 0, own=True)


def test_a_word_spelled_with_escapes_is_the_same_word() -> None:
    block = b'{"type":"text","text":"x","cache\\u005fcontrol":{"type":"ephemeral"}}'
    body = b'{"messages":[{"role":"user","content":[' + block + b"]}]}"
    assert place(msgspec.json.decode(body, type=dict[str, msgspec.Raw])).own


def test_the_word_in_a_text_or_a_schema_is_no_breakpoint() -> None:
    schema = {"properties": {"cache_control": {"type": "string"}}}
    request = {"messages": [user('"cache_control": 1')], "tools": [{"name": "a", "input_schema": schema}]}
    sent, result = placed(request)
    assert (result.breakpoints, result.own) == (2, False)
    assert sent["tools"][0]["input_schema"] == schema


@pytest.mark.parametrize(
    "request_",
    [
        {"messages": "hi"},
        {"messages": [1]},
        {"messages": [{"role": "user", "content": [1]}]},
        {"messages": [{"role": "user", "content": 5}]},
        {"messages": [user("x")], "tools": {"a": 1}},
        {"messages": [user("x")], "tools": [1]},
        {"messages": [user("x")], "system": 5},
        {"messages": [user("x")], "system": ["cache_control"]},
        {},
    ],
    ids=str,
)
def test_what_is_built_in_another_way_is_left_alone(request_: Json) -> None:
    fields = fields_of(request_)
    assert place(fields) == Placed(fields, 0)


def test_bytes_beside_a_breakpoint_stay() -> None:
    blank, spoken = b'{"type":"text","text":" "}', b'{"role":"assistant","content":"\\/"}'
    first, last = b'"a":1e0,"type":"text","text":"\\u00e9"', b'"\\u0041\\u2028 b"'
    body = (
        b'{"messages" : [ {"role":"user", "content":[ {' + first + b"} , " + blank + b"] }, "
        + spoken + b',{"role":"user","content":' + last + b"}]}"
    )  # fmt: skip
    mark = b',"cache_control":{"type":"ephemeral"}'
    sent = msgspec.json.encode(place(msgspec.json.decode(body, type=dict[str, msgspec.Raw])).fields)
    assert sent == (
        b'{"messages":[{"role":"user","content":[{' + first + mark + b"}," + blank + b"]},"
        + spoken + b',{"role":"user","content":[{"type":"text","text":' + last + mark + b"}]}]}"
    )  # fmt: skip


def test_a_conversation_that_goes_on_finds_what_it_wrote() -> None:
    """What one call marks at its end, the next call marks as well: that is where it reads from."""
    first = {"system": "s", "messages": [user("1")]}
    then = {"system": "s", "messages": [user("1"), assistant(text("a")), user("2")]}
    assert set(marks(placed(first)[0])) <= set(marks(placed(then)[0]))


blocks = st.one_of(
    st.builds(text, st.text(max_size=4)),
    st.builds(lambda words: text(words, cache_control=None), st.text(max_size=4)),
    st.sampled_from([RESULT, THOUGHT, {"type": "redacted_thinking", "data": "x"}, {"type": "image"}, {"type": "new"}]),
    st.just({**RESULT, "content": [text("inner")]}),
)
messages = st.builds(
    lambda role, content: {"role": role, "content": content},
    st.sampled_from(["user", "assistant", "system"]),
    st.one_of(st.text(max_size=4), st.lists(blocks, max_size=4)),
)
tools = st.builds(
    lambda name, more: {"name": name, **more},
    st.text(max_size=3),
    st.sampled_from([{}, {"defer_loading": True}, {"defer_loading": False}, {"type": "mcp_toolset"}, {"strict": True}]),
)
requests = st.fixed_dictionaries(
    {"messages": st.lists(messages, max_size=8)},
    optional={
        "tools": st.lists(tools, max_size=4),
        "system": st.one_of(st.text(max_size=5), st.lists(st.builds(text, st.text(max_size=5)), max_size=3)),
        "metadata": st.just({"user_id": "u"}),
    },
)


@given(requests)
def test_any_request_keeps_its_meaning_and_its_bounds(request_: Json) -> None:
    sent, result = placed(request_)
    where = marks(sent)
    assert len(where) == result.breakpoints <= MOST_BREAKPOINTS
    assert sum(path.startswith("/messages") for path in where) <= 2
    for path in where:
        block = at(sent, path)
        assert block["cache_control"] == MARK
        assert block.get("type") not in ("thinking", "redacted_thinking", "mcp_toolset", "new")
        assert not block.get("defer_loading")
        assert block.get("type") != "text" or block["text"].strip()
        if path.startswith("/messages"):
            assert sent["messages"][int(path.split("/")[2])]["role"] == "user"
    assert plain(sent) == plain(request_)


def at(value: Any, path: str) -> Any:
    for step in path.split("/")[1:]:
        value = value[int(step)] if isinstance(value, list) else value[step]
    return value


def plain(request: Json) -> Json:
    """The request without breakpoints, every plain text as the block that it stands for."""
    rest = json.loads(json.dumps(request))
    for holder, name in [(rest, "system"), *((message, "content") for message in rest["messages"])]:
        if isinstance(holder.get(name), str):
            holder[name] = [text(holder[name])]
    return unmarked(rest)


def unmarked(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: unmarked(part) for name, part in value.items() if name != "cache_control"}
    return [unmarked(part) for part in value] if isinstance(value, list) else value

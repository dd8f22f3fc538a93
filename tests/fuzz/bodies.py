"""Request bodies for a gateway to choke on: JSON of any shape, good bodies with something wrong, and no JSON."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

MODEL = "the model"
_TOOL = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

#: A body with most of what its format knows, by the path of the endpoint.
GOOD: dict[str, dict[str, Any]] = {
    "chat/completions": {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [
                {"type": "text", "text": "Look"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{_PIXEL}"}},
            ]},
            {"role": "assistant", "content": None, "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Lahore"}'}},
            ]},
            {"role": "tool", "tool_call_id": "call_1", "content": "sun"},
        ],
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": _TOOL}}],
        "tool_choice": "auto",
        "max_completion_tokens": 100,
        "max_tokens": 100,
        "n": 1,
        "stream": False,
        "stream_options": None,
        "stop": ["x"],
        "temperature": 0.5,
        "reasoning_effort": "low",
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": _TOOL}},
        "service_tier": None,
        "intent": "",
        "hypereal": {"cache": True},
        "user": "u",
    },
    "messages": {
        "model": MODEL,
        "max_tokens": 100,
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "Look"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": _PIXEL}},
            ]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
                {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Lahore"}},
            ]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "sun"}]},
        ],
        "tools": [{"name": "weather", "input_schema": _TOOL}, {"type": "bash_20250124", "name": "bash"}],
        "tool_choice": {"type": "auto"},
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "context_management": {"edits": [{"type": "clear_thinking_20251015"}]},
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": _TOOL}},
        "metadata": {"user_id": "u"},
        "stop_sequences": ["x"],
        "stream": False,
        "service_tier": "auto",
        "hypereal": {"cache": True},
    },
    "responses": {
        "model": MODEL,
        "instructions": "Be brief.",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "Look"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "abc"},
            {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "weather", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_1", "output": "sun"},
        ],
        "tools": [
            {"type": "function", "name": "weather", "parameters": _TOOL, "strict": False},
            {"type": "namespace", "name": "apps", "tools": [{"type": "function", "name": "x"}]},
        ],
        "tool_choice": "auto",
        "max_output_tokens": 100,
        "reasoning": {"effort": "low", "summary": "auto"},
        "text": {"format": {"type": "text"}, "verbosity": "low"},
        "include": ["reasoning.encrypted_content"],
        "store": False,
        "stream": False,
        "background": False,
        "previous_response_id": None,
        "prompt_cache_key": "k",
        "client_metadata": {"a": "b"},
        "service_tier": None,
    },
    "generateContent": {
        "contents": [
            {"role": "user", "parts": [{"text": "Look"}, {"inlineData": {"mimeType": "image/png", "data": _PIXEL}}]},
            {"role": "model", "parts": [
                {"functionCall": {"id": "c1", "name": "weather", "args": {"city": "Lahore"}}, "thoughtSignature": "c2"},
            ]},
            {"role": "user", "parts": [{"functionResponse": {"id": "c1", "name": "weather", "response": {"a": 1}}}]},
        ],
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "tools": [{"functionDeclarations": [{"name": "weather", "parametersJsonSchema": _TOOL}]}],
        "toolConfig": {"functionCallingConfig": {"mode": "AUTO", "allowedFunctionNames": ["weather"]}},
        "generationConfig": {
            "maxOutputTokens": 100, "stopSequences": ["x"], "responseMimeType": "application/json",
            "responseJsonSchema": _TOOL, "thinkingConfig": {"includeThoughts": True, "thinkingBudget": 5},
        },
    },
    "embeddings": {
        "model": MODEL,
        "input": ["two", "texts"],
        "encoding_format": "base64",
        "dimensions": 2,
        "user": "u",
    },
}  # fmt: skip
GOOD["messages/count_tokens"] = GOOD["messages"]

#: Any text, lone surrogates too: JSON can say them.
_texts = st.text(max_size=12)
_numbers = (
    st.integers(-(2**70), 2**70)
    | st.sampled_from([0, -1, 1, 2**31, 2**53 + 1, 10**30, 0.1, 1e308, -0.0])
    | st.floats(allow_nan=True, allow_infinity=True)
)
_scalars = st.none() | st.booleans() | _numbers | _texts
#: Values, as deep as time allows; now and then far deeper than any parser likes.
values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=12,
) | st.integers(50, 3000).map(lambda depth: _Deep(depth))


class _Deep(str):
    """Stands for arrays within each other, which Python's encoder could not write."""

    def __new__(cls, depth: int) -> _Deep:
        made = super().__new__(cls, f"\0deep{depth}\0")
        made.depth = depth
        return made

    depth: int


def encoded(value: Any) -> bytes:
    """The body of a value, with NaN and all else that Python would let through."""
    text = json.dumps(value)
    head, mark, rest = text.partition('"\\u0000deep')
    while mark:
        depth, _, rest = rest.partition('\\u0000"')
        inner, mark, rest_of_all = rest.partition('"\\u0000deep')
        head += "[" * int(depth) + "]" * int(depth) + inner
        rest = rest_of_all
    return head.encode()


def bodies(endpoint: str) -> st.SearchStrategy[bytes]:
    """Bodies for one endpoint: mostly good ones with a few things wrong."""
    good = GOOD[endpoint]
    names = st.sampled_from(sorted(good))
    loose = st.dictionaries(names | _texts, values, max_size=6).map(lambda made: {"model": MODEL, **made})
    return st.one_of(
        mutations(good).map(encoded),
        mutations(good).map(encoded),
        loose.map(encoded),
        values.map(encoded),
        st.tuples(mutations(good).map(encoded), st.integers(0, 1500)).map(lambda cut: cut[0][: cut[1]]),
        st.binary(max_size=60),
    )


@st.composite
def mutations(draw: st.DrawFn, good: dict[str, Any]) -> Any:
    """A good body in which up to three places hold something else, or nothing."""
    body = copy.deepcopy(good)
    for _ in range(draw(st.integers(0, 3))):
        places = list(_places(body))
        holder, key = draw(st.sampled_from(places))
        if draw(st.booleans()) or isinstance(holder, list):
            holder[key] = draw(values)
        else:
            del holder[key]
        if not body:
            break
    return body


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every member and item, at any depth, as its holder and its key there."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(members):
        yield value, key
        yield from _places(inner)

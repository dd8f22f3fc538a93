"""A Gemini-native request as a chat completions request. Pure.

Both spellings of members are understood, as Google's parser has it. What OpenAI's format lacks goes where Google's own
OpenAI-compatible endpoint has it (``extra_body.google``, ``extra_content.google``); server tools are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from upstreams import loose_json
from upstreams.gemini_from_chat import BUDGETS, CONFIG, cannot

JsonObject = dict[str, Any]

_FREE_TOOLS: Final = ("functionDeclarations", "function_declarations")
_SOUNDS: Final = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mp3": "mp3", "audio/mpeg": "mp3"}
_MODES: Final = {"NONE": "none", "AUTO": "auto", "VALIDATED": "auto", "ANY": "required"}
_LEVELS: Final = {"MINIMAL": "minimal", "LOW": "low", "MEDIUM": "medium", "HIGH": "high"}


def request(fields: Mapping[str, Any]) -> JsonObject:
    """The body for a target that speaks chat completions, but for its model. Raises UnknownHere for what can't be."""
    messages = [*_system(get(fields, "systemInstruction")), *_messages(fields.get("contents"))]
    body: JsonObject = {"messages": messages, **_config(get(fields, "generationConfig"))}
    if tools := list(_tools(fields.get("tools"))):
        body["tools"] = tools
        if choice := _tool_choice(get(fields, "toolConfig")):
            body["tool_choice"] = choice
    if settings := get(fields, "safetySettings"):
        body["extra_body"] = {"google": {"safety_settings": settings}}
    tier = get(fields, "serviceTier")
    if isinstance(tier, str) and tier.lower() not in ("standard", "unspecified", ""):
        body["service_tier"] = tier.lower()
    return body


def get(fields: Any, name: str) -> Any:
    """A member under either spelling, None where there is none of it."""
    if not isinstance(fields, Mapping):
        return None
    snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
    value = fields.get(name)
    return value if value is not None else fields.get(snake)


# ── contents ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def _system(instruction: Any) -> list[JsonObject]:
    text = instruction if isinstance(instruction, str) else "\n".join(_texts(instruction))
    return [{"role": "system", "content": text}] if text else []


def _texts(content: Any) -> Iterator[str]:
    for part in _parts(content):
        if isinstance(part.get("text"), str):
            yield part["text"]


def _parts(content: Any) -> list[JsonObject]:
    parts = content.get("parts") if isinstance(content, dict) else None
    listed = parts if isinstance(parts, list) else [parts]
    return [part for part in listed if isinstance(part, dict)]


def _messages(contents: Any) -> Iterator[JsonObject]:
    pending: list[tuple[str, str]] = []  # calls that wait for their result: id and name
    made = 0
    for place, content in enumerate(contents if isinstance(contents, list) else [contents]):
        parts, param = _parts(content), f"contents[{place}]"
        if not isinstance(content, dict):
            raise cannot("This kind of content", param)
        if content.get("role") == "model":
            message = _assistant(parts, made, param)
            calls = message.get("tool_calls", ())
            made += len(calls)
            pending = [(call["id"], call["function"]["name"]) for call in calls]
            yield message
            continue
        rest: list[JsonObject] = []
        for number, part in enumerate(parts):
            response = get(part, "functionResponse")
            if isinstance(response, dict):
                yield _tool(response, pending)
                rest += [_user_part(inner, param) for inner in _parts(response)]
            else:
                rest.append(_user_part(part, f"{param}.parts[{number}]"))
        if rest or not parts:
            yield {"role": "user", "content": _joined(rest)}


def _joined(parts: list[JsonObject]) -> str | list[JsonObject]:
    """One text stands by itself, which every upstream understands."""
    if len(parts) == 1 and parts[0]["type"] == "text":
        return str(parts[0]["text"])
    return parts or ""


def _user_part(part: JsonObject, param: str) -> JsonObject:
    if isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    data, link = get(part, "inlineData"), get(part, "fileData")
    if isinstance(data, dict):
        kind, encoded = str(get(data, "mimeType") or ""), str(data.get("data") or "")
        if kind in _SOUNDS:
            return {"type": "input_audio", "input_audio": {"data": encoded, "format": _SOUNDS[kind]}}
        return _media(f"data:{kind};base64,{encoded}", kind)
    if isinstance(link, dict) and isinstance(get(link, "fileUri"), str):
        return _media(get(link, "fileUri"), str(get(link, "mimeType") or "image/"))
    raise cannot("This kind of part", param)


def _media(url: str, kind: str) -> JsonObject:
    if kind.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": url}}
    return {"type": "file", "file": {"file_data": url}}


def _assistant(parts: list[JsonObject], made: int, param: str) -> JsonObject:
    """``made``: how many calls came before, so that those without an id get one of their own."""
    message: JsonObject = {"role": "assistant", "content": None}
    texts: dict[str, str] = {}
    images: list[JsonObject] = []
    calls: list[JsonObject] = []
    for number, part in enumerate(parts):
        call, data = get(part, "functionCall"), get(part, "inlineData")
        signature = get(part, "thoughtSignature")
        if isinstance(call, dict):
            calls.append(tool_call(call, signature, f"call_{made + len(calls)}"))
        elif isinstance(part.get("text"), str):
            name = "reasoning_content" if part.get("thought") else "content"
            texts[name] = texts.get(name, "") + part["text"]
            if signature and name == "content":
                message["extra_content"] = {"google": {"thought_signature": signature}}
        elif isinstance(data, dict):
            images.append(_user_part(part, param))
        else:
            raise cannot("This kind of part", f"{param}.parts[{number}]")
    message |= texts
    if calls:
        message["tool_calls"] = calls
    if images:
        message["images"] = images
    if message["content"] is None and not calls:
        message["content"] = ""
    return message


def tool_call(call: JsonObject, signature: Any, otherwise: str) -> JsonObject:
    """A function call as a tool call. ``otherwise``: the id of one that bears none."""
    args = call.get("args")
    function = {
        "name": str(call.get("name") or ""),
        "arguments": loose_json.encode(args or {}).decode("utf-8", "replace"),
    }
    made: JsonObject = {"id": str(call.get("id") or otherwise), "type": "function", "function": function}
    return {**made, "extra_content": {"google": {"thought_signature": signature}}} if signature else made


def _tool(response: JsonObject, pending: list[tuple[str, str]]) -> JsonObject:
    """A function's result for the call that it answers: by id, else the first of that name, else the first."""
    name, given = str(response.get("name") or ""), response.get("id")
    match = next((call for call in pending if given in (None, "") and call[1] == name), None)
    match = match or next(iter(pending), None)
    call_id = str(given) if given not in (None, "") else match[0] if match else f"call_{name}"
    pending[:] = [call for call in pending if call[0] != call_id]
    told = response.get("response")
    only = told.get("output") if isinstance(told, dict) and set(told) == {"output"} else None
    text = only if isinstance(only, str) else loose_json.encode(told).decode("utf-8", "replace")
    return {"role": "tool", "tool_call_id": call_id, "content": text}


# ── everything beside contents ───────────────────────────────────────────────────────────────────────────────────────
def _config(config: Any) -> JsonObject:
    if not isinstance(config, dict):
        return {}
    body = {ours: get(config, theirs) for ours, theirs in CONFIG.items() if get(config, theirs) is not None}
    if (ceiling := get(config, "maxOutputTokens")) is not None:
        body["max_tokens"] = ceiling
    if stops := get(config, "stopSequences"):
        body["stop"] = stops
    modalities = get(config, "responseModalities")
    if isinstance(modalities, list) and [str(word).upper() for word in modalities] != ["TEXT"]:
        body["modalities"] = [str(word).lower() for word in modalities]
    if wanted := _answer_format(config):
        body["response_format"] = wanted
    if effort := _effort(get(config, "thinkingConfig")):
        body["reasoning_effort"] = effort
    return body


def _answer_format(config: JsonObject) -> JsonObject:
    if get(config, "responseMimeType") != "application/json":
        return {}
    schema = get(config, "responseJsonSchema")
    if schema is None and isinstance(get(config, "responseSchema"), dict):
        schema = json_schema(get(config, "responseSchema"))
    if not isinstance(schema, dict):
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def json_schema(schema: Any) -> Any:
    """A schema in Google's dialect of OpenAPI as JSON Schema: types in lower case, ``nullable`` as a type."""
    if isinstance(schema, list):
        return [json_schema(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made: JsonObject = {}
    for name, value in schema.items():
        if name == "properties" and isinstance(value, dict):
            made[name] = {inner: json_schema(part) for inner, part in value.items()}
        elif name in ("items", "anyOf", "any_of"):
            made["anyOf" if name == "any_of" else name] = json_schema(value)
        elif name == "type" and isinstance(value, str):
            made[name] = value.lower()
        elif name not in ("nullable", "propertyOrdering", "property_ordering"):
            made[name] = value
    if schema.get("nullable") and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    return made


def _effort(thinking: Any) -> str:
    """The word for a thinking level, or the smallest whose budget is enough; none where the model shall decide."""
    level = get(thinking, "thinkingLevel")
    if isinstance(level, str) and level.upper() in _LEVELS:
        return _LEVELS[level.upper()]
    budget = get(thinking, "thinkingBudget")
    if isinstance(budget, bool) or not isinstance(budget, int) or budget < 0:
        return ""
    return next((word for word, most in BUDGETS.items() if budget <= most), "xhigh")


def _tools(tools: Any) -> Iterator[JsonObject]:
    for place, tool in enumerate(tools if isinstance(tools, list) else [tools]):
        for member, value in tool.items() if isinstance(tool, dict) else ():
            if member not in _FREE_TOOLS:
                if value is not None:
                    raise cannot("This tool", f"tools[{place}].{member}")
                continue
            for declared in value if isinstance(value, list) else ():
                yield _function(declared)


def _function(declared: Any) -> JsonObject:
    function = {name: declared[name] for name in ("name", "description") if get(declared, name) is not None}
    parameters = get(declared, "parametersJsonSchema")
    if parameters is None and get(declared, "parameters") is not None:
        parameters = json_schema(declared["parameters"])
    return {
        "type": "function",
        "function": {**function, **({"parameters": parameters} if parameters is not None else {})},
    }


def _tool_choice(config: Any) -> str | JsonObject | None:
    calling = get(config, "functionCallingConfig")
    word = get(calling, "mode")
    mode = _MODES.get(word.upper()) if isinstance(word, str) else None
    names = get(calling, "allowedFunctionNames")
    named = [{"type": "function", "function": {"name": name}} for name in names] if isinstance(names, list) else []
    if mode == "required" and len(named) == 1:
        return named[0]
    if mode in ("required", "auto") and named:
        return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": named}}
    return mode

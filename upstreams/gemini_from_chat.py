"""A chat completions request in Gemini's own format. Pure.

What Gemini has no word for and what changes nothing about the answer's meaning (``user``, ``store``, ``logit_bias``) is
left out; what it can't do is refused. Members under ``extra_body.google`` are Google's own way to say in OpenAI's
format what that lacks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from upstreams import loose_json
from upstreams.errors import UnknownHere

JsonObject = dict[str, Any]

#: Thinking budgets in tokens for the words of ``reasoning_effort``, as Google's own endpoint has them.
BUDGETS: Final = {"none": 0, "minimal": 512, "low": 1024, "medium": 8192, "high": 24576, "xhigh": 32768}
#: Members of ``generationConfig`` that only have another name.
CONFIG: Final = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "n": "candidateCount",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
    "logprobs": "responseLogprobs",
    "top_logprobs": "logprobs",
}
_DATA_URL: Final = re.compile(r"data:([\w.+/-]*)(?:;[^,;]*)*;base64,", re.ASCII)
_IMAGE_TYPES: Final = {"png": "png", "jpg": "jpeg", "jpeg": "jpeg", "webp": "webp", "gif": "gif", "heic": "heic"}
_TOOL_TURNS: Final = ("tool", "function")


def cannot(what: str, param: str) -> UnknownHere:
    """The error for what a target of another format can't be asked: a target of the caller's own may do it."""
    message = f"{what} can't be passed on to the provider that serves this model."
    return UnknownHere(message, status=400, param=param, code="not_convertible")


def request(fields: Mapping[str, Any]) -> JsonObject:
    """The body for a Gemini-native target. Raises UnknownHere for what can't be said there."""
    messages = fields.get("messages")
    if not isinstance(messages, list):
        raise cannot("This kind of messages", "messages")
    for name in ("web_search_options", "audio"):
        if fields.get(name) is not None:
            raise cannot("This", name)
    body: JsonObject = {"contents": list(_contents(messages))}
    if system := [
        part for message in messages if _role(message) in ("system", "developer") for part in _texts(message)
    ]:
        body["systemInstruction"] = {"parts": system}
    if config := _config(fields):
        body["generationConfig"] = config
    if tools := list(_tools(fields)):
        body["tools"] = [{"functionDeclarations": tools}]
    if choice := _tool_config(fields.get("tool_choice") or _older_choice(fields.get("function_call"))):
        body["toolConfig"] = {"functionCallingConfig": choice}
    if settings := fields.get("safety_settings") or google_extra(fields).get("safety_settings"):
        body["safetySettings"] = settings
    tier = fields.get("service_tier")
    if isinstance(tier, str) and tier not in ("auto", "default", ""):
        body["serviceTier"] = tier
    return body


def google_extra(fields: Mapping[str, Any]) -> JsonObject:
    """What stands under ``extra_body.google``, or under the ``extra_content.google`` of a message."""
    for name in ("extra_body", "extra_content"):
        extra = fields.get(name)
        inner = extra.get("google") if isinstance(extra, dict) else None
        if isinstance(inner, dict):
            return inner
    return {}


def listed(value: Any) -> list[Any]:
    """The list, an empty one for anything else."""
    return value if isinstance(value, list) else []


# ── messages ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def _contents(messages: list[Any]) -> Iterator[JsonObject]:
    names: dict[str, str] = {}
    results: list[JsonObject] = []
    for place, message in enumerate(messages):
        if not isinstance(message, dict):
            raise cannot("This kind of message", f"messages[{place}]")
        role = _role(message)
        if role in _TOOL_TURNS:  # the results of one turn's calls belong into one content
            results.append(_result(message, names))
            continue
        if results:
            yield {"role": "user", "parts": results}
            results = []
        if role == "assistant":
            if parts := list(_model_parts(message, place, names)):
                yield {"role": "model", "parts": parts}
        elif role not in ("system", "developer"):
            yield {"role": "user", "parts": _user_parts(message.get("content"), f"messages[{place}].content")}
    if results:
        yield {"role": "user", "parts": results}


def _role(message: Any) -> str:
    return str(message.get("role")) if isinstance(message, dict) else ""


def _texts(message: JsonObject) -> Iterator[JsonObject]:
    content = message.get("content")
    for part in content if isinstance(content, list) else [{"text": content}]:
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            yield {"text": part["text"]}


def _user_parts(content: Any, param: str) -> list[JsonObject]:
    if isinstance(content, str):
        return [{"text": content}]
    return [_user_part(part, f"{param}[{place}]") for place, part in enumerate(listed(content))] or [{"text": ""}]


def _user_part(part: Any, param: str) -> JsonObject:
    kind = part.get("type") if isinstance(part, dict) else None
    inner = part.get(str(kind)) if isinstance(part, dict) else None
    if kind == "text" and isinstance(inner, str):
        return {"text": inner}
    url = inner.get("url") if isinstance(inner, dict) else inner
    if kind in ("image_url", "video_url") and isinstance(url, str):
        return media(url)
    if kind == "input_audio" and isinstance(inner, dict) and isinstance(inner.get("data"), str):
        return {"inlineData": {"mimeType": f"audio/{inner.get('format') or 'wav'}", "data": inner["data"]}}
    if kind == "file" and isinstance(inner, dict) and isinstance(inner.get("file_data"), str):
        return media(inner["file_data"], "application/pdf")
    raise cannot("This kind of content", param)


def media(url: str, otherwise: str = "") -> JsonObject:
    """A data URL as bytes in the request, any other as a link. ``otherwise``: the type of what tells none."""
    if match := _DATA_URL.match(url):
        return {"inlineData": {"mimeType": match[1] or otherwise or "image/png", "data": url[match.end() :]}}
    ending = url.partition("?")[0].rpartition(".")[2].lower()
    kind = f"image/{_IMAGE_TYPES[ending]}" if ending in _IMAGE_TYPES else otherwise
    return {"fileData": {"fileUri": url, **({"mimeType": kind} if kind else {})}}


def _model_parts(message: JsonObject, place: int, names: dict[str, str]) -> Iterator[JsonObject]:
    thought = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(thought, str) and thought:
        yield {"text": thought, "thought": True}
    signature = google_extra(message).get("thought_signature")
    texts = [part["text"] for part in _texts(message)]
    text = "".join(texts) or message.get("refusal")
    if isinstance(text, str) and (text or signature):
        yield {"text": text, **({"thoughtSignature": signature} if signature else {})}
    for image in listed(message.get("images")):
        link = image.get("image_url") if isinstance(image, dict) else None
        if isinstance(link, dict) and isinstance(link.get("url"), str):
            yield media(link["url"])
    older = [{"function": message["function_call"]}] if isinstance(message.get("function_call"), dict) else []
    for number, call in enumerate([*older, *listed(message.get("tool_calls"))]):
        yield _call(call, names, f"messages[{place}].tool_calls[{number}]")


def _call(call: Any, names: dict[str, str], param: str) -> JsonObject:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise cannot("This kind of tool call", param)
    made = function_call(call, arguments(function.get("arguments")))
    if isinstance(call.get("id"), str):
        names[call["id"]] = function["name"]
    return made


def function_call(call: JsonObject, args: JsonObject) -> JsonObject:
    """The part for one tool call; a thought signature that came with it goes back with it."""
    signature = google_extra(call).get("thought_signature") or google_extra(call["function"]).get("thought_signature")
    told: JsonObject = {"id": call["id"]} if isinstance(call.get("id"), str) else {}
    part: JsonObject = {"functionCall": {**told, "name": call["function"].get("name", ""), "args": args}}
    return {**part, "thoughtSignature": signature} if isinstance(signature, str) else part


def arguments(text: Any) -> JsonObject:
    """A tool call's arguments as an object; an empty one for what is none."""
    try:
        value = loose_json.decode(text.encode("utf-8", "surrogatepass")) if isinstance(text, str) and text else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _result(message: JsonObject, names: dict[str, str]) -> JsonObject:
    text = "".join(part["text"] for part in _texts(message))
    response = arguments(text) if text.lstrip()[:1] == "{" else {}
    told: JsonObject = {}
    call_id = message.get("tool_call_id")
    if isinstance(call_id, str):
        told["id"] = call_id
    name = names.get(str(call_id)) or message.get("name") or "tool"
    return {"functionResponse": {**told, "name": name, "response": response or {"output": text}}}


# ── everything beside messages ───────────────────────────────────────────────────────────────────────────────────────
def _config(fields: Mapping[str, Any]) -> JsonObject:
    config = {theirs: fields[ours] for ours, theirs in CONFIG.items() if fields.get(ours) is not None}
    ceiling = fields.get("max_completion_tokens") or fields.get("max_tokens")
    if ceiling is not None:
        config["maxOutputTokens"] = ceiling
    stop = fields.get("stop")
    if stop:
        config["stopSequences"] = [stop] if isinstance(stop, str) else stop
    if isinstance(fields.get("modalities"), list):
        config["responseModalities"] = [str(word).upper() for word in fields["modalities"]]
    config |= _answer_format(fields.get("response_format"))
    if thinking := _thinking(fields):
        config["thinkingConfig"] = thinking
    return config


def _answer_format(wanted: Any) -> JsonObject:
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind in (None, "text"):
        return {}
    config: JsonObject = {"responseMimeType": "application/json"}
    if kind == "json_schema":
        schema = wanted.get("json_schema")
        if isinstance(schema, dict) and isinstance(schema.get("schema"), dict):
            config["responseJsonSchema"] = schema["schema"]
    elif kind != "json_object":
        raise cannot("This response format", "response_format")
    return config


def _thinking(fields: Mapping[str, Any]) -> JsonObject:
    given = google_extra(fields).get("thinking_config")
    if isinstance(given, dict):
        words = {"thinking_budget": "thinkingBudget", "thinking_level": "thinkingLevel"}
        words["include_thoughts"] = "includeThoughts"
        return {words.get(str(name), str(name)): value for name, value in given.items()}
    effort = fields.get("reasoning_effort")
    return {"thinkingBudget": BUDGETS[effort]} if isinstance(effort, str) and effort in BUDGETS else {}


def _tools(fields: Mapping[str, Any]) -> Iterator[JsonObject]:
    older = [{"function": function} for function in listed(fields.get("functions"))]
    for place, tool in enumerate([*listed(fields.get("tools")), *older]):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise cannot("This tool", f"tools[{place}]")
        declared = {name: function[name] for name in ("name", "description") if function.get(name) is not None}
        if isinstance(function.get("parameters"), dict):
            declared["parametersJsonSchema"] = function["parameters"]
        yield declared


def _older_choice(choice: Any) -> Any:
    """``function_call``, the word that ``tool_choice`` had before."""
    return {"function": choice} if isinstance(choice, dict) else choice


def _tool_config(choice: Any) -> JsonObject:
    modes = {"none": "NONE", "auto": "AUTO", "required": "ANY"}
    if isinstance(choice, str) and choice in modes:
        return {"mode": modes[choice]}
    if not isinstance(choice, dict):
        return {}
    if isinstance(function := choice.get("function"), dict):
        return {"mode": "ANY", "allowedFunctionNames": [function.get("name")]}
    allowed = choice.get("allowed_tools")
    if not isinstance(allowed, dict):
        raise cannot("This choice of a tool", "tool_choice")
    functions = [tool.get("function") for tool in listed(allowed.get("tools")) if isinstance(tool, dict)]
    names = [function.get("name") for function in functions if isinstance(function, dict)]
    return {"mode": modes.get(str(allowed.get("mode")), "AUTO"), "allowedFunctionNames": names}

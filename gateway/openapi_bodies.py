"""What the gateway's endpoints take, as JSON schemas: the members that it reads itself. Others pass to the provider.

A schema here describes; what a request has to be is decided by each endpoint's own code, which names what is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

Schema = Mapping[str, Any]

TEXT: Final[Schema] = {"type": "string"}
FLAG: Final[Schema] = {"type": "boolean"}
URL: Final[Schema] = {"type": "string", "format": "uri"}
FILE: Final[Schema] = {"type": "string", "format": "binary"}
ANYTHING: Final[Schema] = {}
LIST: Final[Schema] = {"type": "array"}
OBJECTS: Final[Schema] = {"type": "array", "items": {"type": "object"}, "minItems": 1}
MODEL: Final[Schema] = {"type": "string", "description": "An id of GET /models, or another name of one."}
INTENT: Final[Schema] = {"type": "string", "description": "In place of model: the cheapest one fit for it."}
CEILING: Final[Schema] = {"type": "integer", "minimum": 1}
OWN: Final[Schema] = {"type": "object", "description": "Wishes to the gateway itself; never goes to a provider."}


def body(required: tuple[str, ...] = (), /, **members: Schema) -> Schema:
    """An object with at least these members."""
    schema: dict[str, Any] = {"type": "object", "properties": members, "additionalProperties": True}
    return {**schema, "required": list(required)} if required else schema


_CONTENTS = body(
    ("contents",),
    contents=OBJECTS,
    systemInstruction={"type": "object"},
    generationConfig={"type": "object"},
    tools=LIST,
)
_EMBED_CONTENT = body(("content",), content={"type": "object"}, taskType=TEXT, outputDimensionality=CEILING)
_RESPONSE = body(
    ("model", "input"),
    model=MODEL, intent=INTENT, input={"anyOf": [TEXT, LIST]}, instructions=TEXT, stream=FLAG, tools=LIST,
    max_output_tokens=CEILING, previous_response_id=TEXT, store=FLAG, service_tier=TEXT, hypereal=OWN,
)  # fmt: skip
_MESSAGES = {
    "model": MODEL, "messages": OBJECTS, "system": {"anyOf": [TEXT, LIST]}, "tools": LIST,
    "thinking": {"type": "object"}, "hypereal": OWN,
}  # fmt: skip
_PICTURE = {
    "prompt": TEXT, "n": {"type": "integer", "minimum": 1, "maximum": 10}, "size": TEXT, "aspect_ratio": TEXT,
    "resolution": TEXT, "response_format": {"enum": ["url", "b64_json"]}, "image": ANYTHING, "image_urls": LIST,
    "reference_images": LIST, "output_format": {"enum": ["png", "jpeg", "webp"]},
    "output_compression": {"type": "integer", "minimum": 0, "maximum": 100},
    "background": {"enum": ["auto", "opaque", "transparent"]},
}  # fmt: skip
_RUN = body(("input",), input={"type": "object"}, webhookUrl=URL)

#: By path, as the gateway's addresses spell it. A body of a form says so in ``MULTIPART``.
BODIES: Final[Mapping[str, Schema]] = {
    "chat/completions": body(
        ("model", "messages"),
        model=MODEL, intent=INTENT, messages=OBJECTS, stream=FLAG, stream_options={"type": "object"},
        max_tokens=CEILING, max_completion_tokens=CEILING, n=CEILING, tools=LIST, response_format={"type": "object"},
        service_tier=TEXT, hypereal=OWN,
    ),
    "messages": body(("model", "messages", "max_tokens"), **_MESSAGES, max_tokens=CEILING, stream=FLAG),
    "messages/count_tokens": body(("model", "messages"), **_MESSAGES),
    "responses": _RESPONSE,
    "responses/compact": body(("model", "input"), model=MODEL, input={"anyOf": [TEXT, LIST]}, instructions=TEXT),
    "responses/input_tokens": _RESPONSE,
    "embeddings": body(
        ("model", "input"),
        model=MODEL, intent=INTENT, input={"anyOf": [TEXT, LIST]}, dimensions=CEILING,
        encoding_format={"enum": ["float", "base64"]},
    ),
    "images/generations": body(("model", "prompt"), model=MODEL, **_PICTURE),
    "images/generate": body(("prompt",), model=MODEL, intent=INTENT, **_PICTURE),
    "images/edits": body(("model", "prompt", "image"), model=MODEL, prompt=TEXT, image=FILE, mask=FILE, size=TEXT),
    "videos/generate": body(
        ("prompt",),
        model=MODEL, intent=INTENT, prompt=TEXT, duration={"type": "integer", "description": "Seconds."},
        aspect_ratio=TEXT, resolution=TEXT, image=TEXT, image_urls=LIST, last_image_url=URL, webhookUrl=URL,
    ),
    "audio/generations": body(("model",), model=MODEL, intent=INTENT, text=TEXT, voice_id=TEXT, audio=TEXT),
    "audio/speech": body(("model", "input"), model=MODEL, input=TEXT, voice=TEXT, response_format=TEXT),
    "audio/transcriptions": body(("model", "file"), model=MODEL, file=FILE, language=TEXT, response_format=TEXT),
    "audio/translations": body(("model", "file"), model=MODEL, file=FILE, response_format=TEXT),
    "quote": body((), model=MODEL),
    "gemini": body((), model=MODEL, contents=OBJECTS, messages=OBJECTS, stream=FLAG),
    "gemini/v1beta/models/{name}:generateContent": _CONTENTS,
    "gemini/v1beta/models/{name}:streamGenerateContent": _CONTENTS,
    "gemini/v1beta/models/{name}:countTokens": body((), contents=OBJECTS, generateContentRequest={"type": "object"}),
    "gemini/v1beta/models/{name}:embedContent": _EMBED_CONTENT,
    "gemini/v1beta/models/{name}:batchEmbedContents": body(("requests",), requests={**LIST, "items": _EMBED_CONTENT}),
    "deployments": body(
        ("slug", "name", "dockerImage", "gpuTypes"),
        slug=TEXT, name=TEXT, dockerImage=TEXT, gpuTypes={"anyOf": [TEXT, {"type": "array", "items": TEXT}]},
        minWorkers={"type": "integer", "minimum": 0}, maxWorkers=CEILING, idleTimeoutSeconds=CEILING, webhookUrl=URL,
        env={"type": "object", "additionalProperties": TEXT},
    ),
    "deployments/{name}": body((), name=TEXT, maxWorkers=CEILING),
    "gpu/run/{name}": {**_RUN, "properties": {**_RUN["properties"], "sync": FLAG}},
    "gpu/{name}": _RUN,
    "storage/upload": body(("file",), file=FILE, filename=TEXT, contentType=TEXT, kind=TEXT),
}  # fmt: skip

#: Forms with files in them.
MULTIPART: Final = frozenset({"images/edits", "audio/transcriptions", "audio/translations", "storage/upload"})

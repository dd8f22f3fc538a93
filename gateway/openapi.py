"""The gateway's addresses as an OpenAPI document, made of what `gateway.endpoints` declares: none can be missing."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, Final

from django.conf import settings
from django.urls import URLPattern, get_resolver

from gateway import endpoints
from gateway.endpoints import Endpoint
from gateway.openapi_bodies import BODIES, MULTIPART

#: Google's clients put several versions into a path; one of them stands for all.
_OTHER_VERSIONS: Final = ("gemini/v1/", "gemini/v1alpha/")
_PARAMETER: Final = re.compile(r"<(?:\w+:)?(\w+)>")
_CODE: Final = re.compile(r"``[^`]*``[,:]?")
_QUERY: Final[Mapping[str, tuple[str, ...]]] = {
    "models": ("limit", "after_id", "before_id"),
    "responses/{response_id}": ("include",),
    "responses/{response_id}/input_items": ("after", "limit", "order", "include"),
    "jobs": ("kind", "state", "model", "limit", "cursor"),
    "storage": ("kind", "limit", "cursor"),
    "gemini/v1beta/models": ("pageSize", "pageToken"),
}
_FAILURES: Final[Mapping[int, str]] = {
    400: "Something in the request is wrong; `param` names it.",
    401: "No usable API key.",
    402: "Not enough credits, or a spending limit is reached.",
    403: "The key may not do this.",
    404: "There is no such thing in this workspace.",
    409: "The Idempotency-Key belongs to another request.",
    413: "The body is too large.",
    429: "Too many requests in this minute.",
    502: "No provider could answer.",
    503: "No provider, or this server, is ready at this moment.",
    504: "No provider answered in time.",
}
_ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {
                "type": {"type": "string"},
                "message": {"type": "string"},
                "code": {"type": ["string", "integer", "null"]},
                "param": {"type": ["string", "null"]},
            },
        }
    },
}


@cache
def document() -> dict[str, Any]:
    """The document. Paths are relative to the server's, under which every one of them answers."""
    paths: dict[str, dict[str, Any]] = {}
    for pattern in get_resolver(settings.GATEWAY_URLCONF).url_patterns:
        route = str(pattern.pattern)
        if isinstance(pattern, URLPattern) and not route.startswith(_OTHER_VERSIONS):
            path = _PARAMETER.sub(r"{\1}", route)
            paths[f"/{path}"] = dict(_operations(path, pattern.callback, endpoints.of(pattern.callback)))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Hypereal gateway",
            "version": "1",
            "description": "Every path answers under /v1 and under /api/v1 alike. Members that are not listed pass on.",
        },
        "servers": [{"url": f"{settings.SITE_URL.rstrip('/')}/v1"}],
        "security": [{"bearer": []}, {"x-api-key": []}, {"x-goog-api-key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "ck_…"},
                **{name: {"type": "apiKey", "in": "header", "name": name} for name in ("x-api-key", "x-goog-api-key")},
            },
            "schemas": {"Error": _ERROR},
        },
    }


def _operations(path: str, view: Callable[..., Any], declared: Endpoint) -> Iterable[tuple[str, dict[str, Any]]]:
    for method in sorted(declared.methods):
        operation: dict[str, Any] = {
            "operationId": f"{method.lower()}_{re.sub(r'[^a-zA-Z0-9]+', '_', path).strip('_')}",
            "tags": [path.partition("/")[0]],
            "summary": _summary(view),
            "parameters": [*_in_path(path), *_in_query(path, method)],
            "responses": _answers(declared),
        }
        if method in ("POST", "PATCH") and path in BODIES:
            media = "multipart/form-data" if path in MULTIPART else "application/json"
            operation["requestBody"] = {"required": True, "content": {media: {"schema": BODIES[path]}}}
        if declared.kind and method == "POST":
            operation["parameters"].append(
                {"name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "maxLength": 255}}
            )
        if not declared.needs_key or method in declared.keyless_methods:
            operation["security"] = []
        yield method.lower(), operation


def _summary(view: Callable[..., Any]) -> str:
    """The first sentence about the view, without its address."""
    told = _CODE.sub("", (inspect.getdoc(view) or "").partition("\n")[0]).strip(" .:,")
    return told or view.__name__.replace("_", " ").capitalize()


def _in_path(path: str) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)}", path)
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _in_query(path: str, method: str) -> list[dict[str, Any]]:
    names = _QUERY.get(path, ()) if method == "GET" else ()
    return [{"name": name, "in": "query", "schema": {"type": "string"}} for name in names]


def _answers(declared: Endpoint) -> dict[str, Any]:
    told: dict[str, Any] = {"2XX": {"description": "What was asked for."}}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    for status, description in _FAILURES.items():
        if declared.needs_key or status not in (401, 402, 403):
            told[str(status)] = {"description": description, "content": error}
    return told

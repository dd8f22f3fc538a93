"""The gateway's own OpenAPI document: complete, valid, and open to everybody."""

from __future__ import annotations

from typing import Any

import schemathesis
from django.urls import URLPattern, get_resolver

from gateway import endpoints, openapi
from gateway.openapi_bodies import BODIES, MULTIPART
from tests.support import http
from tests.support.gateway import Gateway


def operations() -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method, path): operation
        for path, methods in openapi.document()["paths"].items()
        for method, operation in methods.items()
    }


def test_it_is_served_to_everybody_under_both_prefixes(gateway: Gateway) -> None:
    for prefix in ("/v1", "/api/v1"):
        reply = http.send(gateway.port, "GET", f"{prefix}/openapi.json", None, {})
        assert (reply.status, reply.json["paths"].keys()) == (200, openapi.document()["paths"].keys())


def test_every_address_and_method_is_in_it() -> None:
    told = operations()
    for pattern in get_resolver("hypereal_site.urls_gateway").url_patterns:
        route = str(pattern.pattern)
        if not isinstance(pattern, URLPattern) or route.startswith(("gemini/v1/", "gemini/v1alpha/")):
            continue
        path = "/" + openapi._PARAMETER.sub(r"{\1}", route)
        for method in endpoints.of(pattern.callback).methods:
            operation = told[method.lower(), path]
            assert operation["summary"]
            assert "`" not in operation["summary"]


def test_every_billable_call_says_what_it_takes() -> None:
    for (method, path), operation in operations().items():
        if any(parameter["name"] == "Idempotency-Key" for parameter in operation["parameters"]):
            assert operation["requestBody"]["required"], (method, path)
    assert {path.removeprefix("/") for _, path in operations()} >= BODIES.keys() >= MULTIPART


def test_no_two_operations_share_a_name() -> None:
    names = [operation["operationId"] for operation in operations().values()]
    assert sorted(names) == sorted(set(names))


def test_a_strict_reader_takes_it() -> None:
    schema: Any = schemathesis.openapi.from_dict(openapi.document())
    found = [each.ok() for each in schema.get_all_operations()]
    assert len(found) == len(operations())

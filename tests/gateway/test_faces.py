"""Which face answers what, and that nothing billable hides from the neck."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.urls import URLPattern, URLResolver, get_resolver

from catalog import endpoints as kinds
from gateway import endpoints
from gateway.adapters import ADAPTERS
from gateway.handler import GatewayHandler
from hypereal_site import asgi
from hypereal_site.urls_gateway import GEMINI_VERSIONS


@pytest.mark.parametrize(
    ("path", "gateway"),
    [
        ("/v1/chat/completions", True), ("/api/v1/models", True), ("/v1", True), ("/api/v1", True), ("/v1/", True),
        ("/", False), ("/api/me", False), ("/api/api-keys", False), ("/v1x", False), ("/api/v10/x", False),
    ],
)  # fmt: skip
def test_the_prefix_decides(path: str, gateway: bool) -> None:
    assert asgi.is_gateway_path(path) is gateway


#: What takes a body and is free: nothing is generated there.
FREE = {
    "quote",
    "messages/count_tokens",
    "responses/input_tokens",
    "responses/<str:response_id>/cancel",
    "storage/upload",
    "deployments",
    "jobs/<str:job_id>/cancel",
    "gpu/jobs/<str:job_id>/cancel",
    "comfy",
    "comfy/<path:rest>",
    *(f"gemini/{version}/models/<path:name>:countTokens" for version in GEMINI_VERSIONS),
}
#: Kinds whose calls pass `engine.serve`; the others are billed by the unit, or are jobs.
BY_TOKENS = {kinds.CHAT, kinds.MESSAGES, kinds.RESPONSES, kinds.GEMINI, kinds.EMBEDDINGS}


def test_every_gateway_view_is_declared_and_every_billable_one_has_an_adapter() -> None:
    for pattern in get_resolver(settings.GATEWAY_URLCONF).url_patterns:
        assert isinstance(pattern, URLPattern)
        declared = endpoints.of(pattern.callback)
        assert declared.methods
        if "POST" in declared.methods and str(pattern.pattern) not in FREE:
            assert declared.kind, f"{pattern.pattern} takes bodies but is not billable"
        if declared.kind:
            assert declared.needs_key
            assert declared.kind in kinds.PATHS
        if declared.kind in BY_TOKENS:
            assert declared.dialect.kind in (declared.kind, kinds.GEMINI)  # Google's methods keep Google's errors
            assert any(kind == declared.kind for kind, _ in ADAPTERS)


def test_the_web_face_serves_none_of_the_gateways_addresses() -> None:
    gateway_views = {pattern.callback for pattern in get_resolver(settings.GATEWAY_URLCONF).url_patterns}

    def views(patterns: Sequence[URLPattern | URLResolver]) -> set[object]:
        found: set[object] = set()
        for pattern in patterns:
            found |= {pattern.callback} if isinstance(pattern, URLPattern) else views(pattern.url_patterns)
        return found

    assert not gateway_views & views(get_resolver(settings.ROOT_URLCONF).url_patterns)


def sync_middleware(get_response: object) -> object:
    return get_response


def test_middleware_that_changes_threads_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "GATEWAY_MIDDLEWARE", [f"{__name__}.sync_middleware"])
    with pytest.raises(ImproperlyConfigured, match="not async"):
        GatewayHandler()

"""What every answer of the web face carries."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from core import ids


class RequestIdMiddleware:
    """Gives each request an id; log lines, audit rows and the answer's ``x-request-id`` name it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.request_id = ids.uuid7()  # type: ignore[attr-defined]
        response = self.get_response(request)
        response["x-request-id"] = str(request.request_id)  # type: ignore[attr-defined]
        return response

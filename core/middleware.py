"""What every answer of the web face carries, and what every request of it is spared."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.urls import is_valid_path

from core import errors, ids, views


class RequestIdMiddleware:
    """Gives each request an id; log lines, audit rows and the answer's ``x-request-id`` name it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.request_id = ids.uuid7()  # type: ignore[attr-defined]
        response = self.get_response(request)
        response["x-request-id"] = str(request.request_id)  # type: ignore[attr-defined]
        return response


class EitherSlashMiddleware:
    """Serves a path with and without its last slash alike. A redirect instead would turn a POST into a GET."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        path = request.path_info
        if not is_valid_path(path):
            other = path.rstrip("/") if path.endswith("/") else f"{path}/"
            if other and is_valid_path(other):
                request.path_info = other
        return self.get_response(request)


class ErrorsMiddleware:
    """Turns the product's errors into answers: a page for people, JSON below /api/. There also 405, which Django sends
    as an empty page, and HEAD and OPTIONS, which the API framework doesn't know."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not views.is_api(request):
            return self.get_response(request)
        asked = request.method
        if asked == "HEAD":  # the server leaves the body out
            request.method = "GET"
        response = self.get_response(request)
        request.method = asked
        if response.status_code != 405:
            return response
        if asked == "OPTIONS":
            return HttpResponse(status=204, headers={"Allow": f"{response.get('Allow', '')}, OPTIONS"})
        error = errors.MethodNotAllowed(f"{asked} is not possible here.", headers={"Allow": response.get("Allow", "")})
        return views.error_json(error)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        return views.product_error(request, exception) if isinstance(exception, errors.ProductError) else None

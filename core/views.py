"""Error pages, and the same errors as JSON where an API path was asked for."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.translation import gettext as _

from core import errors

#: Statuses whose template is named after them.
OWN_PAGES = frozenset({400, 403, 404, 429, 500})


def is_api(request: HttpRequest) -> bool:
    """Whether the caller expects JSON: every path below /api/ does."""
    return request.path.startswith("/api/")


def error_json(error: errors.ProductError) -> JsonResponse:
    """The management API's form of an error."""
    body = {"type": error.type, "message": error.message, "code": error.code, "param": error.param, **error.extra}
    response = JsonResponse({"error": body}, status=error.status)
    for name, value in error.headers.items():
        response[name] = value
    return response


def _answer(request: HttpRequest, error: errors.ProductError, template: str) -> HttpResponse:
    if is_api(request):
        return error_json(error)
    return render(request, template, {"error": error}, status=error.status)


def product_error(request: HttpRequest, error: errors.ProductError) -> HttpResponse:
    """A page for an error that a view raised. Statuses without a page of their own share the one for bad requests."""
    template = f"{error.status}.html" if error.status in OWN_PAGES else "400.html"
    response = _answer(request, error, template)
    for name, value in error.headers.items():
        response[name] = value
    return response


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, errors.InvalidRequest(_("The request could not be read.")), "400.html")


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, errors.PermissionDenied(_("You may not do this.")), "403.html")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, errors.NotFound(_("There is nothing at this address.")), "404.html")


def server_error(request: HttpRequest) -> HttpResponse:
    return _answer(request, errors.InternalError(_("Something went wrong on our side.")), "500.html")


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    return _answer(
        request, errors.PermissionDenied(_("This form is no longer valid. Load the page again.")), "403_csrf.html"
    )

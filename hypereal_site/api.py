"""The management API below /api/: one NinjaAPI that collects the apps' routers and gives every error one form.

Everything is closed until an endpoint says who may come in (`orgs.access`). Errors that Django answers itself (404 for
an unknown path, 500, CSRF) get the same form in `core.views`, 405 in `core.middleware`.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from django.core.exceptions import RequestDataTooBig
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError
from ninja.parser import Parser

from billing.api import router as billing_router
from console.api import router as console_router
from console.target_views import router as targets_router
from core import errors
from core.views import error_json
from idempotency import management
from keys.api import router as keys_router
from limits.api import router as limits_router
from orgs import access
from orgs.api import router as orgs_router
from sso.api import router as sso_router
from sso.scim.api import router as scim_router
from statements.api import router as statements_router
from usage.api import router as usage_router
from vouchers.api import router as vouchers_router
from webhooks.api import router as webhooks_router


class StrictParser(Parser):
    """JSON as the standard has it: no NaN, and a body is always an object."""

    def parse_body(self, request: HttpRequest) -> dict[str, Any]:
        try:
            body = json.loads(request.body, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            raise errors.InvalidRequest(_("The body is not valid JSON."), code="invalid_json") from None
        except RequestDataTooBig:
            raise errors.RequestTooLarge(_("The body is too large.")) from None
        if not isinstance(body, dict):
            raise errors.InvalidRequest(_("The body must be a JSON object."), code="invalid_json")
        return body


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(word)


api = NinjaAPI(
    title="Hypereal",
    version="1",
    description="Manage keys and read usage with a signed-in session. Writes carry the CSRF token in X-CSRFToken.",
    urls_namespace="api",
    docs_url=None,
    openapi_url="/openapi.json",
    auth=access.undeclared,
    parser=StrictParser(),
)

#: Pydantic's complaints in words for people; the others speak for themselves.
_COMPLAINTS = {
    "missing": gettext_lazy("This field is required."),
    "extra_forbidden": gettext_lazy("There is no such field."),
    "string_type": gettext_lazy("This must be text."),
    "bool_type": gettext_lazy("This must be true or false."),
    "bool_parsing": gettext_lazy("This must be true or false."),
    "list_type": gettext_lazy("This must be a list."),
    "uuid_parsing": gettext_lazy("This is no id."),
    "datetime_parsing": gettext_lazy("This must be a time like 2030-01-31T12:00:00Z."),
    "datetime_from_date_parsing": gettext_lazy("This must be a time like 2030-01-31T12:00:00Z."),
}


@api.exception_handler(errors.ProductError)
def product_error(request: HttpRequest, error: errors.ProductError) -> HttpResponse:
    return error_json(error)


@api.exception_handler(AuthenticationError)
def not_authenticated(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
    return error_json(errors.AuthenticationFailed(_("Sign in first."), code="not_signed_in"))


@api.exception_handler(Http404)
def not_found(request: HttpRequest, error: Http404) -> HttpResponse:
    return error_json(errors.NotFound(_("There is nothing at this address.")))


@api.exception_handler(HttpError)
def framework_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    """What the framework itself refuses: a body that it could not read. Our parser's reason is the cause."""
    cause = error.__cause__
    return error_json(cause if isinstance(cause, errors.ProductError) else errors.InvalidRequest(str(error)))


@api.exception_handler(ValidationError)
def bad_fields(request: HttpRequest, error: ValidationError) -> HttpResponse:
    """The first bad field in ``param`` and ``message``, all of them in ``errors``."""
    faults = [{"param": _param(fault), "message": _complaint(fault)} for fault in error.errors]
    message = _complaint(error.errors[0])
    return error_json(errors.InvalidRequest(message, param=faults[0]["param"], extra={"errors": faults}))


def _param(fault: dict[str, Any]) -> str | None:
    """The field as the caller knows it, None where the whole body is at fault.

    A fault's place is (source, the view's own name for the value, field, …), and (source, field) for plain parameters.
    """
    source, *place = (str(part) for part in fault["loc"])
    if source in ("body", "form") or len(place) > 1:
        place = place[1:]
    return ".".join(place) or None


def _complaint(fault: dict[str, Any]) -> str:
    if fault["type"] == "value_error":  # one of our own rules: its words, without the framework's before them
        return str(fault["ctx"]["error"])
    return str(_COMPLAINTS.get(fault["type"], fault["msg"]))


# Every write of every router: whoever sends an Idempotency-Key gets the stored answer again.
api.add_decorator(management.once, mode="view")
api.add_router("", console_router)
api.add_router("", targets_router)
api.add_router("/api-keys", keys_router)
api.add_router("/billing", billing_router)
api.add_router("/limits", limits_router)
api.add_router("/orgs", orgs_router)
api.add_router("/orgs", sso_router)
api.add_router("/orgs", scim_router)
api.add_router("/api-usage", usage_router)
api.add_router("/vouchers", vouchers_router)
api.add_router("/webhooks", webhooks_router)
api.add_router("/billing", statements_router)

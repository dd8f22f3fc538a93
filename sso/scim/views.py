"""The addresses of SCIM 2.0 below /scim/v2. A bearer token says which connection is meant; nothing else opens them."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from allauth.core.internal import ratelimit
from django.core.exceptions import RequestDataTooBig
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from pydantic import ValidationError
from scim2_models import (
    Context,
    Error,
    InvalidSyntaxException,
    NotFoundException,
    PayloadTooLargeException,
    Resource,
    ResponseParameters,
    SCIMException,
    SearchRequest,
)
from scim2_models import NotImplementedException as NotImplementedHere

from core import errors
from events import audit
from sso.models import ScimToken, SsoConnection
from sso.scim import BASE_PATH, groups, people, search, tokens
from sso.scim.resources import (
    PROVIDER,
    Group,
    GroupPatch,
    GroupSearch,
    User,
    UserPatch,
    UserSearch,
)

CONTENT_TYPE: Final = "application/scim+json"
#: Requests a minute from one address; a first synchronization has many.
_RATES: Final = {"scim": "1200/m/ip"}


@dataclass(frozen=True)
class Call:
    """One authenticated request."""

    request: HttpRequest
    token: ScimToken
    actor: audit.Actor

    @property
    def connection(self) -> SsoConnection:
        """Whose directory calls."""
        connection: SsoConnection = self.token.connection
        return connection

    def body(self) -> dict[str, Any]:
        """The JSON object that was sent. Raises SCIMException."""
        try:
            content = json.loads(self.request.body)
        except RequestDataTooBig:
            raise PayloadTooLargeException() from None
        except (ValueError, RecursionError):
            raise InvalidSyntaxException(detail="The body is not valid JSON.") from None
        if not isinstance(content, dict):
            raise InvalidSyntaxException(detail="The body must be a JSON object.")
        return content


Endpoint = Callable[..., HttpResponse]
_WRITES: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})


# ── Around every endpoint ────────────────────────────────────────────────────────────────────────────────────────────
def endpoint(**by_method: Endpoint) -> Endpoint:
    """One address: ``GET=…, POST=…`` take a `Call` and the rest of the URL. Every failure is a SCIM error."""

    @csrf_exempt  # a bearer token and no cookie: no browser sends it by itself
    @never_cache
    def opened(request: HttpRequest, **kwargs: str) -> HttpResponse:
        if not ratelimit.consume(request, app="scim", action="scim", config=_RATES, limit_get=True):
            return _error(429, "Too many requests. Try again in a minute.", headers={"Retry-After": "60"})
        token = tokens.of_request(request)
        if token is None:
            challenge = {"WWW-Authenticate": 'Bearer realm="SCIM"'}
            return _error(401, "The bearer token is missing, wrong or revoked.", headers=challenge)
        asked = "GET" if request.method == "HEAD" else str(request.method)
        view = by_method.get(asked)
        if view is None:
            return _error(405, f"{request.method} is not possible here.", headers={"Allow": ", ".join(by_method)})
        return _answered(view, Call(request, token, tokens.actor_of(request, token)), kwargs)

    return opened


def _answered(view: Endpoint, call: Call, kwargs: dict[str, str]) -> HttpResponse:
    try:
        with PROVIDER:
            if call.request.method not in _WRITES:
                return view(call, **kwargs)
            with transaction.atomic():  # what a change starts from is read behind the changes before it
                people.lock(call.connection)
                return view(call, **kwargs)
    except SCIMException as error:
        return _of(error.to_error())
    except ValidationError as error:
        return _of(Error.from_validation_errors(error)[0])
    except errors.ProductError as error:
        return _error(error.status, error.message)


def _of(error: Error) -> HttpResponse:
    return _error(error.status or 400, error.detail or "", scim_type=error.scim_type)


def _error(
    status: int, detail: str, *, scim_type: str | None = None, headers: dict[str, str] | None = None
) -> HttpResponse:
    body = Error(status=status, detail=detail, scim_type=scim_type).model_dump()
    return JsonResponse(body, status=status, content_type=CONTENT_TYPE, headers=headers)


def _json(body: dict[str, Any], status: int = 200, **headers: str) -> HttpResponse:
    return JsonResponse(body, status=status, content_type=CONTENT_TYPE, headers=headers)


# ── Discovery ────────────────────────────────────────────────────────────────────────────────────────────────────────
def _config(call: Call) -> HttpResponse:
    assert PROVIDER.config is not None
    return _json(_described(PROVIDER.config, "ServiceProviderConfig", f"{BASE_PATH}/ServiceProviderConfig", call))


def _described(made: Resource[Any], kind: str, path: str, call: Call) -> dict[str, Any]:
    body = made.model_dump(scim_ctx=Context.RESOURCE_QUERY_RESPONSE)
    body["meta"] = {"resourceType": kind, "location": call.request.build_absolute_uri(path)}
    return body


def _all_of(kind: str, found: Any, call: Call) -> HttpResponse:
    listed = [_described(made, kind, f"{BASE_PATH}/{kind}s/{made.id}", call) for made in found]
    schema = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
    count = len(listed)
    return _json(
        {"schemas": [schema], "totalResults": count, "itemsPerPage": count, "startIndex": 1, "Resources": listed}
    )


def _one_of(kind: str, found: Any, identifier: str, call: Call) -> HttpResponse:
    for made in found:
        if str(made.id) == identifier:
            return _json(_described(made, kind, f"{BASE_PATH}/{kind}s/{made.id}", call))
    raise NotFoundException(detail=f"There is no such {kind}.")


config = endpoint(GET=_config)
resource_types = endpoint(GET=lambda call: _all_of("ResourceType", PROVIDER.resource_types, call))
resource_type = endpoint(GET=lambda call, key: _one_of("ResourceType", PROVIDER.resource_types, key, call))
schemas = endpoint(GET=lambda call: _all_of("Schema", PROVIDER.schemas, call))
schema = endpoint(GET=lambda call, key: _one_of("Schema", PROVIDER.schemas, key, call))


# ── Users and groups ─────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class Kind:
    """A kind of resource: its model, and the module that keeps it."""

    model: type[Resource[Any]]
    patch: Any
    search: Any
    keeper: Any

    def shown(self, row: Any, context: Context, call: Call, status: int = 200) -> HttpResponse:
        """One resource as an answer, with what the client wants to see of it."""
        made = self.keeper.resource(self.keeper.find(call.connection, str(row.pk)))
        shape: Any = ResponseParameters.__class_getitem__(self.model)
        asked = shape.model_validate(_parameters(call, "attributes", "excludedAttributes"))
        body = made.model_dump(scim_ctx=context, response_parameters=asked)
        headers = {"Location": self.keeper.location(row.pk)} if status == 201 else {}
        return _json(body, status, **headers)

    def listed(self, wanted: SearchRequest[Any], call: Call) -> HttpResponse:
        """A page of them."""
        rows = self.keeper.rows(call.connection)
        return _json(search.page(rows, self.keeper.resource, wanted, self.model))


def _parameters(call: Call, *names: str) -> dict[str, str]:
    return {name: call.request.GET[name] for name in names if name in call.request.GET}


_SEARCH_NAMES: Final = ("filter", "sortBy", "sortOrder", "startIndex", "count", "attributes", "excludedAttributes")


def _list(kind: Kind, call: Call) -> HttpResponse:
    return kind.listed(kind.search.model_validate(_parameters(call, *_SEARCH_NAMES)), call)


def _search(kind: Kind, call: Call) -> HttpResponse:
    return kind.listed(kind.search.model_validate(call.body(), scim_ctx=Context.SEARCH_REQUEST), call)


def _create(kind: Kind, call: Call) -> HttpResponse:
    wanted = kind.model.model_validate(call.body(), scim_ctx=Context.RESOURCE_CREATION_REQUEST)
    row = kind.keeper.create(call.connection, wanted, actor=call.actor)
    return kind.shown(row, Context.RESOURCE_CREATION_RESPONSE, call, 201)


def _get(kind: Kind, call: Call, key: str) -> HttpResponse:
    return kind.shown(kind.keeper.find(call.connection, key), Context.RESOURCE_QUERY_RESPONSE, call)


def _replace(kind: Kind, call: Call, key: str) -> HttpResponse:
    row = kind.keeper.find(call.connection, key)
    wanted = kind.model.model_validate(call.body(), scim_ctx=Context.RESOURCE_REPLACEMENT_REQUEST)
    wanted.replace(kind.keeper.resource(row))
    kind.keeper.update(row, wanted, actor=call.actor)
    return kind.shown(row, Context.RESOURCE_REPLACEMENT_RESPONSE, call)


def _patch(kind: Kind, call: Call, key: str) -> HttpResponse:
    row = kind.keeper.find(call.connection, key)
    wanted = kind.keeper.resource(row)
    changes = kind.patch.model_validate(call.body(), scim_ctx=Context.RESOURCE_PATCH_REQUEST)
    if changes.patch(wanted):
        kind.keeper.update(row, wanted, actor=call.actor)
    return kind.shown(row, Context.RESOURCE_PATCH_RESPONSE, call)


def _delete(kind: Kind, call: Call, key: str) -> HttpResponse:
    kind.keeper.delete(kind.keeper.find(call.connection, key), actor=call.actor)
    return HttpResponse(status=204)


def _of_kind(view: Endpoint, kind: Kind) -> Endpoint:
    return functools.partial(view, kind)


def _collection(kind: Kind) -> Endpoint:
    return endpoint(GET=_of_kind(_list, kind), POST=_of_kind(_create, kind))


def _item(kind: Kind) -> Endpoint:
    views = {"GET": _get, "PUT": _replace, "PATCH": _patch, "DELETE": _delete}
    return endpoint(**{method: _of_kind(view, kind) for method, view in views.items()})


_USERS: Final = Kind(User, UserPatch, UserSearch, people)
_GROUPS: Final = Kind(Group, GroupPatch, GroupSearch, groups)

all_users, user, search_users = _collection(_USERS), _item(_USERS), endpoint(POST=_of_kind(_search, _USERS))
all_groups, group, search_groups = _collection(_GROUPS), _item(_GROUPS), endpoint(POST=_of_kind(_search, _GROUPS))


# ── The rest ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def _not_here(call: Call, **_: str) -> HttpResponse:
    raise NotFoundException(detail="There is nothing at this address.")


def _not_over_all(call: Call) -> HttpResponse:
    raise NotImplementedHere(detail="Search below /Users or /Groups.")


search_all = endpoint(POST=_not_over_all)
anything = endpoint(GET=_not_here, POST=_not_here, PUT=_not_here, PATCH=_not_here, DELETE=_not_here)

"""Which addresses the stand-in answers at: the parameters' type in the library, and what is done."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from stripe.params import (
    ChargeRetrieveParams,
    CustomerCreateParams,
    CustomerRetrieveParams,
    CustomerUpdateParams,
    DisputeCloseParams,
    DisputeListParams,
    DisputeRetrieveParams,
    EventListParams,
    EventRetrieveParams,
    PaymentIntentCancelParams,
    PaymentIntentCreateParams,
    PaymentIntentListParams,
    PaymentIntentRetrieveParams,
    PaymentMethodDetachParams,
    PaymentMethodListParams,
    PaymentMethodRetrieveParams,
    RefundCreateParams,
    RefundListParams,
    RefundRetrieveParams,
)
from stripe.params.billing_portal import SessionCreateParams as PortalCreateParams
from stripe.params.checkout import (
    SessionCreateParams,
    SessionExpireParams,
    SessionListParams,
    SessionRetrieveParams,
)

from billing.demo_stripe import records
from billing.demo_stripe.api import KINDS, Api, Handler, Route
from billing.demo_stripe.objects import Object
from billing.demo_stripe.params import Refused

_SESSIONS: Final = "/v1/checkout/sessions"
_INTENTS: Final = "/v1/payment_intents"
_METHODS: Final = "/v1/payment_methods"


def _retrieve(table: str) -> Handler:
    return lambda api, identifier, _: api.find(table, identifier)


def _list(table: str, path: str, *filters: str) -> Handler:
    """A list that can be narrowed by ``filters``: fields of the object."""

    def handler(api: Api, _: str, params: dict[str, Any]) -> Object:
        wanted = {name: params[name] for name in filters if name in params}
        return api.page(table, path, params, lambda one: all(one[name] == wanted[name] for name in wanted))

    return handler


def _act(table: str, verb: Callable[[Api, Object, dict[str, Any]], Object]) -> Handler:
    """Something that is done to one object."""
    return lambda api, identifier, params: verb(api, api.find(table, identifier), params)


def _create_portal(api: Api, _: str, params: dict[str, Any]) -> Object:
    api.find("customers", params["customer"])
    if "flow_data" in params or "configuration" in params:
        raise Refused("This stand-in only has the portal's front page.", param="flow_data")
    session = records.portal_session(params, base=api.account.store.base, now=api.account.now)
    api.account.store.tables.portals[session["id"]] = session
    return session


def _list_events(api: Api, _: str, params: dict[str, Any]) -> Object:
    if "type" in params and "types" in params:
        raise Refused("You may only specify one of these parameters: type, types.", param="type")
    types = params.get("types", [params["type"]] if "type" in params else None)
    return api.page("events", "/v1/events", params, lambda one: types is None or _among(one["type"], types))


def _among(type_: str, wanted: list[str]) -> bool:
    return any(type_ == one or (one.endswith("*") and type_.startswith(one[:-1])) for one in wanted)


def _route(method: str, path: str, params: Any, handler: Handler, kind: str, *, is_list: bool = False) -> Route:
    pattern = re.compile(path.replace("{id}", r"(?P<id>[A-Za-z0-9_]+)"))
    return Route(method, pattern, params, handler, kind, is_list)


def _readable(table: str, path: str, list_params: Any, one_params: Any, *filters: str) -> tuple[Route, Route]:
    """The list of a kind of object, and one of them."""
    kind = KINDS[table]
    return (
        _route("GET", path, list_params, _list(table, path, *filters), kind, is_list=True),
        _route("GET", f"{path}/{{id}}", one_params, _retrieve(table), kind),
    )


ROUTES: Final = (
    _route("POST", _SESSIONS, SessionCreateParams, lambda api, _, p: api.account.create_session(p), "checkout.session"),
    *_readable("sessions", _SESSIONS, SessionListParams, SessionRetrieveParams, "status", "payment_intent", "customer"),
    _route(
        *("POST", f"{_SESSIONS}/{{id}}/expire", SessionExpireParams),
        _act("sessions", lambda api, one, _: api.account.expire_session(one)),
        "checkout.session",
    ),
    _route(
        *("POST", _INTENTS, PaymentIntentCreateParams),
        lambda api, _, params: api.account.cards.create_intent(params),
        "payment_intent",
    ),
    *_readable("payment_intents", _INTENTS, PaymentIntentListParams, PaymentIntentRetrieveParams, "customer"),
    _route(
        *("POST", f"{_INTENTS}/{{id}}/cancel", PaymentIntentCancelParams),
        _act("payment_intents", lambda api, one, params: api.account.cards.cancel_intent(one, params)),
        "payment_intent",
    ),
    _route("GET", "/v1/charges/{id}", ChargeRetrieveParams, _retrieve("charges"), "charge"),
    _route(
        *("POST", "/v1/customers", CustomerCreateParams),
        lambda api, _, params: api.account.cards.create_customer(params),
        "customer",
    ),
    _route("GET", "/v1/customers/{id}", CustomerRetrieveParams, _retrieve("customers"), "customer"),
    _route(
        *("POST", "/v1/customers/{id}", CustomerUpdateParams),
        _act("customers", lambda api, one, params: api.account.cards.update_customer(one, params)),
        "customer",
    ),
    *_readable("payment_methods", _METHODS, PaymentMethodListParams, PaymentMethodRetrieveParams, "customer", "type"),
    _route(
        *("POST", f"{_METHODS}/{{id}}/detach", PaymentMethodDetachParams),
        _act("payment_methods", lambda api, one, _: api.account.cards.detach(one)),
        "payment_method",
    ),
    _route(
        *("POST", "/v1/refunds", RefundCreateParams),
        lambda api, _, params: api.account.reversals.create_refund(params),
        "refund",
    ),
    *_readable("refunds", "/v1/refunds", RefundListParams, RefundRetrieveParams, "charge", "payment_intent"),
    *_readable("disputes", "/v1/disputes", DisputeListParams, DisputeRetrieveParams, "charge", "payment_intent"),
    _route(
        *("POST", "/v1/disputes/{id}/close", DisputeCloseParams),
        _act("disputes", lambda api, one, _: api.account.reversals.close_dispute(one, "lost")),
        "dispute",
    ),
    _route("POST", "/v1/billing_portal/sessions", PortalCreateParams, _create_portal, "billing_portal.session"),
    _route("GET", "/v1/events", EventListParams, _list_events, "event", is_list=True),
    _route("GET", "/v1/events/{id}", EventRetrieveParams, _retrieve("events"), "event"),
)

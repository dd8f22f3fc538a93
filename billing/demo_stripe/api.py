"""The HTTP face of the account: authentication, parameters, idempotency keys, expansion, errors in Stripe's shape."""

from __future__ import annotations

import hmac
import json
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import stripe
from stripe.params import (
    ChargeRetrieveParams,
    EventListParams,
    EventRetrieveParams,
    PaymentIntentRetrieveParams,
)
from stripe.params.checkout import (
    SessionCreateParams,
    SessionExpireParams,
    SessionListParams,
    SessionRetrieveParams,
)

from billing.demo_stripe import objects
from billing.demo_stripe.account import Account
from billing.demo_stripe.objects import Object
from billing.demo_stripe.params import Refused, checked, decode

MAX_EXPANSION: Final = 4
MAX_KEY: Final = 255


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, the JSON object and extra headers."""

    status: int
    body: Object
    headers: Mapping[str, str] = field(default_factory=dict)


class Failure(Exception):
    """An answer that is no object. ``error`` is the content of Stripe's error object."""

    def __init__(self, status: int, **error: str) -> None:
        super().__init__(error.get("message", ""))
        self.status = status
        self.error = {"type": "invalid_request_error", **error}


Handler = Callable[["Api", str, dict[str, Any]], Object]


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint: its parameters' type in the library, and what it does with the id in its path."""

    method: str
    pattern: re.Pattern[str]
    params: Any
    handler: Handler
    #: The kind of object it answers with, or lists.
    kind: str
    is_list: bool = False


class Api:
    """Answers requests to ``/v1/…``. An empty ``key`` accepts every secret key of test mode."""

    def __init__(self, account: Account, key: str = "") -> None:
        self.account = account
        self._key = key

    def answer(self, method: str, path: str, form: str, headers: Mapping[str, str]) -> Answer:
        """One request: ``form`` is the query of a GET and the body of a POST. Header names are lower-case."""
        extra = {"request-id": f"req_{secrets.token_hex(8)}", "stripe-version": stripe.api_version}
        try:
            self._admit(headers)
            with self.account.store.lock:
                body, more = self._run(method, path, form, headers)
                return Answer(200, body, {**extra, **more})
        except Refused as refused:
            error = {"code": refused.code, "message": refused.message, "param": refused.param}
            return _failed(Failure(400, **{key: value for key, value in error.items() if value}), extra)
        except Failure as failure:
            return _failed(failure, extra)

    def _admit(self, headers: Mapping[str, str]) -> None:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        known = hmac.compare_digest(key, self._key) if self._key else key.startswith("sk_test_")
        if scheme != "Bearer" or not known:
            raise Failure(401, message="Invalid API Key provided.")
        version = headers.get("stripe-version", stripe.api_version)
        if version != stripe.api_version:
            raise Failure(400, message=f"Invalid Stripe API version: {version}")

    def _run(self, method: str, path: str, form: str, headers: Mapping[str, str]) -> tuple[Object, dict[str, str]]:
        for route in ROUTES:
            match = route.pattern.fullmatch(path)
            if match and route.method == method:
                break
        else:
            raise Failure(404, message=f"Unrecognized request URL ({method}: {path}).")
        key = headers.get("idempotency-key", "") if method == "POST" else ""
        fingerprint = f"{method} {path} {form}"
        if (stored := self._stored(key, fingerprint)) is not None:
            return stored, {"idempotent-replayed": "true"}
        params = checked(decode(form), route.params)
        for wish in params.get("expand", []):  # before anything is made
            _check_wish(wish, route)
        result = route.handler(self, match["id"] if "id" in match.groupdict() else "", params)
        body: Object = json.loads(json.dumps(self._expanded(result, params.get("expand", []))))
        if key:
            self.account.store.tables.answers[key] = {"fingerprint": fingerprint, "body": body}
        if method == "POST":
            self.account.store.save()
        return body, {}

    def _stored(self, key: str, fingerprint: str) -> Object | None:
        """The first answer to this key. The same key for something else is an error, as at Stripe."""
        if not key:
            return None
        if len(key) > MAX_KEY:
            raise Failure(400, message="The idempotency key may have at most 255 characters.")
        stored = self.account.store.tables.answers.get(key)
        if stored is None:
            return None
        if stored["fingerprint"] != fingerprint:
            raise Failure(
                400,
                type="idempotency_error",
                message="Keys for idempotent requests can only be used with the same parameters they were first used"
                f" with. Try using a key other than '{key}' if you meant to execute a different request.",
            )
        body: Object = stored["body"]
        return body

    # ── Lookups ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def find(self, kind: str, identifier: str) -> Object:
        """The object, or Stripe's 404."""
        found: Object | None = getattr(self.account.store.tables, kind).get(identifier)
        if found is None:
            raise Failure(
                404,
                code="resource_missing",
                message=f"No such {KINDS[kind]}: '{identifier}'",
                param="id" if kind == "events" else KINDS[kind].rpartition(".")[2],
            )
        return found

    def page(self, kind: str, path: str, params: dict[str, Any], keep: Callable[[Object], bool]) -> Object:
        """Newest first, with Stripe's cursors."""
        limit = params.get("limit", 10)
        if not 1 <= limit <= 100:
            raise Refused("This value must be between 1 and 100 (inclusive).", param="limit")
        rows = [one for one in reversed(getattr(self.account.store.tables, kind).values()) if keep(one)]
        rows = [one for one in rows if _created_within(one["created"], params.get("created"))]
        ids = [one["id"] for one in rows]
        if after := params.get("starting_after"):
            self.find(kind, after)
            rows = rows[ids.index(after) + 1 :] if after in ids else []
        elif before := params.get("ending_before"):
            self.find(kind, before)
            rows = rows[: ids.index(before)] if before in ids else []
            return objects.listing(rows[-limit:], url=path, has_more=len(rows) > limit)
        return objects.listing(rows[:limit], url=path, has_more=len(rows) > limit)

    def _expanded(self, result: Object, wanted: list[str]) -> Object:
        for wish in wanted:
            steps = wish.split(".")
            if result["object"] == "list":
                result = {**result, "data": [self._with(one, steps[1:]) for one in result["data"]]}
            else:
                result = self._with(result, steps)
        return result

    def _with(self, one: Object, steps: list[str]) -> Object:
        if not steps or (value := one[steps[0]]) is None:
            return one
        inner = value if isinstance(value, dict) else self.find(EXPANDABLE[one["object"]][steps[0]], value)
        return {**one, steps[0]: self._with(inner, steps[1:])}


#: What each table holds, in the words of Stripe's messages.
KINDS: Final = {
    "sessions": "checkout.session",
    "payment_intents": "payment_intent",
    "charges": "charge",
    "events": "event",
}
#: Fields that hold an id, and the table it leads to. What this stand-in never fills can still be asked for.
EXPANDABLE: Final[Mapping[str, Mapping[str, str]]] = {
    "checkout.session": {"payment_intent": "payment_intents", "invoice": "", "customer": "", "setup_intent": ""},
    "payment_intent": {"latest_charge": "charges", "customer": "", "payment_method": ""},
    "charge": {"payment_intent": "payment_intents", "balance_transaction": "", "customer": ""},
}


def _check_wish(wish: str, route: Route) -> None:
    steps = wish.split(".")
    if len(steps) > MAX_EXPANSION:
        raise Refused("You cannot expand more than 4 levels of a property.", param="expand")
    kind = route.kind
    for index, step in enumerate(steps):
        if index == 0 and route.is_list and step == "data":
            continue
        if step not in EXPANDABLE.get(kind, {}) or (index == 0 and route.is_list):
            raise Refused(f"This property cannot be expanded ({wish}).", param="expand")
        kind = KINDS.get(EXPANDABLE[kind][step], "")


def _failed(failure: Failure, extra: Mapping[str, str]) -> Answer:
    return Answer(failure.status, {"error": failure.error}, {**extra, "stripe-should-retry": "false"})


def _created_within(created: int, bounds: Any) -> bool:
    if bounds is None:
        return True
    if isinstance(bounds, int):
        return created == bounds
    above = bounds.get("gt", created - 1) < created and bounds.get("gte", created) <= created
    return bool(above and created < bounds.get("lt", created + 1) and created <= bounds.get("lte", created))


def _create_session(api: Api, _: str, params: dict[str, Any]) -> Object:
    return api.account.create_session(params)


def _retrieve_session(api: Api, identifier: str, _: dict[str, Any]) -> Object:
    return api.find("sessions", identifier)


def _expire_session(api: Api, identifier: str, _: dict[str, Any]) -> Object:
    return api.account.expire_session(api.find("sessions", identifier))


def _list_sessions(api: Api, _: str, params: dict[str, Any]) -> Object:
    wanted = {name: params[name] for name in ("status", "payment_intent", "customer") if name in params}
    return api.page("sessions", _SESSIONS, params, lambda one: all(one[name] == wanted[name] for name in wanted))


def _retrieve_payment_intent(api: Api, identifier: str, _: dict[str, Any]) -> Object:
    return api.find("payment_intents", identifier)


def _retrieve_charge(api: Api, identifier: str, _: dict[str, Any]) -> Object:
    return api.find("charges", identifier)


def _retrieve_event(api: Api, identifier: str, _: dict[str, Any]) -> Object:
    return api.find("events", identifier)


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


_SESSIONS: Final = "/v1/checkout/sessions"
ROUTES: Final = (
    _route("POST", _SESSIONS, SessionCreateParams, _create_session, "checkout.session"),
    _route("GET", _SESSIONS, SessionListParams, _list_sessions, "checkout.session", is_list=True),
    _route("GET", f"{_SESSIONS}/{{id}}", SessionRetrieveParams, _retrieve_session, "checkout.session"),
    _route("POST", f"{_SESSIONS}/{{id}}/expire", SessionExpireParams, _expire_session, "checkout.session"),
    _route("GET", "/v1/payment_intents/{id}", PaymentIntentRetrieveParams, _retrieve_payment_intent, "payment_intent"),
    _route("GET", "/v1/charges/{id}", ChargeRetrieveParams, _retrieve_charge, "charge"),
    _route("GET", "/v1/events", EventListParams, _list_events, "event", is_list=True),
    _route("GET", "/v1/events/{id}", EventRetrieveParams, _retrieve_event, "event"),
)

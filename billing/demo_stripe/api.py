"""The HTTP face of the account: authentication, parameters, idempotency keys, expansion, errors in Stripe's shape."""

from __future__ import annotations

import hmac
import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import stripe

from billing.demo_stripe import objects
from billing.demo_stripe.account import Account
from billing.demo_stripe.cards import Declined
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

    def __init__(self, status: int, **error: Any) -> None:
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

    def __init__(self, account: Account, routes: Sequence[Route], key: str = "") -> None:
        self.account = account
        self._routes = routes
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
        for route in self._routes:
            match = route.pattern.fullmatch(path)
            if match and route.method == method:
                break
        else:
            raise Failure(404, message=f"Unrecognized request URL ({method}: {path}).")
        key = headers.get("idempotency-key", "") if method == "POST" else ""
        fingerprint = f"{method} {path} {form}"
        if (stored := self._stored(key, fingerprint)) is not None:
            if declined := stored.get("error"):
                raise Failure(402, **declined)
            return stored, {"idempotent-replayed": "true"}
        params = checked(decode(form), route.params)
        for wish in params.get("expand", []):  # before anything is made
            _check_wish(wish, route)
        try:
            result = route.handler(self, match["id"] if "id" in match.groupdict() else "", params)
        except Declined as declined:  # it was tried: that stays, and so does the answer
            self._keep(key, fingerprint, {"error": json.loads(json.dumps(declined.error))})
            self.account.store.save()
            raise Failure(402, **declined.error) from None
        body: Object = json.loads(json.dumps(self._expanded(result, params.get("expand", []))))
        self._keep(key, fingerprint, body)
        if method == "POST":
            self.account.store.save()
        return body, {}

    def _keep(self, key: str, fingerprint: str, body: Object) -> None:
        if key:
            self.account.store.tables.answers[key] = {"fingerprint": fingerprint, "body": body}

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
    "customers": "customer",
    "payment_methods": "payment_method",
    "refunds": "refund",
    "disputes": "dispute",
    "events": "event",
}
#: Fields that hold an id, and the table it leads to. What this stand-in never fills can still be asked for.
EXPANDABLE: Final[Mapping[str, Mapping[str, str]]] = {
    "checkout.session": {
        "payment_intent": "payment_intents",
        "customer": "customers",
        "invoice": "",
        "setup_intent": "",
    },
    "payment_intent": {"latest_charge": "charges", "customer": "customers", "payment_method": "payment_methods"},
    "charge": {"payment_intent": "payment_intents", "customer": "customers", "balance_transaction": ""},
    "payment_method": {"customer": "customers"},
    "refund": {"charge": "charges", "payment_intent": "payment_intents"},
    "dispute": {"charge": "charges", "payment_intent": "payment_intents"},
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

"""The checker that keeps the stand-in honest: it takes what Stripe's types take and names what they do not."""

from __future__ import annotations

from typing import Any

import pytest
from stripe.params import EventListParams, PaymentIntentCreateParams, RefundCreateParams
from stripe.params.checkout import SessionCreateParams, SessionListParams

from billing.demo_stripe.params import MAX_DEPTH, Refused, checked, decode

ITEM = "line_items[0][price_data][currency]=usd&line_items[0][price_data][unit_amount]=1000"


@pytest.mark.parametrize(
    ("form", "kind", "wanted"),
    [
        ("mode=payment", SessionCreateParams, {"mode": "payment"}),
        ("adaptive_pricing[enabled]=false", SessionCreateParams, {"adaptive_pricing": {"enabled": False}}),
        ("metadata[a]=1&metadata[b]=true", SessionCreateParams, {"metadata": {"a": "1", "b": "true"}}),
        ("expand[0]=payment_intent", SessionCreateParams, {"expand": ["payment_intent"]}),
        ("expand[]=a&expand[]=b", SessionCreateParams, {"expand": ["a", "b"]}),
        (
            ITEM + "&line_items[0][quantity]=2",
            SessionCreateParams,
            {"line_items": [{"price_data": {"currency": "usd", "unit_amount": 1000}, "quantity": 2}]},
        ),
        ("created=5", SessionListParams, {"created": 5}),
        ("created[gte]=5&created[lt]=9&limit=3", SessionListParams, {"created": {"gte": 5, "lt": 9}, "limit": 3}),
        ("types[0]=a&types[1]=b", EventListParams, {"types": ["a", "b"]}),
        (
            "amount=2000&currency=usd&off_session=true&confirm=true",
            PaymentIntentCreateParams,
            {"amount": 2000, "currency": "usd", "off_session": True, "confirm": True},
        ),
        (
            "amount=100&reason=requested_by_customer",
            RefundCreateParams,
            {"amount": 100, "reason": "requested_by_customer"},
        ),
        ("", SessionCreateParams, {}),
    ],
)
def test_what_the_types_know_is_taken_with_its_type(form: str, kind: Any, wanted: dict[str, Any]) -> None:
    assert checked(decode(form), kind) == wanted


@pytest.mark.parametrize(
    ("form", "kind", "param", "code"),
    [
        ("currancy=usd", SessionCreateParams, "currancy", "parameter_unknown"),
        ("automatic_tax[enabledd]=true", SessionCreateParams, "automatic_tax[enabledd]", "parameter_unknown"),
        ("api_key=sk_x", SessionCreateParams, "api_key", "parameter_unknown"),
        ("idempotency_key=x", SessionCreateParams, "idempotency_key", "parameter_unknown"),
        ("automatic_tax[liability][type]=self", SessionCreateParams, "automatic_tax[enabled]", "parameter_missing"),
        (
            "line_items[0][price_data][unit_amount]=1000",
            SessionCreateParams,
            "line_items[0][price_data][currency]",
            "parameter_missing",
        ),
        ("currency=usd", PaymentIntentCreateParams, "amount", "parameter_missing"),
        ("mode=pay", SessionCreateParams, "mode", "parameter_invalid"),
        ("reason=because", RefundCreateParams, "reason", "parameter_invalid"),
        ("line_items=x", SessionCreateParams, "line_items", "parameter_invalid"),
        ("line_items[1][quantity]=1", SessionCreateParams, "line_items", "parameter_invalid"),
        ("metadata=x", SessionCreateParams, "metadata", "parameter_invalid"),
        ("metadata[a][b]=x", SessionCreateParams, "metadata[a]", "parameter_invalid"),
        ("adaptive_pricing[enabled]=yes", SessionCreateParams, "adaptive_pricing[enabled]", "parameter_invalid"),
        ("adaptive_pricing=true", SessionCreateParams, "adaptive_pricing", "parameter_invalid"),
        (
            ITEM.replace("1000", "10.00"),
            SessionCreateParams,
            "line_items[0][price_data][unit_amount]",
            "parameter_invalid_integer",
        ),
        ("expires_at=", SessionCreateParams, "expires_at", "parameter_invalid_integer"),
        ("success_url=", SessionCreateParams, "success_url", "parameter_invalid_empty"),
        ("limit=many", SessionListParams, "limit", "parameter_invalid_integer"),
        ("mode[a]=payment", SessionCreateParams, "mode", "parameter_invalid"),
    ],
)
def test_what_they_do_not_know_is_named(form: str, kind: Any, param: str, code: str) -> None:
    with pytest.raises(Refused) as refused:
        checked(decode(form), kind)
    assert (refused.value.param, refused.value.code) == (param, code)


@pytest.mark.parametrize(
    "form",
    [
        "a=1&a=2",
        "a=1&a[b]=2",
        "a[b]=1&a=2",
        "a[=1",
        "=1",
        "a" + "[b]" * MAX_DEPTH + "=1",
        "a=%ff",
        "&".join(f"a{number}=1" for number in range(501)),
    ],
)
def test_forms_that_cannot_be_read_are_refused(form: str) -> None:
    with pytest.raises(Refused):
        decode(form)

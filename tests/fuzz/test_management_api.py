"""The management API against its own OpenAPI document: requests that the document allows and requests that it does not
never meet a failure of ours, and every success is what the document says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
import schemathesis
from django.test import Client
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from jsonschema import Draft202012Validator
from pytest_django import Settings
from schemathesis import GenerationMode
from schemathesis.core import NotSet

from hypereal_site.api import api
from tests import cast
from tests.fakes.stripe import KEY, SECRET, FakeStripe
from tests.fuzz.test_gateway import BOUNDED, EXAMPLES

pytestmark = pytest.mark.django_db

MODES = {"as described": GenerationMode.POSITIVE, "not as described": GenerationMode.NEGATIVE}
#: Whoever may do everything, whoever may read, and who has no business here.
PEOPLE = ("owner", "viewer", "stranger", "anonymous")


@pytest.fixture(autouse=True)
def stripe(settings: Settings) -> Iterator[None]:
    """Payments have somebody to ask: without them each top-up would be a failure of Stripe's."""
    fake = FakeStripe()
    settings.STRIPE_API_BASE, settings.STRIPE_SECRET_KEY = fake.url, KEY
    settings.STRIPE_WEBHOOK_SECRETS, settings.DEMO_PAYMENTS = [SECRET], True
    yield
    fake.stop()


@pytest.mark.parametrize("mode", MODES)
def test_no_request_meets_a_failure_of_ours(mode: str, figures: Callable[[str], None]) -> None:
    company = cast.assemble()
    clients = {who: company.client(who) for who in PEOPLE}
    key_id = created(clients["owner"])
    document = api.get_openapi_schema()
    schema: Any = schemathesis.openapi.from_dict(document)
    told: dict[str, int] = {}
    for found in schema.get_all_operations():
        send_many(found.ok(), MODES[mode], clients, key_id, document, told)
    figures(f"management API, {mode}: " + ", ".join(f"{count} × {status}" for status, count in sorted(told.items())))
    assert told.get("200" if mode == "as described" else "400")


def send_many(
    operation: Any,
    mode: GenerationMode,
    clients: dict[str, Client],
    key_id: str,
    document: dict[str, Any],
    told: dict[str, int],
) -> None:
    """Generated requests for one operation, half of them for a key that there is; ``told`` counts the statuses."""

    @settings(BOUNDED, max_examples=max(5, EXAMPLES // 4))
    @given(case=operation.as_strategy(generation_mode=mode), who=st.sampled_from(PEOPLE), meant=st.booleans())
    def send(case: Any, who: str, meant: bool) -> None:
        if meant and "key_id" in case.path_parameters:
            case.path_parameters["key_id"] = key_id
        answer = asked(clients[who], case)
        told[str(answer.status_code)] = told.get(str(answer.status_code), 0) + 1
        assert answer.status_code < 500, (operation.label, answer.content)
        check(document, operation, answer)

    try:
        send()
    except Unsatisfiable:  # whatever is sent to an operation that takes nothing is as described
        assert mode is GenerationMode.NEGATIVE


def created(client: Client) -> str:
    """The id of a key that stands for real ones."""
    answer = client.post("/api/api-keys", {"name": "real"}, content_type="application/json")
    return str(answer.json()["id"])


def asked(client: Client, case: Any) -> Any:
    """The answer to a generated request, whatever it holds."""
    path = urlsplit(case.formatted_path).path
    headers = {str(name): str(value) for name, value in (case.headers or {}).items() if sendable(str(value))}
    body = b""
    if case.media_type is not None and not isinstance(case.body, NotSet):
        body = case.body if isinstance(case.body, bytes) else json.dumps(case.body).encode()
    return client.generic(
        case.method,
        path,
        body,
        content_type=case.media_type or "application/json",
        headers=headers,
        query_params=None,
        QUERY_STRING=urlencode(case.query or {}, doseq=True, errors="replace"),
    )


def sendable(value: str) -> bool:
    """What an HTTP server lets through as a header."""
    return value.isprintable() and value.isascii()


def check(document: dict[str, Any], operation: Any, answer: Any) -> None:
    """A success is as described; an error has the one form of all errors."""
    responses = document["paths"][operation.path][operation.method]["responses"]
    described = {int(status): response for status, response in responses.items()}
    if answer.status_code >= 400:
        error = json.loads(answer.content)["error"]
        assert error["message"] and error["type"]
        return
    assert answer.status_code in described, operation.label
    content = described[answer.status_code].get("content", {}).get("application/json")
    if content is None:
        return
    validator = Draft202012Validator({**content["schema"], "components": document["components"]})
    validator.validate(json.loads(answer.content))

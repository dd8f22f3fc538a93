"""The responses dialect, and that of embeddings, as rows of input and output; what Codex needs to decide rightly."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types.responses import ResponseFailedEvent, ResponseIncompleteEvent

from core import errors
from core.errors import InvalidRequest, ProductError
from core.ids import uuid7
from gateway.dialects import openai_embeddings
from gateway.dialects.openai_responses import DIALECT, TAKES_EVENTS, failure_code, names_only_json
from gateway.failover import PassedOn
from tests.fakes import responses as fake
from upstreams.errors import UpstreamRefusal
from upstreams.responses_relay import Relay
from upstreams.wire import Usage


def parse(**fields: Any) -> Any:
    return DIALECT.parse(json.dumps({"model": "m", "input": "x", **fields}).encode())


def identity() -> Any:
    relay = Relay()
    relay.feed(fake.beginning() + fake.delta("words", 41))
    return relay.identity


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {"model": "m", "stream": False, "output_ceiling": None, "choices": 1, "server_tools": ()}),
        ({"stream": True, "max_output_tokens": 7}, {"stream": True, "output_ceiling": 7}),
        ({"stream": None, "background": False, "max_output_tokens": None}, {"stream": False, "output_ceiling": None}),
        ({"service_tier": "flex"}, {"service_tier": "flex"}),
        ({"input": []}, {"model": "m"}),
        ({"input": None, "prompt": {"id": "p"}}, {"model": "m"}),
        ({"input": None, "previous_response_id": "resp_1"}, {"model": "m"}),
        ({"store": None}, {"kept": True, "previous_response_id": ""}),
        ({"store": False, "previous_response_id": "resp_1"}, {"kept": False, "previous_response_id": "resp_1"}),
        ({"model": "", "intent": "code"}, {"model": "", "intent": "code"}),
        ({"tools": None}, {"server_tools": ()}),
        ({"tools": [{"type": "function"}, {"type": "custom"}, {"type": "mcp"}, {"type": "local_shell"}, {}]},
         {"server_tools": ()}),
        ({"tools": [{"type": "shell", "environment": {"type": "local"}}, {"type": "brand_new", "x": [1]}]},
         {"server_tools": ()}),
        ({"tools": [{"type": "web_search", "external_web_access": True}, {"type": "web_search_preview"}]},
         {"server_tools": (("web_search_call", "tools[0]"), ("web_search_call", "tools[1]"))}),
        ({"tools": [{"type": "shell", "environment": {"type": "container_reference"}}]},
         {"server_tools": (("shell_call", "tools[0]"),)}),
        ({"tools": [{"type": "namespace", "tools": [{"type": "function"}, {"type": "file_search"}, 3]}]},
         {"server_tools": (("file_search_call", "tools[0]"),)}),
    ],
)  # fmt: skip
def test_what_is_read(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    call = parse(**fields)
    assert {name: getattr(call, name) for name in expected} == expected


def test_what_is_not_read_keeps_its_bytes_and_our_own_members_go() -> None:
    body = b'{"model":"m","input":[1] , "tools": [ {"type" : "custom"} ],"hypereal":{},"intent":"fast","y":1e2}'
    fields = {name: bytes(raw) for name, raw in DIALECT.parse(body).fields.items()}
    assert fields == {"model": b'"m"', "input": b"[1]", "tools": b'[ {"type" : "custom"} ]', "y": b"1e2"}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"nope", None), (b"3", None), (b'{"input":"x"}', "model"), (b'{"model":"m"}', "input"),
        (b'{"model":"m","input":true}', "input"), (b'{"model":"m","input":null,"prompt":null}', "input"),
        (b'{"model":"m","input":"x","background":true}', "background"),
        (b'{"model":"m","input":"x","background":1}', "background"),
        (b'{"model":"m","input":"x","max_output_tokens":1.5}', "max_output_tokens"),
        (b'{"model":"m","input":"x","tools":"all"}', "tools"), (b'{"model":"m","input":"x","tools":[[]]}', "tools"),
    ],
)  # fmt: skip
def test_what_is_refused(body: bytes, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as refused:
        DIALECT.parse(body)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("accept", "only"),
    [
        (b"application/json", True), (b"Application/JSON ; q=0.9", True), (b"application/vnd.x+json", True),
        (b"", False), (b"*/*", False), (b"application/*", False), (b"application/json, */*", False),
        (b"text/event-stream", False), (b" , ", False),
    ],
)  # fmt: skip
def test_who_takes_nothing_but_json(accept: bytes, only: bool) -> None:
    assert names_only_json(accept) is only


def test_whether_a_caller_takes_events_is_known_of_the_call() -> None:
    body = b'{"model":"m","input":"x"}'
    assert (DIALECT.parse(body).takes_events, TAKES_EVENTS.parse(body).takes_events) == (False, True)


def passed_on(status: int, code: str | None) -> ProductError:
    return PassedOn(UpstreamRefusal("no", status=status, code=code))


#: Codex stops at once at insufficient_quota, invalid_prompt and context_length_exceeded; server_error it tries again.
CODES = [
    (errors.InsufficientCredits("no"), "insufficient_quota"),
    (errors.SpendingLimitExceeded("no"), "insufficient_quota"),
    (errors.RateLimited("wait", retry_after=3), "rate_limit_exceeded"),
    (errors.UpstreamFailed("x"), "server_error"),
    (errors.Overloaded("x"), "server_error"),
    (errors.TimedOut("x"), "server_error"),
    (errors.InternalError("x"), "server_error"),
    (errors.PermissionDenied("x"), "invalid_prompt"),
    (passed_on(400, "context_length_exceeded"), "context_length_exceeded"),
    (passed_on(400, "invalid_prompt"), "invalid_prompt"),
    (passed_on(400, None), "invalid_prompt"),
    (passed_on(413, "string_above_max_length"), "invalid_prompt"),
]


@pytest.mark.parametrize(("error", "code"), CODES)
def test_a_failure_inside_a_stream_is_a_failed_response_with_a_code_that_codex_knows(
    error: ProductError, code: str
) -> None:
    request_id = uuid7()
    assert failure_code(error) == code
    begun: list[dict[str, Any]] = [{}, identity()]
    for known in begun:
        name, data, *rest = DIALECT.error_frame(error, request_id, known).split(b"\n")
        assert (name, rest) == (b"event: response.failed", [b"", b""])
        value = json.loads(data.removeprefix(b"data: "))
        ResponseFailedEvent.model_validate(value | {"response": value["response"] | {"error": None}})
        response = value["response"]
        assert (response["status"], response["error"]["code"]) == ("failed", code)
        assert (response["error"]["message"], response["error"]["type"]) == (error.message, error.type)
        assert (value["sequence_number"], response["id"]) == ((42, fake.ID) if known else (0, f"resp_{request_id.hex}"))
    assert abs(json.loads(DIALECT.error_frame(error, request_id)[29:])["response"]["created_at"] - now()) < 60


def now() -> float:
    return (uuid7().int >> 80) / 1000


def test_an_early_end_is_an_incomplete_response() -> None:
    [frame] = DIALECT.stop_frames(identity(), parse(stream=True), Usage(input_tokens=3, output_tokens=4), "why")
    assert frame.startswith(b"event: response.incomplete\ndata: ")
    value = json.loads(frame[33:])
    ResponseIncompleteEvent.model_validate(value)
    response = value["response"]
    assert (value["sequence_number"], response["id"], response["status"]) == (42, fake.ID, "incomplete")
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert (response["usage"]["total_tokens"], response["hypereal"]) == (7, {"stopped": "why"})


def test_errors_have_openais_shape() -> None:
    error = errors.InsufficientCredits("no", extra={"required_credits": 200})
    for dialect in (DIALECT, openai_embeddings.DIALECT):
        told = json.loads(dialect.error(error, uuid7()))["error"]
        assert (told["type"], told["message"], told["required_credits"]) == ("insufficient_credits", "no", 200)

"""Pictures at a provider of tasks, by the catalog's own description of Black Forest Labs' API (C-IMG-1, C-IMG-5)."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from catalog import source
from storage.models import StoredObject
from tests.fakes.upstream import Behaviour, Conversation, Route
from tests.images import provider
from tests.images.provider import B64, PICTURE, ask
from tests.support.gateway import CREDIT, Caller, Gateway

DESCRIPTION = source.read().providers["black-forest-labs"].options


def bfl(*states: str, submit: int = 200, sample: str = "", file: bytes = PICTURE) -> Behaviour:
    """Takes a task, then tells these states, one a look, the last one for ever; a 5xx as a word is that status.

    What is ready lies at ``sample``, or at an address of its own, where ``file`` is.
    """
    looks: dict[str, int] = {}

    async def behave(talk: Conversation) -> None:
        path = talk.seen.path
        if path.endswith("/sample.png"):
            await talk.json(file, headers={"content-type": "image/png"})
        elif "/get_result?id=" in path:
            task = path.rpartition("=")[2]
            looks[task] = looks.get(task, 0) + 1
            state = states[min(looks[task], len(states)) - 1]
            if state.isdigit():
                await talk.json({"detail": "it failed"}, int(state))
                return
            base = path[: path.index("/get_result")]
            made = sample or f"http://{talk.seen.headers['host']}{base}/sample.png"
            result = {"sample": made, "prompt": "a red fox"} if state == "Ready" else None
            await talk.json({"id": task, "status": state, "result": result, "progress": None})
        elif submit != 200:
            await talk.json({"detail": "it failed"}, submit)
        else:
            task = f"task-{talk.attempt}"
            await talk.json({"id": task, "polling_url": f"https://elsewhere.example/get_result?id={task}"})

    return behave


def serve(gateway: Gateway, *routes: Route) -> str:
    options = {**DESCRIPTION, "task": {**DESCRIPTION["task"], "poll_seconds": 0.02}}
    return provider.serve(gateway, *routes, adapter="task", options=options)


@pytest.fixture
def caller(gateway: Gateway) -> Caller:
    return gateway.caller()


def submitted(route: Route) -> list[Any]:
    return [seen.body for seen in route.seen if seen.body is not None]


def test_a_task_is_begun_and_waited_for(gateway: Gateway, caller: Caller) -> None:
    route = gateway.upstream.serve(bfl("Pending", "Pending", "Ready"))
    reply = ask(caller, serve(gateway, route), size="1536x1024", response_format="b64_json", seed=7)
    assert (reply.status, reply.json["data"]) == (200, [{"b64_json": B64}])
    assert submitted(route) == [{"prompt": "a red fox", "width": 1536, "height": 1024, "seed": 7}]
    assert route.seen[0].headers["x-key"]
    assert caller.settled_books().charged == 8 * CREDIT


def test_each_picture_is_a_task(gateway: Gateway, caller: Caller) -> None:
    route = gateway.upstream.serve(bfl("Ready"))
    reply = ask(caller, serve(gateway, route), n=3, image_urls=[f"data:image/png;base64,{B64}"])
    assert (reply.status, len(reply.json["data"]), len(submitted(route))) == (200, 3, 3)
    assert submitted(route)[0]["input_image"] == B64
    assert caller.settled_books().charged == 24 * CREDIT


def test_a_look_that_fails_begins_no_second_task(gateway: Gateway, caller: Caller) -> None:
    route = gateway.upstream.serve(bfl("503", "Ready"))
    assert ask(caller, serve(gateway, route)).status == 200
    assert len(submitted(route)) == 1


def test_content_that_is_refused_is_the_callers_matter(gateway: Gateway, caller: Caller) -> None:
    route = gateway.upstream.serve(bfl("Request Moderated"))
    reply = ask(caller, serve(gateway, route))
    assert (reply.status, reply.error["code"]) == (400, "content_policy_violation")
    assert caller.settled_books().charged == 0


@pytest.mark.parametrize("first", [bfl("Error"), bfl("Ready", submit=402)], ids=["failed", "our-account"])
def test_the_next_target_takes_over(gateway: Gateway, caller: Caller, first: Behaviour) -> None:
    routes = gateway.upstream.serve(first), gateway.upstream.serve(bfl("Ready"))
    reply = ask(caller, serve(gateway, *routes))
    assert reply.status == 200
    assert reply.headers["x-hypereal-provider"].endswith("-p1")
    assert caller.settled_books().charged == 8 * CREDIT


def test_what_is_no_picture_is_neither_charged_nor_handed_on(gateway: Gateway, caller: Caller) -> None:
    """Words in base64, addresses that lead nowhere, nothing: the next target draws, and only its pictures are paid."""
    page = b"<html>sorry</html>"
    nothing = f"data:image/png;base64,{base64.b64encode(page).decode()}", "data:image/png;base64,???", "javascript:1"
    routes = [gateway.upstream.serve(bfl("Ready", sample=one)) for one in nothing]
    reply = ask(caller, serve(gateway, *routes, gateway.upstream.serve(bfl("Ready"))), response_format="b64_json", n=2)
    assert (reply.status, reply.json["data"]) == (200, [{"b64_json": B64}] * 2), reply.body
    assert [len(submitted(route)) for route in routes] == [4, 4, 4]  # two pictures, and one retry of both
    assert caller.settled_books().charged == 16 * CREDIT
    # A page where the picture should lie is not kept as one: the caller gets the provider's address.
    reply = ask(caller, serve(gateway, gateway.upstream.serve(bfl("Ready", file=page))))
    assert reply.status == 200
    assert reply.json["data"][0]["url"].endswith("/sample.png")
    assert not StoredObject.objects.filter(workspace=caller.workspace).exists()


def test_a_task_that_never_ends_is_given_up(gateway: Gateway) -> None:
    server = gateway.with_settings(GATEWAY_MEDIA_SECONDS="1.5")
    caller = gateway.caller(server=server)
    reply = ask(caller, serve(gateway, gateway.upstream.serve(bfl("Pending"))))
    assert (reply.status, reply.error["type"]) == (504, "timeout_error")
    assert caller.settled_books().charged == 0

"""Whatever a provider of clips answers, its adapter says what it means or refuses it: nothing else ever comes of it."""

from __future__ import annotations

import json
import random
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.fakes.video_apis import Answer, Asked, VideoApi
from tests.fakes.video_tasks import VIDEO_APIS
from tests.videos.targets import ask_of, target_of
from upstreams.errors import UpstreamError
from upstreams.tasks import TaskAdapter
from upstreams.tasks_run import adapter_for
from upstreams.wire import Target, UpstreamRequest

ROUNDS: Final = 150
ODD: Final[list[Any]] = [
    None, True, 0, -1, 1.5, 1e308, 10**30, float("nan"), "", "x" * 10_000, "\0", "\ud800", [], [[[]]], {}, {"a": 1},
    "done", "failed", "../../x", "http://169.254.169.254/", "https://x/\n",
]  # fmt: skip
RAW: Final = [
    b"", b"null", b"[]", b"{}", b"5", b"\xff\xfe", b"[" * 50_000, b'{"a":' * 5_000, b"<html>", b'{"id": 1e999}', b"\0",
    "\ufeff{}".encode(),
]  # fmt: skip


def changed(document: Any, chance: random.Random) -> Any:
    """``document`` with members that are gone, or something else."""
    if isinstance(document, dict):
        kept = {name: value for name, value in document.items() if chance.random() > 0.1}
        return {name: chance.choice(ODD) if chance.random() < 0.25 else changed(kept[name], chance) for name in kept}
    if isinstance(document, list):
        return [changed(each, chance) for each in document] if chance.random() < 0.7 else chance.choice(ODD)
    return document if chance.random() < 0.6 else chance.choice(ODD)


def asked(api: VideoApi, request: UpstreamRequest) -> Answer:
    """What the fake server answers."""
    address = urlsplit(request.path)
    headers = {name.lower(): value for name, value in request.headers}
    body = json.loads(request.body) if request.body else None
    return api.handle(Asked(request.method, address.path, parse_qs(address.query), headers, body))


def read_as_a_beginning(adapter: TaskAdapter, target: Target, status: int, body: bytes) -> None:
    try:
        notes = adapter.accepted(target, ask_of(target), status, {}, body)
    except UpstreamError:
        return
    json.dumps(notes)
    adapter.look(target, notes)
    adapter.stop(target, notes, "running")


def read_as_a_standing(adapter: TaskAdapter, target: Target, notes: dict[str, Any], status: int, body: bytes) -> None:
    try:
        standing = adapter.standing(target, notes, status, {}, body)
    except UpstreamError:
        return
    assert standing.progress is None or 0 <= standing.progress <= 100
    assert standing.seconds is None or 0 < standing.seconds < 100_000
    for output in standing.outputs:
        if adapter.link(target, output) is None and output.url:
            adapter.download(target, output.url)


@pytest.mark.parametrize("api", [make() for make in VIDEO_APIS], ids=lambda api: type(api).__name__)
def test_anything_may_be_answered(api: VideoApi) -> None:
    api.base_url = "http://127.0.0.1:9"
    target, chance = target_of(api), random.Random(7)
    adapter = adapter_for(target)
    begun = asked(api, adapter.submit(target, ask_of(target)))
    notes = adapter.accepted(target, ask_of(target), begun.status, begun.headers, json.dumps(begun.body).encode())
    looks = [asked(api, adapter.look(target, notes)).body for _ in range(3)]
    for number in range(ROUNDS):
        for status in (200, 400, 503):
            raw = RAW[number] if number < len(RAW) else b""
            beginning = raw or json.dumps(changed(begun.body, chance)).encode()
            look = raw or json.dumps(changed(chance.choice(looks), chance)).encode()
            read_as_a_beginning(adapter, target, status, beginning)
            read_as_a_standing(adapter, target, notes, status, look)
            for body in (beginning, look):
                adapter.stopped(target, status, body)
                try:
                    adapter.found(target, ask_of(target), status, body)
                except UpstreamError:
                    continue

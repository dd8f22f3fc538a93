"""A provider's API of tasks as data: the catalog's own are sound, mistakes are named with their place."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from catalog.forms import ProviderForm
from catalog.models import Provider
from tests.videos.targets import PROVIDERS
from upstreams import tasks_template
from upstreams.tasks_description import parse
from upstreams.tasks_template import ABSENT, at, every, fill, fill_path
from upstreams.wire import TargetOptions

SMALL: dict[str, Any] = {
    "submit": [{"path": "/videos", "body": {"prompt": "{prompt}"}}],
    "id": "/id",
    "status": "/status",
    "states": {"done": "succeeded", "bad": "failed"},
    "outputs": ["/url"],
    "poll": {"path": "/videos/{id}"},
}


def without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda table: table.pop(name)


def put(*path: Any) -> Callable[[dict[str, Any]], None]:
    *way, name, value = path

    def change(table: dict[str, Any]) -> None:
        place: Any = table
        for step in way:
            place = place[step]
        place[name] = value

    return change


MISTAKES: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "no-submit": (without("submit"), "task.submit"),
    "empty-submit": (put("submit", []), "task.submit"),
    "no-id": (without("id"), "task.id"),
    "no-poll": (without("poll"), "task.poll"),
    "unknown-member": (put("pol", {}), "task: unknown member 'pol'"),
    "unknown-member-of-submit": (put("submit", 0, "bodi", {}), "task.submit.0: unknown member 'bodi'"),
    "unknown-value": (put("submit", 0, "body", {"a": ["{promt}"]}), "task.submit.0.body: there is no value 'promt'"),
    "unknown-modifier": (put("submit", 0, "body", "{prompt:shout}"), "task.submit.0.body"),
    "open-brace": (put("submit", 0, "body", "{Prompt}"), "task.submit.0.body"),
    "unknown-value-in-path": (put("poll", "path", "/videos/{task}"), "task.poll.path"),
    "path-without-slash": (put("poll", "path", "videos"), "task.poll.path"),
    "strange-method": (put("poll", "method", "TRACE"), "task.poll.method"),
    "pointer-without-slash": (put("outputs", ["url"]), "task.outputs"),
    "outputs-no-list": (put("outputs", "/url"), "task.outputs"),
    "state-unknown": (put("states", "done", "finished"), "task.states.done"),
    "no-failure-state": (put("states", {"done": "succeeded"}), "task.states"),
    "fault-unknown": (put("failure", {"code": "/c", "words": {"1": "odd"}}), "task.failure.words.1"),
    "when-unknown": (put("submit", 0, "when", {"picture": True}), "task.submit.0.when.picture"),
    "when-no-flag": (put("submit", 0, "when", {"image": "yes"}), "task.submit.0.when.image"),
    "field-hides-a-value": (put("fields", {"prompt": {"of": "{model}", "words": {}}}), "task.fields.prompt"),
    "field-of-nothing": (put("fields", {"mode": {"of": "{modes}", "words": {}}}), "task.fields.mode.of"),
    "link-without-output": (put("link", {"path": "/files/{output}"}), "task.link.output"),
    "polling-anywhere": (put("poll_url", "/url"), "task.hosts"),
    "cancel-in-no-state": (put("cancel", {"path": "/x", "states": ["waiting"]}), "task.cancel.states"),
    "seconds": (put("poll_seconds", 0), "task.poll_seconds"),
    "auth": (put("auth", {"key": "x"}), "task.auth: unknown member 'key'"),
    "no-table": (put("auth", "Bearer"), "task.auth"),
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=str)
def test_a_mistake_is_named_with_its_place(mistake: str) -> None:
    change, place = MISTAKES[mistake]
    table = copy.deepcopy(SMALL)
    parse(table)
    change(table)
    with pytest.raises(ValueError, match=f"^{place.replace('.', '[.]')}"):
        parse(table)


def test_every_task_provider_of_the_catalog_is_described() -> None:
    providers = {slug: told for slug, told in PROVIDERS.items() if told["adapter"] == "task"}
    assert len(providers) >= 7
    for slug, told in providers.items():
        assert TargetOptions.from_mapping(told["options"]).task is not None, slug


@pytest.mark.django_db
def test_the_admin_takes_a_description_and_names_what_is_wrong_with_it() -> None:
    row = Provider.objects.create(slug="own", name="Own", adapter="task", base_url="https://api.example.com")
    data = {
        "slug": "own", "name": "Own", "adapter": "task", "base_url": "https://api.example.com", "kinds": '["videos"]',
        "secret_env": "", "enabled": "on", "price_factor_basis_points": "10000",
    }  # fmt: skip
    good = ProviderForm({**data, "options": json.dumps({"task": SMALL})}, instance=row)
    assert good.is_valid(), good.errors
    bad = ProviderForm({**data, "options": '{"task": {"submit": []}}'}, instance=row)
    assert not bad.is_valid()
    assert "task" in bad.errors["options"][0]


def test_values_keep_their_types_and_what_has_none_is_left_out() -> None:
    template = {
        "model": "{model}", "seconds": "{duration}", "text": "{duration:text}", "small": "{resolution:lower}",
        "image": {"url": "{image}"}, "both": "{model}/{duration}", "half": "{model}/{image}", "fixed": True,
        "parts": [{"type": "text"}, {"each": "images", "item": {"url": "{item}"}},
                  {"if": "last_image", "item": {"role": "last"}}],
        "none": {"each": "extras", "item": "{item}"}, "second": "{images.1}", "third": "{images.2}",
    }  # fmt: skip
    values = {"model": "m", "duration": 5, "resolution": "720P", "images": ["a", "b"]}
    assert fill(template, values) == {
        "model": "m", "seconds": 5, "text": "5", "small": "720p", "both": "m/5", "fixed": True,
        "parts": [{"type": "text"}, {"url": "a"}, {"url": "b"}], "second": "b",
    }  # fmt: skip
    assert fill({"image": "{image}"}, values) is ABSENT


def test_what_callers_write_is_never_a_template() -> None:
    assert fill({"p": "say {prompt}"}, {"prompt": "{model} {0} \\1", "model": "m"}) == {"p": "say {model} {0} \\1"}
    assert fill_path("/tasks/{id}", {"id": "../a?b=c/d"}) == "/tasks/..%2Fa%3Fb%3Dc%2Fd"
    with pytest.raises(LookupError):
        fill_path("/tasks/{id}", {})


def test_pointers_find_what_is_there_and_nothing_else() -> None:
    answer = {"data": {"videos": [{"url": "a"}, {"url": ""}, {"url": "b"}, {}]}, "n": 0}
    assert list(every("/data/videos/*/url", answer)) == ["a", "b"]
    assert at("/data/videos/2/url", answer) == "b"
    assert at("/n", answer) == 0
    assert at("/data/videos/9/url", answer) is at("/x/y", answer) is at("/n/0", answer) is None


def test_data_urls_are_taken_apart() -> None:
    assert tasks_template.bare("data:image/png;base64,QUJD") == "QUJD"
    assert tasks_template.bare("https://a.example/b") == "https://a.example/b"
    assert tasks_template.mime("data:image/png;base64,QUJD") == "image/png"
    assert tasks_template.mime("https://a.example/b") == ""

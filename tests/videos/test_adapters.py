"""Every adapter against a server that behaves as its provider's documented API, through the real client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from jobs import http
from tests.fakes.video_apis import CLIP, Answer, Omni, OpenAI, Veo, VideoApi, serving
from tests.fakes.video_tasks import VIDEO_APIS, Ark, Bfl, DashScope, Kling, MiniMax, Vidu, Xai
from tests.videos.targets import POINT, ask_of, target_of
from upstreams.errors import (
    AccountRefused,
    BadAnswer,
    ConnectionLost,
    FirstByteTimedOut,
    ServerFailed,
    TotalTimedOut,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamRefusal,
)
from upstreams.tasks import MODERATED, Ask, Standing, TaskAdapter
from upstreams.tasks_run import Reply, adapter_for, run
from upstreams.wire import Target, Timeouts, UpstreamRequest

CANCELLING = [Omni, DashScope, Ark, Vidu, OpenAI]


@pytest.fixture
def api(request: pytest.FixtureRequest) -> Iterator[VideoApi]:
    with serving(request.param()) as api:
        yield api


every = pytest.mark.parametrize("api", VIDEO_APIS, indirect=True, ids=lambda api: api.__name__)


def only(*apis: type[VideoApi]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("api", apis, indirect=True, ids=lambda api: api.__name__)


def begun(api: VideoApi, **more: Any) -> tuple[Target, TaskAdapter, Ask, dict[str, Any]]:
    target = target_of(api)
    adapter = adapter_for(target)
    ask = ask_of(target, **more)
    return target, adapter, ask, adapter.accepted(target, ask, *http.send(adapter.submit(target, ask)))


def look(target: Target, adapter: TaskAdapter, notes: dict[str, Any]) -> Standing:
    return adapter.standing(target, notes, *http.send(adapter.look(target, notes)))


def ended(target: Target, adapter: TaskAdapter, notes: dict[str, Any]) -> Standing:
    for _ in range(10):
        standing = look(target, adapter, notes)
        if standing.state not in ("queued", "running"):
            return standing
    raise AssertionError("it does not end")


@every
def test_a_task_begins_runs_and_delivers(api: VideoApi) -> None:
    api.polls_until_done = 3
    target, adapter, _, notes = begun(api)
    assert look(target, adapter, notes).state in ("queued", "running")
    standing = ended(target, adapter, notes)
    assert standing.state == "succeeded"
    assert len(standing.outputs) == 1
    output = standing.outputs[0]
    if (request := adapter.link(target, output)) is not None:
        output = adapter.linked(target, *http.send(request))
    assert output.data == CLIP or output.url.startswith(api.base_url)
    assert len(api.submissions) == 1


@every
def test_the_prompt_goes_as_it_is_and_nothing_without_a_value_goes(api: VideoApi) -> None:
    begun(api)
    sent = repr(api.submissions[0].body)
    assert "a white cube {not a name} rotates" in sent
    assert "{prompt" not in sent
    assert "None" not in sent
    assert "''" not in sent


@every
def test_a_failed_task_says_so(api: VideoApi) -> None:
    api.outcome = "failed"
    target, adapter, _, notes = begun(api)
    standing = ended(target, adapter, notes)
    assert standing.state == "failed"
    assert not standing.moderated
    assert not standing.outputs


@every
def test_a_refusal_for_the_contents_sake_is_told_from_a_failure(api: VideoApi) -> None:
    api.outcome = "moderated"
    try:
        target, adapter, _, notes = begun(api)
    except UpstreamRefusal as refusal:
        assert refusal.code == MODERATED
        return
    standing = ended(target, adapter, notes)
    assert standing.moderated
    assert standing.state == "failed"


@every
def test_a_forgotten_task_is_gone(api: VideoApi) -> None:
    target, adapter, _, notes = begun(api)
    api.forget()
    assert look(target, adapter, notes).state == "gone"


@every
def test_a_wrong_key_is_our_fault_and_never_shown(api: VideoApi) -> None:
    target = target_of(api)
    api.secret = "another:secret" if isinstance(api, Kling) else "another"  # type: ignore[misc]
    adapter = adapter_for(target)
    ask = ask_of(target)
    with pytest.raises(AccountRefused) as caught:
        adapter.accepted(target, ask, *http.send(adapter.submit(target, ask)))
    assert target.secret not in str(caught.value)


FAULTS: dict[str, tuple[Answer, type[UpstreamError]]] = {
    "429": (Answer({"error": {"message": "slow down"}}, 429, {"retry-after": "7"}), UpstreamRateLimited),
    "503": (Answer(b"upstream connect error", 503), ServerFailed),
    "html": (Answer(b"<html>busy</html>", 200, {"content-type": "text/html"}), BadAnswer),
    "empty": (Answer({}), BadAnswer),
    "cut": (Answer(cut=True), ConnectionLost),
    "no-object": (Answer([1, 2]), BadAnswer),
}


@every
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_faults_at_the_submission_may_be_tried_again(api: VideoApi, fault: str) -> None:
    answer, kind = FAULTS[fault]
    api.submit_faults.append(answer)
    target = target_of(api)
    adapter, ask = adapter_for(target), ask_of(target)
    with pytest.raises(kind) as caught:
        adapter.accepted(target, ask, *http.send(adapter.submit(target, ask)))
    assert caught.value.try_next_target
    if fault == "429":
        assert caught.value.retry_after == 7


@every
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_faults_while_it_runs_say_nothing_about_the_task(api: VideoApi, fault: str) -> None:
    answer, kind = FAULTS[fault]
    target, adapter, _, notes = begun(api)
    api.look_faults.append(answer)
    with pytest.raises(kind):
        look(target, adapter, notes)
    assert ended(target, adapter, notes).state == "succeeded"


def test_a_slow_server_is_given_up() -> None:
    with serving(Xai()) as api:
        api.submit_faults.append(Answer({"request_id": "late"}, seconds=2))
        target = target_of(api)
        request = adapter_for(target).submit(target, ask_of(target))
        with pytest.raises(FirstByteTimedOut):
            http.send(request, Timeouts(first_byte_seconds=0.3))


@every
def test_a_state_that_nobody_has_heard_of_is_no_end(api: VideoApi) -> None:
    target, adapter, _, notes = begun(api)
    odd = {"status": "pondering", "state": "pondering", "id": "x", "done": False}
    odd |= {"output": {"task_status": "PONDERING"}, "code": 0, "data": {"task_status": "pondering"}}
    api.look_faults.append(Answer(odd | {"base_resp": {"status_code": 0}}))
    with pytest.raises(BadAnswer):
        look(target, adapter, notes)


@only(*CANCELLING)
def test_a_task_that_waits_can_be_cancelled(api: VideoApi) -> None:
    target, adapter, _, notes = begun(api)
    request = adapter.stop(target, notes, "queued")
    assert request is not None
    reply = http.send(request)
    assert adapter.stopped(target, reply.status, reply.body)


@only(DashScope, Ark)
def test_one_that_runs_is_not_asked_to_stop_and_a_no_is_believed(api: VideoApi) -> None:
    api.polls_until_done = 5
    target, adapter, _, notes = begun(api)
    assert adapter.stop(target, notes, "running") is None
    look(target, adapter, notes)
    look(target, adapter, notes)
    request = adapter.stop(target, notes, "queued")
    assert request is not None
    reply = http.send(request)
    assert not adapter.stopped(target, reply.status, reply.body)


@only(Kling, MiniMax, Xai, Veo)
def test_some_have_no_way_to_cancel(api: VideoApi) -> None:
    target, adapter, _, notes = begun(api)
    assert adapter.stop(target, notes, "queued") is None


def test_a_task_is_found_by_our_own_id_where_its_answer_was_lost() -> None:
    with serving(Kling()) as api:
        target = target_of(api)
        adapter, ask = adapter_for(target), ask_of(target)
        asking = adapter.find(target, ask)
        assert asking is not None
        reply = http.send(asking)
        assert adapter.found(target, ask, reply.status, reply.body) is None
        api.submit_faults.append(Answer(cut=True))
        with pytest.raises(ConnectionLost):
            http.send(adapter.submit(target, ask))
        reply = http.send(asking)
        notes = adapter.found(target, ask, reply.status, reply.body)
        assert notes is not None
        assert notes["id"] == api.submissions[0].id
        assert ended(target, adapter, notes).state == "succeeded"
        with pytest.raises(UpstreamRefusal):  # which is why it is looked for
            adapter.accepted(target, ask, *http.send(adapter.submit(target, ask)))


def test_lengths_are_read_where_they_are_told() -> None:
    for kind in (DashScope, Xai, Ark, Kling, OpenAI):
        with serving(kind()) as api:
            api.seconds = 4.2
            target, adapter, _, notes = begun(api)
            assert ended(target, adapter, notes).seconds == 4.2, kind


# What goes where, provider by provider.
def sent(api: VideoApi, **more: Any) -> dict[str, Any]:
    begun(api, **more)
    return api.submissions[-1].body


def test_dashscope_takes_sizes_for_texts_and_another_model_for_pictures() -> None:
    with serving(DashScope()) as api:
        body = sent(api, aspect_ratio="9:16", resolution="1080P")
        assert body["parameters"] == {"size": "1080*1920", "duration": 5}
        body = sent(api, image=POINT, images=[POINT])
        assert body["model"] == "wan2.6-i2v"
        assert body["input"]["img_url"] == POINT
        assert body["parameters"] == {"resolution": "720P", "duration": 5}


def test_minimax_gets_768p_for_720p() -> None:
    with serving(MiniMax()) as api:
        assert sent(api)["resolution"] == "768P"
        body = sent(api, resolution="1080P", image=POINT, last_image=POINT)
        assert (body["resolution"], body["first_frame_image"], body["last_frame_image"]) == ("1080P", POINT, POINT)


def test_seedance_takes_one_picture_as_its_first_frame_and_several_as_references() -> None:
    with serving(Ark()) as api:
        roles = lambda body: [part.get("role") for part in body["content"]]  # noqa: E731
        assert roles(sent(api)) == [None]
        assert roles(sent(api, image=POINT, images=[POINT])) == [None, "first_frame"]
        assert roles(sent(api, image=POINT, images=[POINT], last_image=POINT)) == [None, "first_frame", "last_frame"]
        body = sent(api, image=POINT, images=[POINT, POINT, POINT])
        assert roles(body) == [None, *["reference_image"] * 3]
        assert body["resolution"] == "720p"


def test_kling_has_three_ways() -> None:
    with serving(Kling()) as api:
        assert sent(api, resolution="1080P", job_id="a")["mode"] == "pro"
        body = sent(api, image=POINT, images=[POINT], last_image=POINT, job_id="b")
        assert body["image"] == body["image_tail"] == POINT.partition(",")[2]
        target = target_of(api, "kling-v3-omni")
        adapter = adapter_for(target)
        ask = ask_of(target, image=POINT, images=[POINT, "https://example.com/b.png"], job_id="c")
        notes = adapter.accepted(target, ask, *http.send(adapter.submit(target, ask)))
        assert [task.path for task in api.submissions] == [
            "/v1/videos/text2video", "/v1/videos/image2video", "/v1/videos/omni-video"
        ]  # fmt: skip
        urls = [each["image_url"] for each in api.submissions[-1].body["image_list"]]
        assert urls == [POINT.partition(",")[2], "https://example.com/b.png"]
        assert ended(target, adapter, notes).state == "succeeded"


def test_vidu_has_three_paths() -> None:
    with serving(Vidu()) as api:
        sent(api)
        sent(api, image=POINT, images=[POINT])
        sent(api, image=POINT, images=[POINT], last_image=POINT)
        ways = [task.path.rpartition("/")[2] for task in api.submissions]
        assert ways == ["text2video", "img2video", "start-end2video"]


def test_veo_takes_pictures_along() -> None:
    with serving(Veo()) as api:
        instance = sent(api, image=POINT, images=[POINT], last_image=POINT)["instances"][0]
        assert instance["image"] == {"bytesBase64Encoded": POINT.partition(",")[2], "mimeType": "image/png"}
        assert instance["lastFrame"] == instance["image"]
        instance = sent(api, image=POINT, images=[POINT, POINT])["instances"][0]
        assert [each["referenceType"] for each in instance["referenceImages"]] == ["asset", "asset"]
        body = sent(api, resolution="1080P", duration=8)
        assert body["parameters"] == {"aspectRatio": "16:9", "durationSeconds": 8, "resolution": "1080p"}
        target = target_of(api)
        with pytest.raises(UpstreamRefusal):
            adapter_for(target).submit(
                target, ask_of(target, image="https://a.example/b", images=["https://a.example/b"])
            )


def test_omni_asks_for_a_clip_in_the_background() -> None:
    with serving(Omni()) as api:
        body = sent(api, image=POINT, images=[POINT])
        assert body["response_format"] == {
            "type": "video", "delivery": "uri", "aspect_ratio": "16:9", "resolution": "720p", "duration": "5s"
        }  # fmt: skip
        assert [part["type"] for part in body["input"]] == ["text", "image"]


def test_keys_go_to_the_providers_own_host_alone() -> None:
    for kind in VIDEO_APIS:
        with serving(kind()) as api:
            target = target_of(api)
            adapter = adapter_for(target)
            assert adapter.download(target, "https://cdn.example.com/a.mp4") == ()


# Pictures by the same adapter, run to their end.
async def sending(request: UpstreamRequest) -> Reply:
    return Reply(*await asyncio.to_thread(http.send, request))


def test_a_task_is_run_to_its_end() -> None:
    with serving(Bfl()) as api:
        target = target_of(api)
        standing = asyncio.run(run(target, ask_of(target, width=1024, height=1024), sending, seconds=30))
        assert standing.outputs[0].url.startswith(f"{api.base_url}/files/")
        assert (api.submissions[0].path, api.submissions[0].body["width"]) == ("/v1/flux-2-pro", 1024)


def test_a_task_that_is_refused_or_takes_too_long() -> None:
    with serving(Bfl()) as api:
        target = target_of(api)
        api.outcome = "moderated"
        with pytest.raises(UpstreamRefusal) as caught:
            asyncio.run(run(target, ask_of(target), sending, seconds=30))
        assert caught.value.code == MODERATED
        api.outcome = "failed"
        with pytest.raises(ServerFailed):
            asyncio.run(run(target, ask_of(target), sending, seconds=30))
        api.polls_until_done = 1000
        with pytest.raises(TotalTimedOut):
            asyncio.run(run(target, ask_of(target), sending, seconds=1.5))


def test_an_address_to_poll_gets_the_key_only_at_hosts_that_are_named() -> None:
    with serving(Bfl()) as api:
        target = target_of(api)
        adapter = adapter_for(target)
        answer = b'{"id": "t", "polling_url": "%s"}'
        for address, trusted in (
            (b"https://api.eu1.bfl.ai/v1/get_result?id=t", True),
            (b"https://bfl.ai.example.com/v1/get_result?id=t", False),
            (b"http://api.bfl.ai/v1/get_result?id=t", False),
        ):
            notes = adapter.accepted(target, ask_of(target), 200, {}, answer % address)
            assert ("poll_url" in notes) is trusted
            assert (adapter.look(target, notes).origin.host == "api.eu1.bfl.ai") is trusted

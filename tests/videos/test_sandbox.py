"""The sandbox's clips: real ones, that a browser plays, and the same for the same text."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

from playwright.sync_api import sync_playwright

from storage import sniffing
from tests.support import chromium
from upstreams.sandbox.clips import PICTURES_PER_SECOND, clip
from upstreams.sandbox.server import Bytes, Whole
from upstreams.sandbox.videos import FAILS, QUEUE_SECONDS, WORK_SECONDS, Videos

PLAY = """async ([clip, moment]) => {
  const video = document.createElement("video");
  video.src = "data:video/mp4;base64," + clip;
  await new Promise((ready, failed) => {
    video.onloadeddata = ready;
    video.onerror = () => failed(video.error.message);
  });
  await new Promise((ready) => {  // "seeked" may come before the picture
    const look = (now, {mediaTime}) => {
      if (Math.abs(mediaTime - moment) < 0.1) ready();
      else video.requestVideoFrameCallback(look);
    };
    video.requestVideoFrameCallback(look);
    video.currentTime = moment;
  });
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  const pen = canvas.getContext("2d");
  pen.drawImage(video, 0, 0);
  const row = pen.getImageData(0, canvas.height / 2, canvas.width, 1).data;
  const bright = [];
  for (let x = 0; x < canvas.width; x++) if (row[4 * x] + row[4 * x + 1] + row[4 * x + 2] > 550) bright.push(x);
  return [video.duration, canvas.width, canvas.height, bright.reduce((a, b) => a + b, 0) / bright.length];
}"""


def test_the_same_text_makes_the_same_clip() -> None:
    assert clip("a fox", 2, 1280, 720) == clip("a fox", 2, 1280, 720)
    assert clip("a fox", 2, 1280, 720) != clip("a hare", 2, 1280, 720)
    assert sniffing.content_type(clip("a fox", 1, 1280, 720)[: sniffing.HEAD_BYTES]) == "video/mp4"
    assert len(clip("a fox", 10, 1280, 720)) < 1_500_000


def test_a_browser_plays_it_and_the_disc_crosses_it() -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium.find(), args=chromium.ARGUMENTS)
        page = browser.new_page()
        places = []
        for width, height in ((1280, 720), (720, 1280), (960, 960)):
            data = base64.b64encode(clip("a fox", 3, width, height)).decode()
            for moment in (0.1, 1.5, 2.8):
                seconds, across, down, place = page.evaluate(PLAY, [data, moment])
                assert seconds == 3
                assert abs(across / down - width / height) < 0.03
                places.append(place / across)
        browser.close()
    for first, middle, last in zip(places[::3], places[1::3], places[2::3], strict=True):
        assert first < middle < last
    assert PICTURES_PER_SECOND * 3 == 36


class Clock:
    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def ask(videos: Videos, method: str, path: str, body: Any = None) -> Any:
    answer = asyncio.run(videos.answer_any(method, path, json.dumps(body).encode() if body is not None else b""))
    if isinstance(answer, Bytes):
        return answer.data
    assert isinstance(answer, Whole)
    return answer.value if answer.status == 200 else answer.status


def test_it_waits_works_and_is_ready_across_a_restart() -> None:
    clock = Clock()
    made = ask(Videos(1.0, clock), "POST", "/v1/videos", {"prompt": "a fox", "seconds": "3", "size": "720x1280"})
    assert (made["status"], made["progress"]) == ("queued", 0)
    path = f"/v1/videos/{made['id']}"
    assert ask(Videos(1.0, clock), "GET", f"{path}/content") == 404
    clock.now += QUEUE_SECONDS + WORK_SECONDS / 2
    seen = ask(Videos(1.0, clock), "GET", path)
    assert (seen["status"], seen["progress"]) == ("in_progress", 50)
    clock.now += WORK_SECONDS
    seen = ask(Videos(1.0, clock), "GET", path)
    assert (seen["status"], seen["progress"], seen["seconds"]) == ("completed", 100, "3")
    assert ask(Videos(1.0, clock), "GET", f"{path}/content") == clip("a fox", 3, 720, 1280)
    assert ask(Videos(1.0, clock), "DELETE", path)["deleted"] is True


def test_it_fails_where_it_is_asked_to_and_refuses_nonsense() -> None:
    videos = Videos(0.0)
    failed = ask(videos, "POST", "/videos", {"prompt": f"a fox {FAILS}"})
    assert failed["status"] == "failed"
    assert failed["error"]["message"]
    for body in ({}, {"prompt": ""}, {"prompt": "a", "seconds": "900"}, {"prompt": "a", "size": "wide"}, [1]):
        assert ask(videos, "POST", "/videos", body) == 400
    for path in ("/videos/video_nonsense", "/videos/video_eyJwIjoxfQ"):
        assert ask(videos, "GET", path) == 404
    assert asyncio.run(videos.answer_any("GET", "/v1/models", b"")) is None

"""OpenAI's videos, as far as the gateway asks for them: create, retrieve, content, delete.

Nothing is kept: a video's id tells what it shows and when it was asked for, so that it outlives a restart.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
import time
from collections.abc import Callable
from typing import Any, Final

from upstreams import loose_json
from upstreams.sandbox.clips import clip
from upstreams.sandbox.server import Bytes, Whole

#: How long a clip takes, in seconds at the speed of life.
WORK_SECONDS: Final = 6.0
QUEUE_SECONDS: Final = 1.0
MOST_SECONDS: Final = 60
#: A prompt with this word in it is not made, so that a failure and its refund can be looked at.
FAILS: Final = "[fail]"

_PATH: Final = re.compile(r"/videos(?:/(?P<id>[\w-]{1,1000})(?P<content>/content)?)?/?$")
_SIZE: Final = re.compile(r"(\d{2,4})x(\d{2,4})")
_MOST_PROMPT: Final = 200


class Videos:
    """Answers everything below ``/videos``. ``speed`` is 1 for lifelike, 0 for at once; ``clock`` in Unix seconds."""

    def __init__(self, speed: float, clock: Callable[[], float] = time.time) -> None:
        self._speed = speed
        self._clock = clock

    async def answer_any(self, method: str, path: str, body: bytes) -> Whole | Bytes | None:
        """The answer, None for a path that is not ours."""
        match = _PATH.search(path)
        if match is None:
            return None
        if match["id"] is None:
            return self._create(body) if method == "POST" else _fault("Use POST.", status=405)
        asked = _read_id(match["id"])
        if asked is None:
            return _fault("There is no such video.", status=404)
        if method == "DELETE":
            return Whole({"id": match["id"], "deleted": True, "object": "video.deleted"})
        if method != "GET":
            return _fault("Use GET.", status=405)
        video = self._video(match["id"], asked)
        if not match["content"]:
            return Whole(video)
        if video["status"] != "completed":
            return _fault("The video is not ready yet.", status=404)
        data = await asyncio.to_thread(clip, asked["p"], asked["s"], asked["w"], asked["h"])
        return Bytes(data, "video/mp4")

    def _create(self, body: bytes) -> Whole:
        try:
            request = loose_json.decode(body)
        except ValueError:
            return _fault("We could not parse the JSON body of your request.")
        if not isinstance(request, dict) or not isinstance(request.get("prompt"), str) or not request["prompt"]:
            return _fault("you must provide a prompt", "prompt")
        seconds = str(request.get("seconds") or "4")
        size = _SIZE.fullmatch(str(request.get("size") or "1280x720"))
        if not seconds.isdigit() or not 1 <= int(seconds) <= MOST_SECONDS:
            return _fault(f"'seconds' must be a number from 1 to {MOST_SECONDS}.", "seconds")
        if size is None:
            return _fault("'size' must be WIDTHxHEIGHT.", "size")
        asked = {
            "p": request["prompt"][:_MOST_PROMPT],
            "s": int(seconds),
            "w": int(size[1]),
            "h": int(size[2]),
            "t": int(self._clock() * 1000),
            "m": str(request.get("model") or "")[:100],
        }
        return Whole(self._video(_write_id(asked), asked))

    def _video(self, identifier: str, asked: dict[str, Any]) -> dict[str, Any]:
        went = self._clock() - asked["t"] / 1000
        done = 1.0 if not self._speed else min(max((went * self._speed - QUEUE_SECONDS) / WORK_SECONDS, 0.0), 1.0)
        status = "completed" if done >= 1 else "in_progress" if done > 0 else "queued"
        failed = FAILS in asked["p"] and done >= 0.5
        error = {"code": "generation_failed", "message": "The sandbox was asked to fail."} if failed else None
        return {
            "id": identifier,
            "object": "video",
            "created_at": asked["t"] // 1000,
            "status": "failed" if failed else status,
            "progress": int(done * 100),
            "model": f"sandbox/{asked['m']}",
            "seconds": str(asked["s"]),
            "size": f"{asked['w']}x{asked['h']}",
            "error": error,
        }


def _write_id(asked: dict[str, Any]) -> str:
    return "video_" + base64.urlsafe_b64encode(loose_json.encode(asked)).rstrip(b"=").decode()


def _read_id(identifier: str) -> dict[str, Any] | None:
    """What an id says, None for one that is none of ours."""
    text = identifier.removeprefix("video_")
    try:
        asked = loose_json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError):
        return None
    kinds = {"p": str, "s": int, "w": int, "h": int, "t": int, "m": str}
    if not isinstance(asked, dict) or any(not isinstance(asked.get(name), kind) for name, kind in kinds.items()):
        return None
    return (
        asked if 1 <= asked["s"] <= MOST_SECONDS and 10 <= asked["w"] < 10_000 and 10 <= asked["h"] < 10_000 else None
    )


def _fault(message: str, param: str | None = None, status: int = 400) -> Whole:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": None}
    return Whole({"error": error}, status)

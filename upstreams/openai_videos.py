"""The adapter for OpenAI's videos API (``/videos``) and for every provider that speaks it. Pure.

The job's id goes along as ``Idempotency-Key``: some of them heed it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlsplit

from upstreams import classify, loose_json
from upstreams.errors import BadAnswer, UpstreamError
from upstreams.redact import clean
from upstreams.tasks import MODERATED, Ask, Output, Standing, State, percentage, seconds
from upstreams.wire import Headers, Target, UpstreamRequest, split_base_url

_COMMON: Final[Headers] = (("accept", "application/json"), ("accept-encoding", "identity"), ("user-agent", "hypereal"))
_STATES: Final[Mapping[str, State]] = {
    "queued": "queued",
    "in_progress": "running",
    "completed": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
    "expired": "gone",
}
_MODERATION: Final = re.compile(r"moderation|content[_ ]?(?:policy|filter)|safety|sensitive", re.IGNORECASE)
#: Sora's larger pictures are not quite 16:9.
_OWN_SIZES: Final = {("1024P", "16:9"): "1792x1024", ("1024P", "9:16"): "1024x1792"}


class OpenAIVideos:
    """A `TaskAdapter`."""

    idempotent = False
    inline_pictures = False
    bills_cancelled = False
    poll_seconds = 5.0

    def submit(self, target: Target, ask: Ask) -> UpstreamRequest:
        """Create a video. Pictures go along as URLs."""
        body: dict[str, Any] = {"model": ask.get("model"), "prompt": ask.get("prompt")}
        if ask.get("duration"):
            body["seconds"] = str(ask.get("duration"))
        if size := size_of(str(ask.get("resolution") or ""), str(ask.get("aspect_ratio") or "")):
            body["size"] = size
        if ask.get("image"):
            body["input_reference"] = {"image_url": ask.get("image")}
        more = (("content-type", "application/json"), ("idempotency-key", str(ask.get("job_id"))))
        return _request(target, "POST", "/videos", json.dumps(body, ensure_ascii=False).encode(), more)

    def accepted(
        self, target: Target, ask: Ask, status: int, headers: Mapping[str, str], body: bytes
    ) -> dict[str, Any]:
        """The video's id."""
        video = _video(target, status, headers, body)
        return {"id": video["id"]}

    def find(self, target: Target, ask: Ask) -> UpstreamRequest | None:
        """There is no way to ask by an id of ours."""
        return None

    def found(self, target: Target, ask: Ask, status: int, body: bytes) -> dict[str, Any] | None:
        """Nothing can be found."""
        return None

    def look(self, target: Target, notes: Mapping[str, Any]) -> UpstreamRequest:
        """Retrieve it."""
        return _request(target, "GET", _path(notes))

    def standing(
        self, target: Target, notes: Mapping[str, Any], status: int, headers: Mapping[str, str], body: bytes
    ) -> Standing:
        """A video that the provider does not know any more is ``gone``."""
        if status in (404, 410):
            return Standing("gone")
        video = _video(target, status, headers, body)
        state = _STATES.get(str(video.get("status")))
        if state is None:
            raise BadAnswer("the upstream says nothing known of the video's state", status=status)
        error = video.get("error") if isinstance(video.get("error"), Mapping) else {}
        assert isinstance(error, Mapping)
        message = clean(str(error.get("message") or ""), secret=target.secret)
        code = clean(str(error.get("code") or ""), secret=target.secret)
        return Standing(
            state=state,
            progress=percentage(video.get("progress")),
            outputs=(Output(url=f"{target.base_url}{_path(notes)}/content"),) if state == "succeeded" else (),
            seconds=seconds(video.get("seconds")),
            message=message,
            code=MODERATED if _MODERATION.search(code) else code,
            moderated=bool(_MODERATION.search(f"{code} {message}")),
        )

    def link(self, target: Target, output: Output) -> UpstreamRequest | None:
        """The content has an address of its own."""
        return None

    def linked(self, target: Target, status: int, headers: Mapping[str, str], body: bytes) -> Output:
        """Never asked."""
        raise BadAnswer("the upstream was not asked for an address")

    def stop(self, target: Target, notes: Mapping[str, Any], state: str) -> UpstreamRequest | None:
        """Delete it: there is no other way to cancel."""
        return _request(target, "DELETE", _path(notes))

    def stopped(self, target: Target, status: int, body: bytes) -> bool:
        """Whether it is deleted; one that the provider does not know is stopped as well."""
        if status == 404:
            return True
        try:
            answer = loose_json.decode(body)
        except ValueError:
            return False
        return status < 300 and isinstance(answer, Mapping) and answer.get("deleted") is True

    def download(self, target: Target, url: str) -> Headers:
        """The key goes along, to the provider's own host alone."""
        own, _ = split_base_url(target.base_url)
        return _auth(target) if urlsplit(url).hostname == own.host else ()


def size_of(resolution: str, aspect_ratio: str) -> str:
    """``1280x720`` for 720P and 16:9: the resolution is the shorter side. Empty where one of them is not known."""
    if (resolution, aspect_ratio) in _OWN_SIZES:
        return _OWN_SIZES[resolution, aspect_ratio]
    side = {"4K": 2160, "2K": 1440}.get(resolution) or int(re.sub(r"\D", "", resolution) or 0)
    wide, _, high = aspect_ratio.partition(":")
    if not side or not wide.isdigit() or not high.isdigit():
        return ""
    shorter = min(int(wide), int(high))
    width, height = (round(side * int(part) / shorter / 2) * 2 for part in (wide, high))
    return f"{width}x{height}"


def _path(notes: Mapping[str, Any]) -> str:
    return f"/videos/{quote(str(notes['id']), safe='', errors='replace')}"


def _request(target: Target, method: str, path: str, body: bytes = b"", more: Headers = ()) -> UpstreamRequest:
    origin, prefix = split_base_url(target.base_url)
    query = f"?{target.options.query}" if target.options.query else ""
    headers = (*_COMMON, *more, *_auth(target), *target.options.headers)
    return UpstreamRequest(method, origin, f"{prefix}{path}{query}", headers, body)


def _auth(target: Target) -> Headers:
    if not target.secret or target.options.auth == "none":
        return ()
    if target.options.auth == "api-key":
        return (("api-key", target.secret),)
    return (("authorization", f"Bearer {target.secret}"),)


def _video(target: Target, status: int, headers: Mapping[str, str], body: bytes) -> Mapping[str, Any]:
    """The video of an answer. Raises UpstreamError for anything else, an error inside a 200 among it."""
    if not 200 <= status < 300:
        raise classify.refuse(status, headers, body, secret=target.secret)
    try:
        video = loose_json.decode(body)
    except ValueError:
        raise classify.not_json(body, headers.get("content-type", "")) from None
    if isinstance(video, Mapping) and video.get("id") and video.get("status"):
        return video
    error = classify.error_in(body)
    refusal: UpstreamError = BadAnswer("the upstream's answer is no video", status=status)
    if error is not None:
        refusal = classify.refuse_inside(error, secret=target.secret)
    raise refusal

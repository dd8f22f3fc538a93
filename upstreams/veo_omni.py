"""The adapter for Google's Interactions API, which alone serves Gemini Omni's clips. Pure.

An interaction runs in the background until its status is a last one; its clip comes as an address or as base64.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

from upstreams.errors import BadAnswer, UpstreamError
from upstreams.redact import clean
from upstreams.tasks import MODERATED, Ask, Output, Standing, State
from upstreams.tasks_template import bare, mime
from upstreams.veo import Veo, answer_of, listed, picture, request
from upstreams.wire import Target, UpstreamRequest

_STATES: Final[Mapping[str, State]] = {
    "queued": "queued",
    "in_progress": "running",
    "completed": "succeeded",
    "incomplete": "failed",
    "requires_action": "failed",
    "budget_exceeded": "failed",
    "failed": "failed",
    "cancelled": "cancelled",
}
_MODERATION: Final = re.compile(r"safety|polic|blocked|prohibited|sensitive", re.IGNORECASE)


class Omni(Veo):
    """A `TaskAdapter`."""

    def submit(self, target: Target, ask: Ask) -> UpstreamRequest:
        """The prompt with its pictures, to be answered by a clip."""
        pictures = []
        for each in ask.get("images") or []:
            picture(each)  # refuses what is not brought along
            pictures.append({"type": "image", "mime_type": mime(each), "data": bare(each)})
        form: dict[str, Any] = {"type": "video", "delivery": "uri"}
        if ask.get("aspect_ratio"):
            form["aspect_ratio"] = ask.get("aspect_ratio")
        if ask.get("resolution"):
            form["resolution"] = str(ask.get("resolution")).lower()
        if ask.get("duration"):
            form["duration"] = f"{ask.get('duration')}s"
        body = {
            "model": ask.get("model"),
            "input": [{"type": "text", "text": ask.get("prompt")}, *pictures],
            "response_modalities": ["video"],
            "response_format": form,
            "background": True,
            "store": True,
        }
        return request(target, "POST", "/interactions", json.dumps(body, ensure_ascii=False).encode())

    def accepted(
        self, target: Target, ask: Ask, status: int, headers: Mapping[str, str], body: bytes
    ) -> dict[str, Any]:
        """The interaction's id."""
        found = answer_of(target, status, headers, body).get("id")
        if not isinstance(found, str) or not found:
            raise BadAnswer("the upstream named no interaction", status=status)
        return {"id": found}

    def look(self, target: Target, notes: Mapping[str, Any]) -> UpstreamRequest:
        """The interaction by its id."""
        return request(target, "GET", f"/interactions/{quote(str(notes['id']), safe='-._~', errors='replace')}")

    def standing(
        self, target: Target, notes: Mapping[str, Any], status: int, headers: Mapping[str, str], body: bytes
    ) -> Standing:
        """A completed interaction without a clip is a failure: the model answered with words."""
        if status in (404, 410):
            return Standing("gone")
        answer = answer_of(target, status, headers, body)
        state = _STATES.get(str(answer.get("status")))
        if state is None:
            raise BadAnswer("the upstream says nothing known of the interaction's state", status=status)
        outputs = tuple(_clips(answer)) if state == "succeeded" else ()
        if state == "succeeded" and not outputs:
            state = "failed"
        error = answer.get("error")
        message = str(error.get("message") or "") if isinstance(error, Mapping) else ""
        moderated = state == "failed" and bool(_MODERATION.search(message))
        return Standing(
            state,
            outputs=outputs,
            message=clean(message, secret=target.secret),
            code=MODERATED if moderated else "",
            moderated=moderated,
        )

    def stop(self, target: Target, notes: Mapping[str, Any], state: str) -> UpstreamRequest | None:
        """Cancel it: that works only while it runs in the background."""
        return request(target, "POST", f"/interactions/{quote(str(notes['id']), safe='-._~', errors='replace')}/cancel")

    def stopped(self, target: Target, status: int, body: bytes) -> bool:
        """Whether it says so itself."""
        try:
            return answer_of(target, status, {}, body).get("status") == "cancelled"
        except UpstreamError:
            return False


def _clips(answer: Mapping[str, Any]) -> Iterator[Output]:
    """Every clip among the steps or outputs of an interaction."""
    parts = list(listed(answer.get("outputs")))
    for step in listed(answer.get("steps")):
        if isinstance(step, Mapping) and step.get("type") == "model_output":
            parts += listed(step.get("content"))
    for part in parts:
        if not isinstance(part, Mapping) or part.get("type") != "video":
            continue
        if isinstance(part.get("uri"), str) and part["uri"]:
            yield Output(url=part["uri"])
        elif isinstance(part.get("data"), str):
            try:
                yield Output(data=base64.b64decode(part["data"], validate=True))
            except (binascii.Error, ValueError):
                raise BadAnswer("the upstream's clip is not valid base64") from None

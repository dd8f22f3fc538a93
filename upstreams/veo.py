"""The adapter for Google's long-running operations: Veo's clips by ``predictLongRunning``. Pure.

Google fetches no pictures here: they are sent along as base64. An operation can't be cancelled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlsplit

from upstreams import classify, loose_json
from upstreams.errors import BadAnswer, UpstreamRefusal
from upstreams.redact import clean
from upstreams.tasks import MODERATED, Ask, Output, Standing, percentage
from upstreams.tasks_template import bare, mime
from upstreams.wire import Headers, Target, UpstreamRequest, split_base_url

_COMMON: Final[Headers] = (("accept", "application/json"), ("accept-encoding", "identity"), ("user-agent", "hypereal"))
_VERSION: Final = re.compile(r"/v\d+(?:alpha|beta)?\d*$")
#: An operation's name as Google gives it; it becomes part of a path.
_OPERATION: Final = re.compile(r"[\w./-]{1,300}", re.ASCII)
#: google.rpc.Code of an operation that failed for what was asked, not for the provider's sake.
_CALLERS_FAULT: Final = frozenset({3, 9, 11})
_NOT_FOUND: Final = 5
_MOST_ASSETS: Final = 3


class Veo:
    """A `TaskAdapter`."""

    idempotent = False
    inline_pictures = True
    bills_cancelled = False
    poll_seconds = 8.0

    def submit(self, target: Target, ask: Ask) -> UpstreamRequest:
        """One picture is the first frame, several are what the clip shows."""
        instance: dict[str, Any] = {"prompt": ask.get("prompt")}
        images = list(ask.get("images") or [])
        if len(images) == 1 or ask.get("last_image"):
            instance["image"] = picture(images[0])
        elif images:
            instance["referenceImages"] = [
                {"image": picture(each), "referenceType": "asset"} for each in images[:_MOST_ASSETS]
            ]
        if ask.get("last_image"):
            instance["lastFrame"] = picture(ask.get("last_image"))
        parameters = {
            "aspectRatio": ask.get("aspect_ratio"),
            "durationSeconds": ask.get("duration"),
            "resolution": str(ask.get("resolution") or "").lower(),
        }
        body = {"instances": [instance], "parameters": {name: value for name, value in parameters.items() if value}}
        path = f"/models/{quote(str(ask.get('model')), safe='-._~')}:predictLongRunning"
        return request(target, "POST", path, json.dumps(body, ensure_ascii=False).encode())

    def accepted(
        self, target: Target, ask: Ask, status: int, headers: Mapping[str, str], body: bytes
    ) -> dict[str, Any]:
        """The operation's name."""
        name = answer_of(target, status, headers, body).get("name")
        if not isinstance(name, str) or not _OPERATION.fullmatch(name):
            raise BadAnswer("the upstream named no operation", status=status)
        return {"id": name}

    def find(self, target: Target, ask: Ask) -> UpstreamRequest | None:
        """There is no way to ask by an id of ours."""
        return None

    def found(self, target: Target, ask: Ask, status: int, body: bytes) -> dict[str, Any] | None:
        """Nothing can be found."""
        return None

    def look(self, target: Target, notes: Mapping[str, Any]) -> UpstreamRequest:
        """The operation by its name."""
        return request(target, "GET", f"/{notes['id']}")

    def standing(
        self, target: Target, notes: Mapping[str, Any], status: int, headers: Mapping[str, str], body: bytes
    ) -> Standing:
        """An operation is done or not; a clip that Google's filters took away is a failure for the content's sake."""
        if status in (404, 410):
            return Standing("gone")
        operation = answer_of(target, status, headers, body)
        if not isinstance(operation.get("name"), str):
            raise BadAnswer("the upstream's answer is no operation", status=status)
        metadata = operation.get("metadata")
        told = metadata.get("progressPercent") if isinstance(metadata, Mapping) else None
        if not operation.get("done"):
            return Standing("running", progress=percentage(told))
        if isinstance(error := operation.get("error"), Mapping):
            return _failure(target, error)
        response = _table(_table(operation.get("response")).get("generateVideoResponse"))
        samples = listed(response.get("generatedSamples")) or listed(response.get("generatedVideos"))
        addresses = [
            _table(_table(sample).get("video")).get("uri") for sample in samples if isinstance(sample, Mapping)
        ]
        outputs = tuple(Output(url=each) for each in addresses if isinstance(each, str) and each)
        if outputs:
            return Standing("succeeded", outputs=outputs)
        reasons = response.get("raiMediaFilteredReasons")
        message = clean(str(reasons[0]), secret=target.secret) if isinstance(reasons, list) and reasons else ""
        moderated = bool(reasons or response.get("raiMediaFilteredCount"))
        return Standing("failed", message=message, code=MODERATED if moderated else "", moderated=moderated)

    def link(self, target: Target, output: Output) -> UpstreamRequest | None:
        """A clip has an address already."""
        return None

    def linked(self, target: Target, status: int, headers: Mapping[str, str], body: bytes) -> Output:
        """Never asked."""
        raise BadAnswer("the upstream was not asked for an address")

    def stop(self, target: Target, notes: Mapping[str, Any], state: str) -> UpstreamRequest | None:
        """There is no way."""
        return None

    def stopped(self, target: Target, status: int, body: bytes) -> bool:
        """Never."""
        return False

    def download(self, target: Target, url: str) -> Headers:
        """The key goes along, to the provider's own host alone."""
        own, _ = split_base_url(target.base_url)
        return key_of(target) if urlsplit(url).hostname == own.host else ()


def picture(url: Any) -> dict[str, str]:
    """A picture as Google takes it. Raises UpstreamRefusal for one that was not brought along as base64."""
    kind = mime(str(url))
    if not kind:
        raise UpstreamRefusal("This provider takes pictures only as base64 data.", status=400)
    return {"bytesBase64Encoded": bare(str(url)), "mimeType": kind}


def request(target: Target, method: str, path: str, body: bytes = b"") -> UpstreamRequest:
    """A request to Google's API. A base URL may end in the version or not."""
    origin, prefix = split_base_url(target.base_url)
    if not _VERSION.search(prefix):
        prefix += "/v1beta"
    query = f"?{target.options.query}" if target.options.query else ""
    more: Headers = (("content-type", "application/json"),) if body else ()
    headers = (*_COMMON, *more, *key_of(target), *target.options.headers)
    return UpstreamRequest(method, origin, f"{prefix}{path}{query}", headers, body)


def key_of(target: Target) -> Headers:
    """The header that bears Google's key."""
    return (("x-goog-api-key", target.secret),) if target.secret and target.options.auth != "none" else ()


def answer_of(target: Target, status: int, headers: Mapping[str, str], body: bytes) -> Mapping[str, Any]:
    """The object of a success. Raises UpstreamError."""
    if not 200 <= status < 300:
        raise classify.refuse(status, headers, body, secret=target.secret)
    try:
        answer = loose_json.decode(body)
    except ValueError:
        raise classify.not_json(body, headers.get("content-type", "")) from None
    if not isinstance(answer, Mapping):
        raise BadAnswer("the upstream's answer is not what was asked for", status=status)
    if answer.get("error") and "done" not in answer and "status" not in answer:
        raise classify.refuse_inside(answer["error"], secret=target.secret)
    return answer


def listed(value: object) -> list[Any]:
    """``value`` if it is a list, else an empty one: an answer may hold anything."""
    return value if isinstance(value, list) else []


def _failure(target: Target, error: Mapping[str, Any]) -> Standing:
    code = error.get("code")
    if code == _NOT_FOUND:
        return Standing("gone")
    message = clean(str(error.get("message") or ""), secret=target.secret)
    moderated = code in _CALLERS_FAULT and bool(re.search(r"safety|polic|violat|sensitive|prominent", message, re.I))
    return Standing("failed", message=message, code=MODERATED if moderated else "", moderated=moderated)


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}

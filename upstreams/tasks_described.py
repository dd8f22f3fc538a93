"""The adapter for every provider whose API of tasks is described as data. Pure but for the clock of a signed token."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from upstreams import classify, loose_json
from upstreams.errors import (
    AccountRefused,
    BadAnswer,
    ServerFailed,
    TargetUnusable,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamRefusal,
)
from upstreams.redact import clean
from upstreams.tasks import MODERATED, Ask, Output, Standing, State, percentage, seconds
from upstreams.tasks_description import Call, TaskDescription
from upstreams.tasks_template import ABSENT, at, every, fill, fill_path
from upstreams.wire import Headers, Origin, Target, UpstreamRequest, split_base_url

_COMMON: Final[Headers] = (("accept", "application/json"), ("accept-encoding", "identity"), ("user-agent", "hypereal"))
_RAW: Final = frozenset({"path"})
#: A signed token lives half an hour, and is good from a little before now: clocks differ.
_TOKEN_SECONDS: Final = 1800
_TOKEN_SLACK_SECONDS: Final = 5
_SHOWN_CHARACTERS: Final = 500


class DescribedTasks:
    """A `TaskAdapter` by a description."""

    inline_pictures = False

    def __init__(self, description: TaskDescription) -> None:
        self.description = description
        self.idempotent = description.idempotent
        self.bills_cancelled = description.cancel.billed if description.cancel else False
        self.poll_seconds = description.poll_seconds

    def submit(self, target: Target, ask: Ask) -> UpstreamRequest:
        """By the first variant that fits. Raises UpstreamRefusal where none does."""
        values = self.description.values(ask.values)
        variant = self.description.variant(values)
        if variant is None:
            raise UpstreamRefusal("This model can't be asked for that combination of inputs.", status=400)
        body = fill(variant.body, values)
        headers: list[tuple[str, str]] = [("content-type", "application/json")]
        for name, template in variant.headers:
            value = fill(template, values)
            if value is not ABSENT:
                headers.append((name, str(value)))
        path = fill_path(variant.path, values)
        data = json.dumps({} if body is ABSENT else body, ensure_ascii=False).encode()
        return self._request(target, variant.method, path, data, tuple(headers))

    def accepted(
        self, target: Target, ask: Ask, status: int, headers: Mapping[str, str], body: bytes
    ) -> dict[str, Any]:
        """The task's id, and the path or the address that it is asked after at."""
        answer = self._answer(target, status, headers, body)
        task = at(self.description.id, answer)
        if not isinstance(task, str | int) or isinstance(task, bool):
            raise BadAnswer("the upstream named no task", status=status)
        notes: dict[str, Any] = {"id": str(task), "path": self._submit_path(ask)}
        if self.description.poll_url:
            address = at(self.description.poll_url, answer)
            if isinstance(address, str) and self._is_trusted(address):
                notes["poll_url"] = address
        return notes

    def find(self, target: Target, ask: Ask) -> UpstreamRequest | None:
        """By the job's own id, where the provider keeps it."""
        if self.description.find is None:
            return None
        values = {**self.description.values(ask.values), "path": self._submit_path(ask)}
        return self._call(target, self.description.find, values)

    def found(self, target: Target, ask: Ask, status: int, body: bytes) -> dict[str, Any] | None:
        """The notes of the task under the job's id; None where the provider knows none, or does not say."""
        try:
            answer = self._answer(target, status, {}, body)
        except UpstreamError as error:
            if error.retry_same_target:
                raise
            return None
        find = self.description.find
        task = at((find.id if find else "") or self.description.id, answer)
        return {"id": str(task), "path": self._submit_path(ask)} if isinstance(task, str | int) else None

    def look(self, target: Target, notes: Mapping[str, Any]) -> UpstreamRequest:
        """At the address that the provider named, else at the description's path."""
        address = notes.get("poll_url")
        if isinstance(address, str) and self._is_trusted(address):
            parts = urlsplit(address)
            origin = Origin("https", str(parts.hostname), parts.port or 443)
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            return UpstreamRequest("GET", origin, path, (*_COMMON, *self._auth(target)))
        return self._call(target, self.description.poll, notes)

    def standing(
        self, target: Target, notes: Mapping[str, Any], status: int, headers: Mapping[str, str], body: bytes
    ) -> Standing:
        """A task that the provider does not know any more is ``gone``."""
        told = self.description
        try:
            answer = self._answer(target, status, headers, body)
        except _Gone:
            return Standing("gone")
        except UpstreamError:
            if status in (404, 410):
                return Standing("gone")
            raise
        word = at(told.status, answer)
        state = told.states.get(str(word)) if word is not None else None
        if state is None:
            raise BadAnswer("the upstream says nothing known of the task's state", status=status)
        message = _text(at(told.message, answer), target) if told.message else ""
        code = _text(at(told.code, answer), target) if told.code else ""
        outputs = tuple(Output(url=str(each)) for pointer in told.outputs for each in every(pointer, answer))
        withheld = bool(told.withheld) and at(told.withheld, answer) is False
        return Standing(
            state="failed" if state == "succeeded" and (withheld or not outputs) else _state(state),
            progress=percentage(at(told.progress, answer)) if told.progress else None,
            outputs=outputs,
            seconds=seconds(at(told.seconds, answer)) if told.seconds else None,
            message=message,
            code=code,
            moderated=withheld or self._is_moderated(str(word), code, message),
        )

    def link(self, target: Target, output: Output) -> UpstreamRequest | None:
        """For a provider that names a file first, and its address on asking."""
        if self.description.link is None:
            return None
        return self._call(target, self.description.link, {"output": output.url})

    def linked(self, target: Target, status: int, headers: Mapping[str, str], body: bytes) -> Output:
        """The file's address."""
        assert self.description.link is not None
        address = at(self.description.link.output, self._answer(target, status, headers, body))
        if not isinstance(address, str):
            raise BadAnswer("the upstream named no address of the file", status=status)
        return Output(url=address)

    def stop(self, target: Target, notes: Mapping[str, Any], state: str) -> UpstreamRequest | None:
        """Only in the states in which the provider takes it."""
        call = self.description.cancel
        if call is None or (call.states and state not in call.states):
            return None
        return self._call(target, call, notes)

    def stopped(self, target: Target, status: int, body: bytes) -> bool:
        """Whether it said yes."""
        try:
            self._answer(target, status, {}, body)
        except UpstreamError:
            return False
        return True

    def download(self, target: Target, url: str) -> Headers:
        """The key goes along only where the description says so, and only to the provider's own host."""
        own, _ = split_base_url(target.base_url)
        if not self.description.download_auth or urlsplit(url).hostname != own.host:
            return ()
        return self._auth(target)

    def _request(self, target: Target, method: str, path: str, body: bytes, more: Headers = ()) -> UpstreamRequest:
        origin, prefix = split_base_url(target.base_url)
        query = target.options.query
        path = prefix + path + (("&" if "?" in path else "?") + query if query else "")
        headers = (*_COMMON, *more, *self._auth(target), *target.options.headers)
        return UpstreamRequest(method, origin, path, headers, body)

    def _call(self, target: Target, call: Call, values: Mapping[str, Any]) -> UpstreamRequest:
        try:
            return self._request(target, call.method, fill_path(call.path, values, raw=_RAW), b"")
        except LookupError as error:
            raise TargetUnusable(f"the description of the upstream needs {error} to ask after a task") from None

    def _submit_path(self, ask: Ask) -> str:
        values = self.description.values(ask.values)
        variant = self.description.variant(values)
        return fill_path(variant.path, values) if variant else ""

    def _auth(self, target: Target) -> Headers:
        auth = self.description.auth
        if not target.secret or target.options.auth == "none":
            return ()
        key = _signed(target.secret, time.time()) if auth.jwt and ":" in target.secret else target.secret
        return ((auth.header, f"{auth.prefix}{key}"),)

    def _is_trusted(self, address: str) -> bool:
        """Whether the key may go there: HTTPS, at a host that the description names (or below it)."""
        parts = urlsplit(address)
        host = parts.hostname or ""
        return parts.scheme == "https" and any(host == each or host.endswith(f".{each}") for each in self._hosts)

    @property
    def _hosts(self) -> tuple[str, ...]:
        return tuple(host.lstrip(".") for host in self.description.hosts)

    def _answer(self, target: Target, status: int, headers: Mapping[str, str], body: bytes) -> Any:
        """The decoded answer of a success. Raises UpstreamError, by the description's own words first."""
        failure = self.description.failure
        try:
            answer = loose_json.decode(body) if body.strip() else {}
        except ValueError:
            if status >= 400:
                raise classify.refuse(status, headers, body, secret=target.secret) from None
            raise classify.not_json(body, headers.get("content-type", "")) from None
        code = at(failure.code, answer) if failure.code else None
        if code is not None and str(code) not in failure.ok:
            message = _text(at(failure.message, answer), target) if failure.message else ""
            word = failure.words.get(str(code))
            if word is not None:
                raise _fault(word, message, str(code), status, classify.retry_after(headers))
            if status < 400:
                if failure.ok:
                    raise ServerFailed(f"the upstream reported the error {str(code)[:40]}", status=status)
                return answer
        if status >= 400 or status < 200:
            raise classify.refuse(status, headers, body, secret=target.secret)
        return answer

    def _is_moderated(self, state: str, code: str, message: str) -> bool:
        said = f"{state}\n{code}\n{message}".lower()
        return any(word.lower() in said for word in self.description.moderated)


class _Gone(TargetUnusable):
    kind = "gone"


def _fault(word: str, message: str, code: str, status: int, wait: float | None) -> UpstreamError:
    if word == "moderated":
        return UpstreamRefusal(message or "The provider's content rules refused this.", status=400, code=MODERATED)
    if word == "refused":
        return UpstreamRefusal(message or "The provider refused the request.", status=400)
    if word == "rate_limited":
        return UpstreamRateLimited("the upstream is rate-limited", status=429, retry_after=wait)
    if word == "account":
        return AccountRefused("the upstream refused our account", status=status)
    if word == "gone":
        return _Gone("the upstream does not know the task", status=404)
    return ServerFailed(f"the upstream reported the error {code[:40]}", status=status, retry_after=wait)


def _state(word: str) -> State:
    return word  # type: ignore[return-value]  # the description's parser let nothing else in


def _text(value: object, target: Target) -> str:
    if value is None or isinstance(value, bool):
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return clean(text[:_SHOWN_CHARACTERS], secret=target.secret, known=b"")


def _signed(secret: str, now: float) -> str:
    """A JWT of the key ``access:secret`` (HS256)."""
    access, _, key = secret.partition(":")
    claims = {"iss": access, "exp": int(now) + _TOKEN_SECONDS, "nbf": int(now) - _TOKEN_SLACK_SECONDS}
    parts = [
        _base64(json.dumps(part, separators=(",", ":")).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims)
    ]
    signature = hmac.new(key.encode(), ".".join(parts).encode(), hashlib.sha256).digest()
    return ".".join([*parts, _base64(signature)])


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

"""Plain values that pass between the gateway and the adapters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

import msgspec

from upstreams import tasks_description

Headers = tuple[tuple[str, str], ...]
AuthStyle = Literal["bearer", "api-key", "none"]
ImageStyle = Literal["forms", "json", "json-singly"]


class Usage(msgspec.Struct, frozen=True):
    """What one call used, in tokens.

    ``input_tokens`` is the whole input: read from a cache and written to one included. ``output_tokens`` includes
    reasoning. ``reasoning_tokens`` is information only. ``service_tier`` is the tier the answer names, which is what
    the provider bills. ``estimated`` says that the upstream gave no count. Audio tokens are the part of uncached input
    and of output that was sound, where the upstream tells it; models with an audio price are billed by them.

    ``model`` is the name of the model that served where the answer says that it was another than the one asked.
    ``elsewhere`` are parts of these counts that ran on other models (an adviser), by the names the answer gives them.
    """

    input_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    service_tier: str | None = None
    server_tool_calls: tuple[tuple[str, int], ...] = ()
    estimated: bool = False
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    model: str = ""
    elsewhere: tuple[tuple[str, Usage], ...] = ()

    @property
    def uncached_input_tokens(self) -> int:
        """Input at the full rate. Never negative, whatever an upstream reports."""
        written = self.cache_write_5m_tokens + self.cache_write_1h_tokens
        return max(0, self.input_tokens - self.cached_input_tokens - written)


class Origin(NamedTuple):
    """Where a connection goes: scheme ``http`` or ``https``, host without brackets, port."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.scheme == "https" else 80
        return host if self.port == default else f"{host}:{self.port}"


class UpstreamRequest(msgspec.Struct, frozen=True):
    """One request as bytes will carry it. ``path`` starts with a slash and includes the query."""

    method: str
    origin: Origin
    path: str
    headers: Headers
    body: bytes = b""

    def __repr__(self) -> str:
        """Without headers and body: there stand a key and somebody's words."""
        return f"UpstreamRequest(method={self.method!r}, origin={self.origin!r}, path={self.path!r})"


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What of a caller's own request line and headers goes upstream with the body. ``query`` has no question mark."""

    headers: Headers = ()
    query: str = ""

    def onto(self, request: UpstreamRequest) -> UpstreamRequest:
        """``request`` with these headers behind its own, and with the query behind its own."""
        if not self.headers and not self.query:
            return request
        path = request.path
        if self.query:
            path += ("&" if "?" in path else "?") + self.query
        return msgspec.structs.replace(request, path=path, headers=(*request.headers, *self.headers))


NOTHING_FORWARDED = Forwarded()


class Timeouts(msgspec.Struct, frozen=True):
    """Limits on one exchange, in seconds. ``total_seconds`` runs from the moment the request is handed over."""

    connect_seconds: float = 10.0
    first_byte_seconds: float = 120.0
    idle_seconds: float = 120.0
    total_seconds: float = 900.0


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """What differs between upstreams that speak the same format.

    ``auth`` bearer: ``Authorization: Bearer``; api-key: the ``api-key`` header, as Azure wants it. ``query`` is added
    to every URL (``api-version=…``). ``ask_usage`` is False for the rare upstream that refuses ``stream_options``.
    """

    auth: AuthStyle = "bearer"
    query: str = ""
    headers: Headers = ()
    ask_usage: bool = True
    #: Pictures at a provider that speaks OpenAI's format: references as files in a form to /images/edits (forms), or
    #: as URLs with everything else in one JSON body (json), and then with one picture a call (json-singly).
    images: ImageStyle = "forms"
    #: Times of this upstream's own, in place of the installation's.
    connect_seconds: float | None = None
    first_byte_seconds: float | None = None
    idle_seconds: float | None = None
    total_seconds: float | None = None
    #: How a provider's tasks are begun and asked after, where the adapter ``task`` speaks to it.
    task: tasks_description.TaskDescription | None = field(default=None, compare=False)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> TargetOptions:
        """Options as a catalog stores them. Raises ValueError for an unknown name or a value of the wrong kind."""
        unknown = set(values) - {option.name for option in fields(cls)}
        if unknown:
            raise ValueError(f"unknown target options: {', '.join(sorted(unknown))}")
        options = cls()
        if "auth" in values:
            auth = values["auth"]
            if auth not in ("bearer", "api-key", "none"):
                raise ValueError("auth must be bearer, api-key or none")
            options = replace(options, auth=auth)
        if "query" in values:
            options = replace(options, query=str(values["query"]).lstrip("?&"))
        if "headers" in values:
            if not isinstance(values["headers"], Mapping):
                raise ValueError("headers must be a table of name and value")
            options = replace(options, headers=tuple((str(k), str(v)) for k, v in values["headers"].items()))
        if "ask_usage" in values:
            if not isinstance(values["ask_usage"], bool):
                raise ValueError("ask_usage must be true or false")
            options = replace(options, ask_usage=values["ask_usage"])
        if "images" in values:
            style = values["images"]
            if style not in ("forms", "json", "json-singly"):
                raise ValueError("images must be forms, json or json-singly")
            options = replace(options, images=style)
        if "task" in values:
            options = replace(options, task=tasks_description.parse(values["task"]))
        times: dict[str, Any] = {name: _seconds(name, values[name]) for name in _TIMES if name in values}
        return replace(options, **times) if times else options


_TIMES = ("connect_seconds", "first_byte_seconds", "idle_seconds", "total_seconds")
_MOST_SECONDS = 86_400


def _seconds(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _MOST_SECONDS:
        raise ValueError(f"{name} must be a number of seconds, more than 0 and at most {_MOST_SECONDS}")
    return float(value)


@dataclass(frozen=True, slots=True)
class Target:
    """One way to serve a model: what an adapter needs to know to build a request."""

    provider: str
    adapter: str
    base_url: str
    upstream_model: str
    secret: str = field(default="", repr=False)
    region: str = ""
    options: TargetOptions = TargetOptions()

    @property
    def label(self) -> str:
        """The target in one word, for logs, receipts and operators."""
        return f"{self.provider}/{self.region}/{self.upstream_model}"[:254]


@lru_cache(maxsize=1024)
def split_base_url(base_url: str) -> tuple[Origin, str]:
    """The origin of a base URL and its path without a slash at the end. Raises ValueError for anything else."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("a base URL is http:// or https:// with a host")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ValueError("a base URL has no user name, query or fragment")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return Origin(parts.scheme, parts.hostname, port), parts.path.rstrip("/")

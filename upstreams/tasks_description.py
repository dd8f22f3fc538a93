"""A provider's API of tasks described as data: which requests begin, ask after and cancel one, and how to read answers.

It stands under ``task`` in a provider's options, so that an operator adds a provider without code::

    [providers.example.options.task]
    auth = { header = "authorization", prefix = "Bearer " }   # jwt = true: a token signed with a key "access:secret"
    id = "/task_id"                          # where the answer to a submission holds the task's id
    outputs = ["/result/*/url"]              # where the answer to a poll holds what was made
    status = "/status"
    states = { PENDING = "queued", DONE = "succeeded", FAILED = "failed" }
    poll = { path = "/tasks/{id}" }
    cancel = { path = "/tasks/{id}/cancel", states = ["queued"] }
    [[providers.example.options.task.submit]]
    path = "/videos"
    body = { model = "{model}", prompt = "{prompt}", seconds = "{duration}" }

The names that a body may use are in `VALUES`; ``fields`` adds some that are looked up in a table of words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from upstreams.tasks_template import ABSENT, fill, names_in

#: What a job is asked by: of videos and of pictures.
VALUES: Final = frozenset({
    "model", "prompt", "job_id", "duration", "aspect_ratio", "resolution", "image", "images", "last_image",
    "size", "width", "height", "n", "quality", "background", "output_format", "mask", "seed",
})  # fmt: skip
STATES: Final = frozenset({"queued", "running", "succeeded", "failed", "cancelled", "gone"})
FAULTS: Final = frozenset({"refused", "moderated", "rate_limited", "account", "unavailable", "gone"})

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_MEMBERS = {
    "auth", "submit", "fields", "id", "poll_url", "hosts", "poll", "status", "states", "progress", "outputs", "seconds",
    "message", "code", "moderated", "withheld", "failure", "link", "cancel", "find", "download_auth",
    "idempotent", "poll_seconds",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Auth:
    """The header that bears the key. ``jwt``: signed anew for each request from a key ``access:secret`` (HS256)."""

    header: str = "authorization"
    prefix: str = "Bearer "
    jwt: bool = False


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to begin. ``when`` tells of each name whether it must be given; ``models`` are the ones it is for."""

    path: str
    method: str = "POST"
    headers: tuple[tuple[str, str], ...] = ()
    body: Any = None
    when: tuple[tuple[str, bool], ...] = ()
    models: tuple[str, ...] = ()

    def fits(self, values: Mapping[str, Any]) -> bool:
        """Whether this is the way for what is asked."""
        if self.models and values.get("model") not in self.models:
            return False
        return all(bool(_given(name, values)) is wanted for name, wanted in self.when)


@dataclass(frozen=True, slots=True)
class Derived:
    """A name whose value comes from a table: ``of`` filled is looked up in ``words``."""

    of: str
    words: Mapping[str, Any]
    keep: bool = False

    def value(self, values: Mapping[str, Any]) -> Any:
        """The word, with ``keep`` what was looked up where the table has none, else None."""
        asked = fill(self.of, values)
        if asked is ABSENT:
            return None
        return self.words.get(str(asked), asked if self.keep else None)


@dataclass(frozen=True, slots=True)
class Call:
    """A further request about a task. ``states``: only while it is in one of these; none named means always."""

    path: str
    method: str = "GET"
    states: tuple[str, ...] = ()
    billed: bool = False
    output: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """Errors in an answer of any status: a ``code`` that is none of ``ok``, and what its words mean."""

    code: str = ""
    ok: tuple[str, ...] = ()
    message: str = ""
    words: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TaskDescription:
    """All that the adapter for tasks has to know of one provider."""

    submit: tuple[Variant, ...]
    id: str
    poll: Call
    status: str
    states: Mapping[str, str]
    outputs: tuple[str, ...]
    auth: Auth = Auth()
    fields: Mapping[str, Derived] = field(default_factory=dict)
    poll_url: str = ""
    hosts: tuple[str, ...] = ()
    progress: str = ""
    seconds: str = ""
    message: str = ""
    code: str = ""
    #: Words in a state, code or message that mean: refused for the content's sake.
    moderated: tuple[str, ...] = ()
    #: Where ``false`` means that moderation kept back what was made.
    withheld: str = ""
    failure: Failure = Failure()
    link: Call | None = None
    cancel: Call | None = None
    find: Call | None = None
    download_auth: bool = False
    idempotent: bool = False
    poll_seconds: float = 5.0

    def values(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """What a template may use: what was asked, with the derived names, each from those before it."""
        values = dict(asked)
        for name, derived in self.fields.items():
            values[name] = derived.value(values)
        return values

    def variant(self, values: Mapping[str, Any]) -> Variant | None:
        """The first way to begin that fits, None where the provider has none for this."""
        return next((variant for variant in self.submit if variant.fits(values)), None)


def parse(document: object, place: str = "task") -> TaskDescription:
    """The description of a JSON object. Raises ValueError with the place of what is wrong."""
    table = _table(document, place, _MEMBERS, {"submit", "id", "poll", "status", "states", "outputs"})
    fields = _fields(table.get("fields", {}), f"{place}.fields")
    known = VALUES | set(fields)
    states = _words(table["states"], f"{place}.states", STATES)
    if not {"succeeded", "failed"} <= set(states.values()):
        raise ValueError(f"{place}.states: must name what succeeded and what failed")
    submit = table["submit"] if isinstance(table["submit"], list) else [table["submit"]]
    if not submit:
        raise ValueError(f"{place}.submit: must say how a task begins")
    about = known | {"id", "path"}
    description = TaskDescription(
        submit=tuple(_variant(each, f"{place}.submit.{index}", known) for index, each in enumerate(submit)),
        fields=fields,
        id=_pointer(table["id"], f"{place}.id"),
        poll=_call(table["poll"], f"{place}.poll", about),
        status=_pointer(table["status"], f"{place}.status"),
        states=states,
        outputs=tuple(_pointer(each, f"{place}.outputs") for each in _list(table["outputs"], f"{place}.outputs")),
        auth=_auth(table.get("auth", {}), f"{place}.auth"),
        hosts=tuple(_text(each, f"{place}.hosts") for each in _list(table.get("hosts", []), f"{place}.hosts")),
        moderated=tuple(
            _text(each, f"{place}.moderated") for each in _list(table.get("moderated", []), f"{place}.moderated")
        ),
        failure=_failure(table.get("failure", {}), f"{place}.failure"),
        link=_optional_call(table, "link", place, {"output"}),
        cancel=_optional_call(table, "cancel", place, about),
        find=_optional_call(table, "find", place, known | {"path"}),
        download_auth=_flag(table.get("download_auth", False), f"{place}.download_auth"),
        idempotent=_flag(table.get("idempotent", False), f"{place}.idempotent"),
        poll_seconds=_number(table.get("poll_seconds", 5.0), f"{place}.poll_seconds"),
        **{
            name: _pointer(table[name], f"{place}.{name}")
            for name in ("poll_url", "progress", "seconds", "message", "code", "withheld")
            if name in table
        },
    )
    if description.poll_url and not description.hosts:
        raise ValueError(f"{place}.hosts: must name the hosts that a poll_url may lead to: the key goes there")
    return description


def _variant(document: object, place: str, known: Iterable[str]) -> Variant:
    table = _table(document, place, {"path", "method", "headers", "body", "when", "models"}, {"path", "body"})
    known = set(known)
    when = _table(table.get("when", {}), f"{place}.when", None)
    for name, wanted in when.items():
        if name.partition(".")[0] not in known or not isinstance(wanted, bool):
            raise ValueError(f"{place}.when.{name}: must be a name of a value, with true or false")
    headers = _table(table.get("headers", {}), f"{place}.headers", None)
    for name, value in headers.items():
        _known(value, f"{place}.headers.{name}", known)
    _known(table["body"], f"{place}.body", known)
    return Variant(
        path=_path(table["path"], f"{place}.path", known),
        method=_method(table.get("method", "POST"), f"{place}.method"),
        headers=tuple((str(name).lower(), str(value)) for name, value in headers.items()),
        body=table["body"],
        when=tuple(when.items()),
        models=tuple(_text(each, f"{place}.models") for each in _list(table.get("models", []), f"{place}.models")),
    )


def _fields(document: object, place: str) -> dict[str, Derived]:
    fields: dict[str, Derived] = {}
    for name, entry in _table(document, place, None).items():
        table = _table(entry, f"{place}.{name}", {"of", "words", "keep"}, {"of", "words"})
        if name in VALUES:
            raise ValueError(f"{place}.{name}: is the name of a value already")
        of = _text(table["of"], f"{place}.{name}.of")
        _known(of, f"{place}.{name}.of", VALUES | set(fields))
        words = _table(table["words"], f"{place}.{name}.words", None)
        fields[name] = Derived(of, dict(words), _flag(table.get("keep", False), f"{place}.{name}.keep"))
    return fields


def _call(document: object, place: str, known: Iterable[str]) -> Call:
    table = _table(document, place, {"path", "method", "states", "billed", "output", "id"}, {"path"})
    states = tuple(_text(each, f"{place}.states") for each in _list(table.get("states", []), f"{place}.states"))
    for state in states:
        _one_of(state, f"{place}.states", STATES)
    return Call(
        path=_path(table["path"], f"{place}.path", known),
        method=_method(table.get("method", "GET"), f"{place}.method"),
        states=states,
        billed=_flag(table.get("billed", False), f"{place}.billed"),
        output=_pointer(table["output"], f"{place}.output") if "output" in table else "",
        id=_pointer(table["id"], f"{place}.id") if "id" in table else "",
    )


def _optional_call(table: Mapping[str, Any], name: str, place: str, known: Iterable[str]) -> Call | None:
    if name not in table:
        return None
    call = _call(table[name], f"{place}.{name}", known)
    if name == "link" and not call.output:
        raise ValueError(f"{place}.link.output: must be set")
    return call


def _failure(document: object, place: str) -> Failure:
    table = _table(document, place, {"code", "ok", "message", "words"})
    return Failure(
        code=_pointer(table["code"], f"{place}.code") if "code" in table else "",
        ok=tuple(str(each) for each in _list(table.get("ok", []), f"{place}.ok")),
        message=_pointer(table["message"], f"{place}.message") if "message" in table else "",
        words=_words(table.get("words", {}), f"{place}.words", FAULTS),
    )


def _auth(document: object, place: str) -> Auth:
    table = _table(document, place, {"header", "prefix", "jwt"})
    prefix = table.get("prefix", "Bearer ")
    if not isinstance(prefix, str):
        raise ValueError(f"{place}.prefix: must be a text")
    header = _text(table.get("header", "authorization"), f"{place}.header").lower()
    return Auth(header, prefix, _flag(table.get("jwt", False), f"{place}.jwt"))


def _table(document: object, place: str, known: set[str] | None, needed: Iterable[str] = ()) -> Mapping[str, Any]:
    if not isinstance(document, Mapping):
        raise ValueError(f"{place}: must be a table")
    for name in document:
        if known is not None and name not in known:
            raise ValueError(f"{place}: unknown member {name!r}")
    for name in needed:
        if name not in document:
            raise ValueError(f"{place}.{name}: must be set")
    return document


def _list(value: object, place: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{place}: must be a list")
    return value


def _words(document: object, place: str, known: Iterable[str]) -> dict[str, str]:
    return {str(word): _one_of(to, f"{place}.{word}", known) for word, to in _table(document, place, None).items()}


def _one_of(value: object, place: str, known: Iterable[str]) -> str:
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{place}: must be one of {', '.join(sorted(known))}")
    return value


def _text(value: object, place: str) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{place}: must be a text")
    return value


def _pointer(value: object, place: str) -> str:
    if not isinstance(value, str) or not value.startswith("/"):
        raise ValueError(f"{place}: must be a JSON pointer, such as /data/id")
    return value


def _path(value: object, place: str, known: Iterable[str]) -> str:
    path = _text(value, place)
    if not path.startswith(("/", "{path}")):
        raise ValueError(f"{place}: must start with a slash")
    _known(path, place, known)
    return path


def _method(value: object, place: str) -> str:
    return _one_of(value, place, _METHODS)


def _known(template: object, place: str, known: Iterable[str]) -> None:
    known = set(known)
    try:
        for name in names_in(template):
            if name not in known:
                raise ValueError(f"there is no value {name!r}")
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


def _flag(value: object, place: str) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{place}: must be true or false")
    return value


def _number(value: object, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 600:
        raise ValueError(f"{place}: must be a number of seconds, at most 600")
    return float(value)


def _given(name: str, values: Mapping[str, Any]) -> Any:
    """Whether a name has a value; ``images.1`` asks after the second of a list."""
    found = fill(f"{{{name}}}", values)
    return None if found is ABSENT else found

"""The small language of task descriptions: JSON with ``{names}`` in it, and pointers into answers. Pure.

A text that is one name becomes the value with its type; ``{duration:text}`` goes through a modifier; ``{images.1}``
is the second of a list. What has no value is left out, together with the objects and lists that only it would fill.
``{"each": "images", "item": …}`` becomes ``{item}`` for each of them, inside a list that stands around it;
``{"if": "image", "item": …}`` is there only where that name has a value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

ABSENT: Final = object()

_NAME = re.compile(r"\{([a-z_]+)(?:\.(\d{1,2}))?(?::([a-z]+))?\}")
_EACH = {"each", "item"}
_IF = {"if", "item"}


def fill(template: Any, values: Mapping[str, Any]) -> Any:
    """The template with values in it; ABSENT where nothing of it has one."""
    if isinstance(template, str):
        return _text(template, values)
    if isinstance(template, Mapping):
        if set(template) == _EACH:
            items = values.get(template["each"]) or []
            return _kept([fill(template["item"], {**values, "item": item}) for item in items])
        if set(template) == _IF:
            given = fill(f"{{{template['if']}}}", values) is not ABSENT
            return fill(template["item"], values) if given else ABSENT
        members = {name: fill(part, values) for name, part in template.items()}
        kept = {name: part for name, part in members.items() if part is not ABSENT}
        return kept if kept or not template else ABSENT
    if isinstance(template, list):
        return _kept([item for part in template for item in _items(part, values)])
    return template


def fill_path(template: str, values: Mapping[str, Any], *, raw: frozenset[str] = frozenset()) -> str:
    """A path with values in it, each quoted but for the ``raw`` ones. Raises LookupError where one has none."""

    def put(match: re.Match[str]) -> str:
        value = _value(match, values)
        if value is ABSENT:
            raise LookupError(match[1])
        return str(value) if match[1] in raw else quote(str(value), safe="", errors="replace")

    return _NAME.sub(put, template)


def names_in(template: Any) -> Iterator[str]:
    """Every name that a template uses. Raises ValueError for a modifier that does not exist."""
    if isinstance(template, str):
        for match in _NAME.finditer(template):
            if match[3] and match[3] not in _MODIFIERS:
                raise ValueError(f"{match[0]}: there is no modifier {match[3]!r}")
            yield match[1]
        if "{" in _NAME.sub("", template):
            raise ValueError(f"{template!r}: a brace begins no name")
    elif isinstance(template, Mapping):
        if set(template) == _EACH:
            yield str(template["each"])
            yield from (name for name in names_in(template["item"]) if name != "item")
        elif set(template) == _IF:
            yield str(template["if"]).partition(".")[0]
            yield from names_in(template["item"])
        else:
            for part in template.values():
                yield from names_in(part)
    elif isinstance(template, list):
        for part in template:
            yield from names_in(part)


def at(pointer: str, value: Any) -> Any:
    """What a JSON pointer (``/data/videos/0/url``) leads to, None where nothing is there."""
    found = list(every(pointer, value))
    return found[0] if found else None


def every(pointer: str, value: Any) -> Iterator[Any]:
    """Everything that a pointer leads to, where ``*`` stands for each item of a list. Empty values don't count."""
    if not pointer:
        if value is not None and value != "":
            yield value
        return
    head, _, rest = pointer[1:].partition("/")
    rest = f"/{rest}" if rest else ""
    if isinstance(value, Mapping) and head in value:
        yield from every(rest, value[head])
    elif isinstance(value, list):
        if head == "*":
            for item in value:
                yield from every(rest, item)
        elif head.isdigit() and int(head) < len(value):
            yield from every(rest, value[int(head)])


def bare(url: str) -> str:
    """A data URL's base64 alone; another URL as it is."""
    return url.partition(",")[2] if url.startswith("data:") else url


def mime(url: str) -> str:
    """A data URL's media type, empty for another URL."""
    return url[5:].partition(",")[0].partition(";")[0] if url.startswith("data:") else ""


_MODIFIERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "text": str,
    "number": float,
    "lower": lambda value: str(value).lower(),
    "upper": lambda value: str(value).upper(),
    "bare": lambda value: bare(str(value)),
    "mime": lambda value: mime(str(value)) or ABSENT,
}


def _text(template: str, values: Mapping[str, Any]) -> Any:
    whole = _NAME.fullmatch(template)
    if whole:
        return _value(whole, values)
    parts = [_value(match, values) for match in _NAME.finditer(template)]
    if any(part is ABSENT for part in parts):
        return ABSENT
    rest = iter(parts)
    return _NAME.sub(lambda _: str(next(rest)), template)


def _value(match: re.Match[str], values: Mapping[str, Any]) -> Any:
    name, index, modifier = match.groups()
    value = values.get(name)
    if index is not None:
        value = value[int(index)] if isinstance(value, list | tuple) and int(index) < len(value) else None
    if value is None or value == "":
        return ABSENT
    return _MODIFIERS[modifier](value) if modifier else value


def _items(part: Any, values: Mapping[str, Any]) -> list[Any]:
    """What a part of a list comes to: one item, or as many as it repeats."""
    filled = fill(part, values)
    if isinstance(part, Mapping) and set(part) == _EACH:
        return [] if filled is ABSENT else list(filled)
    return [filled]


def _kept(items: list[Any]) -> Any:
    kept = [item for item in items if item is not ABSENT]
    return kept if kept else ABSENT

"""Holds a form-encoded request against the parameter types of Stripe's own Python library.

A stand-in that takes whatever it gets would prove nothing: what the library's types do not know, the real Stripe
refuses too. `decode` undoes the bracket notation, `checked` walks the TypedDict of the endpoint beside the values and
gives them back with their types.
"""

from __future__ import annotations

import functools
import re
import sys
import typing
from collections.abc import Mapping
from types import UnionType
from typing import Any, Final, ForwardRef, Literal, Union, get_args, get_origin
from urllib.parse import parse_qsl

import typing_extensions
from stripe import RequestOptions

MAX_FIELDS: Final = 500
MAX_DEPTH: Final = 8
_INTEGER: Final = re.compile(r"-?[0-9]{1,18}\Z")
_KEY: Final = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)\Z")
_MARKERS: Final = (typing_extensions.NotRequired, typing_extensions.Required, typing.Annotated)


class Refused(Exception):
    """A request that Stripe answers with 400. ``param`` is written as Stripe writes it: ``line_items[0][price]``."""

    def __init__(self, message: str, *, param: str = "", code: str = "parameter_invalid") -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code


def decode(text: str) -> dict[str, Any]:
    """Nested maps out of ``a[b][0][c]=1``; lists stay maps with the keys "0", "1" until their type is known."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError:
        raise Refused("Invalid request: the body is not a readable form.") from None
    root: dict[str, Any] = {}
    for name, value in pairs:
        _put(root, name, value)
    return root


def _put(root: dict[str, Any], name: str, value: str) -> None:
    match = _KEY.match(name)
    if match is None:
        raise Refused(f"Invalid parameter name: {name}", param=name)
    steps = [match[1], *re.findall(r"\[([^\[\]]*)\]", match[2])]
    if len(steps) > MAX_DEPTH:
        raise Refused(f"Too many levels: {name}", param=name)
    here = root
    for step in steps[:-1]:
        here = here.setdefault(step or str(len(here)), {})
        if not isinstance(here, dict):
            raise Refused(f"Invalid object: {name}", param=name)
    last = steps[-1] or str(len(here))
    if last in here:
        raise Refused(f"Duplicate parameter: {name}", param=name)
    here[last] = value


def checked(values: Mapping[str, Any], params: Any) -> dict[str, Any]:
    """``values`` with the types that the TypedDict ``params`` gives them. Raises Refused at the first that differs."""
    result: dict[str, Any] = _typed_dict(values, params, "")
    return result


def _under(path: str, key: str) -> str:
    return f"{path}[{key}]" if path else key


@functools.cache
def _fields(params: Any) -> tuple[Mapping[str, Any], frozenset[str]]:
    """Name to resolved type of a TypedDict, and which names it requires."""
    namespace = {**vars(typing), **vars(sys.modules[params.__module__])}
    # The client's own options (key, retries …) are part of an endpoint's type, not of what goes over the wire.
    options = RequestOptions.__annotations__ if RequestOptions in getattr(params, "__orig_bases__", ()) else {}
    hints = {name: _resolved(hint, namespace) for name, hint in params.__annotations__.items() if name not in options}
    return hints, frozenset(params.__required_keys__) & hints.keys()


def _resolved(hint: Any, namespace: dict[str, Any]) -> Any:
    """The type that a hint means: written-out names looked up, NotRequired and its like taken off."""
    if isinstance(hint, ForwardRef):
        hint = hint.__forward_arg__
    if isinstance(hint, str):
        return _resolved(eval(hint, namespace), namespace)  # noqa: S307 - text of the installed library, no input
    origin = get_origin(hint)
    if origin in _MARKERS:
        return _resolved(get_args(hint)[0], namespace)
    if origin in (Union, UnionType):
        return Union[tuple(_resolved(one, namespace) for one in get_args(hint))]  # noqa: UP007 - built from a tuple
    if origin is list:
        return list[_resolved(get_args(hint)[0], namespace)]  # type: ignore[misc]  # a type made at run time
    return hint


def _typed_dict(values: Any, params: Any, path: str) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise Refused(f"Invalid object: {path}", param=path)
    hints, required = _fields(params)
    result: dict[str, Any] = {}
    for name, value in values.items():
        if name not in hints:
            raise Refused(
                f"Received unknown parameter: {_under(path, name)}", param=_under(path, name), code="parameter_unknown"
            )
        result[name] = _typed(value, hints[name], _under(path, name))
    for name in sorted(required):
        if name not in values:
            raise missing(_under(path, name))
    return result


def missing(param: str) -> Refused:
    """What Stripe says where a required parameter is not there."""
    return Refused(f"Missing required param: {param}.", param=param, code="parameter_missing")


def _typed(value: Any, hint: Any, path: str) -> Any:
    origin = get_origin(hint)
    if typing_extensions.is_typeddict(hint):
        return _typed_dict(value, hint, path)
    if origin is Union:
        return _one_of(value, get_args(hint), path)
    if origin is Literal:
        return _choice(value, get_args(hint), path)
    if origin is list:
        return _list(value, get_args(hint)[0], path)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise Refused(f"Invalid hash: {path}", param=path)
        return {key: _typed(one, get_args(hint)[1], _under(path, key)) for key, one in value.items()}
    return _scalar(value, hint, path)


def _one_of(value: Any, hints: tuple[Any, ...], path: str) -> Any:
    """The first alternative that fits. Enums come as ``Literal | str`` for the future's sake: today's are enforced."""
    if any(get_origin(hint) is Literal and get_args(hint) != ("",) for hint in hints):
        hints = tuple(hint for hint in hints if hint is not str)
    refusals: list[Refused] = []
    for hint in hints:
        if hint is type(None):
            continue
        try:
            return _typed(value, hint, path)
        except Refused as refused:
            refusals.append(refused)
    # The deepest complaint says most: the alternative that fitted furthest.
    raise max(refusals, key=lambda refused: len(refused.param), default=Refused(f"Invalid value: {path}", param=path))


def _choice(value: Any, choices: tuple[Any, ...], path: str) -> Any:
    if value in choices:
        return value
    listed = ", ".join(str(choice) for choice in choices)
    raise Refused(f"Invalid {path}: must be one of {listed}", param=path)


def _list(value: Any, hint: Any, path: str) -> list[Any]:
    if not isinstance(value, Mapping) or set(value) != {str(index) for index in range(len(value))}:
        raise Refused(f"Invalid array: {path}", param=path)
    return [_typed(value[str(index)], hint, _under(path, str(index))) for index in range(len(value))]


def _scalar(value: Any, hint: Any, path: str) -> Any:
    if not isinstance(value, str):
        raise Refused(f"Invalid value: {path}", param=path)
    if hint is str:
        if value == "":
            raise Refused(f"You passed an empty string for '{path}'.", param=path, code="parameter_invalid_empty")
        return value
    if hint is bool:
        if value not in ("true", "false"):
            raise Refused(f"Invalid boolean: {value}", param=path)
        return value == "true"
    if hint is int:
        if not _INTEGER.match(value):
            raise Refused(f"Invalid integer: {value}", param=path, code="parameter_invalid_integer")
        return int(value)
    raise Refused(f"Invalid value: {path}", param=path)

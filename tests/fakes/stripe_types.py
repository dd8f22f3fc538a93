"""Holds an object against the classes of Stripe's library: names, types, enums, what may be empty. Rules for tests."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from types import UnionType
from typing import Any, ForwardRef, Literal, Union, get_args, get_origin

import stripe
from stripe import StripeObject
from stripe._stripe_object import UntypedStripeObject


def problems(value: Any, hint: Any, path: str = "") -> Iterator[str]:
    """What is wrong with ``value`` as a ``hint``, one line each."""
    if isinstance(hint, str | ForwardRef):
        yield from problems(value, _named(hint), path)
        return
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        yield from _union(value, get_args(hint), path)
    elif origin is Literal:
        if value not in get_args(hint):
            yield f"{path}: {value!r} is none of {get_args(hint)}"
    elif origin is list:
        if not isinstance(value, list):
            yield f"{path}: a list is wanted"
        else:
            for index, one in enumerate(value):
                yield from problems(one, get_args(hint)[0], f"{path}[{index}]")
    elif isinstance(origin, type) and issubclass(origin, StripeObject):
        if not isinstance(value, dict):
            yield f"{path}: an object is wanted"
    elif isinstance(hint, type) and issubclass(hint, StripeObject):
        yield from _object(value, hint, path)
    elif isinstance(hint, type) and (not isinstance(value, hint) or (hint is int and isinstance(value, bool))):
        yield f"{path}: {value!r} is no {hint.__name__}"


def _named(hint: str | ForwardRef) -> Any:
    name = hint.__forward_arg__ if isinstance(hint, ForwardRef) else hint
    return getattr(stripe, name.removesuffix("Resource"), None) or object


def _union(value: Any, hints: tuple[Any, ...], path: str) -> Iterator[str]:
    if value is None:
        if type(None) not in hints:
            yield f"{path}: may not be empty"
        return
    if any(get_origin(hint) is Literal for hint in hints):
        hints = tuple(hint for hint in hints if hint is not str)  # the future's values are open, today's are known
    tries = [list(problems(value, hint, path)) for hint in hints if hint is not type(None)]
    if all(tries):
        yield from min(tries, key=len)


def _object(value: Any, kind: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path}: an object is wanted"
        return
    if issubclass(kind, UntypedStripeObject):
        return
    hints = {name: hint for name, hint in kind.__annotations__.items() if get_origin(hint) is not typing.ClassVar}
    for name in value.keys() - hints.keys():
        yield f"{path}.{name}: {kind.__name__} has no such field"
    for name, hint in hints.items():
        if name in value:
            yield from problems(value[name], hint, f"{path}.{name}")
        elif not _may_be_left_out(hint):
            yield f"{path}.{name}: missing"


def _may_be_left_out(hint: Any) -> bool:
    return get_origin(hint) in (Union, UnionType) and type(None) in get_args(hint)

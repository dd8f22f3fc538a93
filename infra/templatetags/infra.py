"""Filters of the pages about GPUs."""

from __future__ import annotations

import json

from django import template

from catalog.entries import ModelEntry
from infra import rates

register = template.Library()


@register.filter
def unit_price(model: ModelEntry) -> int:
    """Microcredits of a call or a second of a hosted model."""
    return rates.flat(model.price.rates) if model.price is not None else 0


def example_input(model: ModelEntry) -> str:
    """An input that works, as JSON for a form."""
    rules = model.media.gpu
    return json.dumps(dict(rules.example) if rules is not None else {}, indent=2, ensure_ascii=False)


@register.filter
def example_body(model: ModelEntry) -> str:
    """A body that works, as JSON."""
    rules = model.media.gpu
    return json.dumps({"input": dict(sorted(rules.example))} if rules is not None else {})

"""From the name (or intent) in a request to the model that serves it: pure over a Snapshot.

A name is looked up as an id, as an alias, and both again without a date behind it. Old ids and families are data; only
the form of a date is code.
"""

from __future__ import annotations

import re

from catalog.endpoints import PATHS
from catalog.entries import ModelEntry, PriceEntry, Snapshot
from catalog.pricing import blended
from core.errors import InvalidRequest

_DATED = re.compile(r"(?P<name>.+)-20\d\d(?P<dash>-?)(0[1-9]|1[0-2])(?P=dash)(0[1-9]|[12]\d|3[01])")
_MESSAGE_NAME_LENGTH = 100


def lookup(snapshot: Snapshot, name: str) -> ModelEntry | None:
    """The model that ``name`` means, whatever its endpoint, or None."""
    entry = snapshot.models.get(snapshot.aliases.get(name, name))
    if entry is None:
        name = _undated(name)
        entry = snapshot.models.get(snapshot.aliases.get(name, name))
    return entry


def exact(snapshot: Snapshot, name: str) -> ModelEntry | None:
    """The model of that very id, with or without a date; aliases don't count.

    For models that a provider brings into a call by a name of its own: it is not ours to mean another one by it.
    """
    return snapshot.models.get(name) or snapshot.models.get(_undated(name))


def price_of(snapshot: Snapshot, name: str) -> PriceEntry | None:
    """The price of the model of that very id, None where there is no such model or no price."""
    entry = exact(snapshot, name)
    return entry.price if entry is not None else None


def find(snapshot: Snapshot, name: str, endpoint: str) -> ModelEntry:
    """The model to call at ``endpoint``. Its chain may be empty: that is the provider side's trouble, not the caller's.

    Raises InvalidRequest (param ``model``) for an unknown model, a model of another endpoint, whose path the message
    names, and a model without a price. ``available_models`` in it are the ids of this endpoint.
    """
    entry = lookup(snapshot, name)
    if entry is None:
        raise _refusal(snapshot, endpoint, f"The model '{shown(name)}' does not exist.", "model_not_found")
    if endpoint not in entry.endpoints:
        right = " or ".join(PATHS[kind] for kind in entry.endpoints)
        message = f"The model '{shown(name)}' is not served at {PATHS[endpoint]}: call it at {right}."
        raise _refusal(snapshot, endpoint, message, "wrong_endpoint")
    if entry.price is None:
        message = f"The model '{shown(name)}' can't be called: it has no price yet."
        raise _refusal(snapshot, endpoint, message, "model_not_priced")
    return entry


def find_by_intent(snapshot: Snapshot, intent: str, endpoint: str) -> ModelEntry:
    """The first of `qualified`. Raises what it raises."""
    return qualified(snapshot, intent, endpoint)[0]


def qualified(snapshot: Snapshot, intent: str, endpoint: str) -> list[ModelEntry]:
    """The models of ``endpoint`` that are qualified for ``intent``, those that somebody serves first, cheapest first.

    A model that only the sandbox can serve comes after all others; equal prices go by id, so that the choice is stable.
    Raises InvalidRequest (param ``intent``) where no model is qualified; ``available_intents`` names those that work.
    """
    offered = [snapshot.models[slug] for slug in snapshot.available(endpoint)]
    found = [entry for entry in offered if intent in entry.intents]
    if not found:
        known = sorted({word for entry in offered for word in entry.intents})
        raise InvalidRequest(
            f"No model is qualified for the intent '{shown(intent)}' at {PATHS[endpoint]}.",
            param="intent",
            code="intent_not_found",
            extra={"available_intents": known},
        )
    return sorted(found, key=lambda entry: (not entry.targets, entry.sandboxed, usual_cost(entry), entry.slug))


def usual_cost(entry: ModelEntry) -> int:
    """Microcredits of a usual use of a priced model, only to compare models of one endpoint.

    For tokens: a million of them, three in to one out. For media: the default picture or clip.
    """
    assert entry.price is not None
    rates = entry.price.rates
    if not rates.unit:
        return blended(rates) or 0
    tier = entry.media.tier()
    price = rates.unit_price(tier) if tier is not None else max(price for _, price in rates.unit_prices)
    seconds = entry.media.durations.default if rates.unit == "second" and entry.media.durations else 1
    return price * seconds


def _undated(name: str) -> str:
    match = _DATED.fullmatch(name)
    return match["name"] if match else name


def shown(name: str) -> str:
    """The caller's word as it may stand in a message: one line, not endless."""
    printable = "".join(letter if letter.isprintable() else "?" for letter in name)
    return printable if len(printable) <= _MESSAGE_NAME_LENGTH else printable[:_MESSAGE_NAME_LENGTH] + "…"


def _refusal(snapshot: Snapshot, endpoint: str, message: str, code: str) -> InvalidRequest:
    available = list(snapshot.available(endpoint))
    return InvalidRequest(message, param="model", code=code, extra={"available_models": available})

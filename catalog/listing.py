"""The model lists of the API, in OpenAI's and in Anthropic's shape: pure over a Snapshot.

Amounts are credits: per million tokens, or per unit for media. Members beyond the vendors' own are additions that
their SDKs pass over.
"""

from __future__ import annotations

from datetime import UTC
from typing import Any

from catalog.codec import long_context_to_json, service_tiers_to_json, tokens_to_json
from catalog.endpoints import MESSAGES, PATHS
from catalog.entries import ModelEntry, Snapshot
from catalog.pricing import Rates
from catalog.resolve import lookup
from core.errors import InvalidRequest, NotFound
from core.money import credits_json

ANTHROPIC_DEFAULT_LIMIT = 20
ANTHROPIC_MOST = 1000


def openai_list(snapshot: Snapshot) -> dict[str, Any]:
    """``GET /models``: every model that can be called, by id."""
    callable_ones = (slug for slug, entry in snapshot.models.items() if entry.price and entry.endpoints)
    slugs = sorted(callable_ones, key=str.casefold)
    return {"object": "list", "data": [_openai(snapshot.models[slug]) for slug in slugs]}


def openai_model(snapshot: Snapshot, name: str) -> dict[str, Any]:
    """``GET /models/{id}``. An alias or a dated id answers with the model it means. Raises NotFound."""
    return _openai(_listed(snapshot, name))


def anthropic_list(
    snapshot: Snapshot,
    *,
    limit: int = ANTHROPIC_DEFAULT_LIMIT,
    after_id: str | None = None,
    before_id: str | None = None,
) -> dict[str, Any]:
    """``GET /models`` with an ``anthropic-version``: one page of the models of ``/messages``, the newest first.

    Raises InvalidRequest for a limit out of 1–1000 or a cursor that is no model of the list.
    """
    if not 1 <= limit <= ANTHROPIC_MOST:
        raise InvalidRequest(f"limit must lie between 1 and {ANTHROPIC_MOST}.", param="limit")
    entries = [snapshot.models[slug] for slug in snapshot.available(MESSAGES)]
    entries.sort(key=lambda entry: (entry.created_at, entry.id), reverse=True)
    ids = [entry.slug for entry in entries]
    start, stop = 0, len(ids)
    if after_id is not None:
        start = _place(ids, after_id, "after_id") + 1
    if before_id is not None:
        stop = _place(ids, before_id, "before_id")
    window = range(start, stop)
    kept = window[-limit:] if before_id is not None and after_id is None else window[:limit]
    page = [_anthropic(entries[place]) for place in kept]
    return {
        "data": page,
        "has_more": len(kept) < len(window),
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
    }


def anthropic_model(snapshot: Snapshot, name: str) -> dict[str, Any]:
    """``GET /models/{id}`` with an ``anthropic-version``. Raises NotFound, also for a model of another endpoint."""
    entry = _listed(snapshot, name)
    if MESSAGES not in entry.endpoints:
        raise _not_found(name)
    return _anthropic(entry)


def price_in_credits(rates: Rates) -> dict[str, Any]:
    """A price as JSON numbers in credits: per million tokens by bucket, per use of a server tool, per unit by tier."""
    members: dict[str, Any] = {
        **tokens_to_json(rates.tokens),
        "long_context": long_context_to_json(rates.long_context),
        "service_tiers": service_tiers_to_json(rates.service_tiers),
        "server_tools": dict(rates.server_tools),
        "unit_prices": dict(rates.unit_prices),
    }
    shown = {name: _credits(value) for name, value in members.items() if value or value == 0}
    return {**shown, "unit": rates.unit or "mtok"}


def _openai(entry: ModelEntry) -> dict[str, Any]:
    assert entry.price is not None
    pricing: dict[str, Any] = {"currency": "credits", **price_in_credits(entry.price.rates)}
    if entry.price.list_rates is not None:
        pricing["list"] = price_in_credits(entry.price.list_rates)
    return {
        "id": entry.slug,
        "object": "model",
        "created": int(entry.created_at.timestamp()),
        "owned_by": entry.vendor,
        "name": entry.name,
        "family": entry.family,
        "endpoints": [PATHS[kind] for kind in entry.endpoints],
        "context_length": entry.context_tokens,
        "max_output_tokens": entry.max_output_tokens,
        "capabilities": list(entry.capabilities),
        "intents": list(entry.intents),
        "aliases": list(entry.aliases),
        "pricing": pricing,
        "sandbox": entry.sandboxed,
    }


def _anthropic(entry: ModelEntry) -> dict[str, Any]:
    created = entry.created_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"type": "model", "id": entry.slug, "display_name": entry.name, "created_at": created}


def _credits(value: Any) -> Any:
    """Amounts turned to credits at any depth; the thresholds of context tiers are tokens and stay."""
    if isinstance(value, dict):
        return {name: part if name == "above_input_tokens" else _credits(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_credits(part) for part in value]
    return credits_json(value)


def _listed(snapshot: Snapshot, name: str) -> ModelEntry:
    entry = lookup(snapshot, name)
    if entry is None or entry.price is None:
        raise _not_found(name)
    return entry


def _not_found(name: str) -> NotFound:
    return NotFound(f"The model '{name[:100]}' does not exist.", param="model", code="model_not_found")


def _place(ids: list[str], cursor: str, param: str) -> int:
    if cursor not in ids:
        raise InvalidRequest(f"{param} is not a model of this list.", param=param)
    return ids.index(cursor)

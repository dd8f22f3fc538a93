"""The models of ``/gemini`` and of embeddings, in the shape of Google's own list: pure over a Snapshot."""

from __future__ import annotations

from typing import Any, Final

from catalog.endpoints import EMBEDDINGS, GEMINI
from catalog.entries import ModelEntry, Snapshot
from catalog.resolve import lookup, shown
from core.errors import InvalidRequest, NotFound

DEFAULT_PAGE_SIZE: Final = 50
MOST_PAGE_SIZE: Final = 1000
_METHODS: Final = {
    GEMINI: ("generateContent", "streamGenerateContent", "countTokens"),
    EMBEDDINGS: ("embedContent", "batchEmbedContents"),
}


def page(snapshot: Snapshot, size: str | None = None, token: str = "") -> dict[str, Any]:
    """One page, by id. ``token`` is what the page before gave as ``nextPageToken``.

    Raises InvalidRequest for a size that is no whole number and for a token that no page gave.
    """
    slugs = sorted({*snapshot.available(GEMINI), *snapshot.available(EMBEDDINGS)}, key=str.casefold)
    most = _size(size)
    if token and token not in slugs:
        raise InvalidRequest("pageToken is not one that a page gave.", param="pageToken")
    start = slugs.index(token) if token else 0
    told: dict[str, Any] = {"models": [_model(snapshot.models[slug]) for slug in slugs[start : start + most]]}
    if start + most < len(slugs):
        told["nextPageToken"] = slugs[start + most]
    return told


def model(snapshot: Snapshot, name: str) -> dict[str, Any]:
    """One model; an alias or a dated id answers with the model it means. Raises NotFound."""
    entry = lookup(snapshot, name.removeprefix("models/"))
    if entry is None or entry.price is None or not _methods(entry):
        raise NotFound(f"The model '{shown(name)}' does not exist.", param="model", code="model_not_found")
    return _model(entry)


def _model(entry: ModelEntry) -> dict[str, Any]:
    """Google's members only: its Python library takes no others."""
    told: dict[str, Any] = {
        "name": f"models/{entry.slug}",
        "baseModelId": entry.slug,
        "version": entry.family or entry.slug,
        "displayName": entry.name,
        "description": f"{entry.name} by {entry.vendor_name or entry.vendor}",
        "supportedGenerationMethods": _methods(entry),
        "thinking": "reasoning" in entry.capabilities,
    }
    if entry.context_tokens:
        told["inputTokenLimit"] = entry.context_tokens
    if entry.max_output_tokens:
        told["outputTokenLimit"] = entry.max_output_tokens
    return told


def _methods(entry: ModelEntry) -> list[str]:
    return [method for kind, methods in _METHODS.items() if kind in entry.endpoints for method in methods]


def _size(text: str | None) -> int:
    if not text:
        return DEFAULT_PAGE_SIZE
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise InvalidRequest("pageSize must be a whole number.", param="pageSize")
    return min(int(text), MOST_PAGE_SIZE) or DEFAULT_PAGE_SIZE

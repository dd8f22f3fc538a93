"""The price list as rows for the page, out of a Snapshot. Amounts stay microcredits until the template writes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from catalog import endpoints
from catalog.entries import ModelEntry, PriceEntry, Snapshot
from catalog.pricing import Rates

#: What a reader looks for, in order: each model stands in the first group that one of its endpoints belongs to.
GROUPS: tuple[tuple[str, Promise, frozenset[str]], ...] = (
    (
        "language",
        _("Language models"),
        frozenset({endpoints.CHAT, endpoints.MESSAGES, endpoints.RESPONSES, endpoints.GEMINI}),
    ),
    ("embeddings", _("Embeddings"), frozenset({endpoints.EMBEDDINGS})),
    ("images", _("Images"), frozenset({endpoints.IMAGES})),
    ("videos", _("Videos"), frozenset({endpoints.VIDEOS})),
    ("audio", _("Audio"), frozenset({endpoints.AUDIO})),
    ("gpu", _("On GPUs"), frozenset({endpoints.GPU})),
)

BUCKET_LABELS = {
    "input": _("Input"),
    "cached_input": _("Cached input"),
    "cache_write_5m": _("Cache write, 5 minutes"),
    "cache_write_1h": _("Cache write, 1 hour"),
    "output": _("Output"),
    "audio_input": _("Audio input"),
    "audio_output": _("Audio output"),
}

UNIT_LABELS = {
    "image": _("a picture"),
    "second": _("a second"),
    "clip": _("a clip"),
    "request": _("a request"),
    "character": _("a character"),
    "byte": _("a byte of text"),
}

CAPABILITY_LABELS = {
    "tools": _("Tools"),
    "vision": _("Vision"),
    "reasoning": _("Reasoning"),
    "structured_output": _("Structured output"),
    "prompt_caching": _("Prompt caching"),
    "audio_input": _("Audio input"),
    "audio_output": _("Audio output"),
    "image_output": _("Picture output"),
    "web_search": _("Web search"),
    "image_to_image": _("Image to image"),
    "image_to_video": _("Image to video"),
    "last_frame": _("Last frame"),
    "speech": _("Speech"),
    "voice_cloning": _("Voice cloning"),
    "transcription": _("Transcription"),
}


@dataclass(frozen=True, slots=True)
class Amount:
    """A customer's price beside the vendor's, in microcredits. ``listed`` is None where it is the same or unknown."""

    label: str | Promise
    ours: int | None
    listed: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One model of the list."""

    entry: ModelEntry
    paths: tuple[str, ...]
    capabilities: tuple[Promise | str, ...]
    amounts: tuple[Amount, ...]
    unit: Promise | str
    more: tuple[tuple[Promise | str, tuple[Amount, ...]], ...]

    @property
    def unserved(self) -> bool:
        """Whether nobody can answer for it now."""
        return not self.entry.targets


@dataclass(frozen=True, slots=True)
class Group:
    """A table of the page."""

    key: str
    title: str | Promise
    rows: tuple[Row, ...]

    @property
    def per_token(self) -> bool:
        """Whether its columns are token rates."""
        return self.key in ("language", "embeddings")


def groups(snapshot: Snapshot, endpoint: str = "", query: str = "") -> tuple[Group, ...]:
    """The models that are served at ``endpoint`` (any if empty) and match every word of ``query``, group by group."""
    words = query.casefold().split()
    found = [
        entry
        for slug, entry in sorted(snapshot.models.items(), key=lambda item: item[0].casefold())
        if (not endpoint or endpoint in entry.endpoints) and all(word in _searchable(entry) for word in words)
    ]
    made = []
    for key, title, _kinds in GROUPS:
        rows = tuple(_row(entry, key) for entry in found if _group(entry) == key)
        if rows:
            made.append(Group(key, title, rows))
    return tuple(made)


def _group(entry: ModelEntry) -> str:
    return next((key for key, _title, kinds in GROUPS if kinds & set(entry.endpoints)), "")


def _searchable(entry: ModelEntry) -> str:
    names = (
        entry.slug,
        entry.name,
        entry.vendor_name,
        entry.family,
        *entry.aliases,
        *entry.capabilities,
        *entry.intents,
    )
    return " ".join(names).casefold()


def _row(entry: ModelEntry, group: str) -> Row:
    price = entry.price
    if price is None:
        amounts: tuple[Amount, ...] = ()
    elif price.rates.unit:
        amounts = tuple(_unit_amounts(price))
    else:
        columns = ("input", "cached_input", "output") if group == "language" else ("input",)
        amounts = tuple(_token_amount(price, bucket) for bucket in columns)
    return Row(
        entry=entry,
        paths=tuple(endpoints.PATHS[kind] for kind in entry.endpoints),
        capabilities=tuple(CAPABILITY_LABELS.get(word, word) for word in entry.capabilities),
        amounts=amounts,
        unit=UNIT_LABELS.get(price.rates.unit, "") if price else "",
        more=tuple(_more(price)) if price else (),
    )


def _token_amount(price: PriceEntry, bucket: str) -> Amount:
    listed = price.list_rates.tokens.of(bucket) if price.list_rates else None
    return _amount(BUCKET_LABELS[bucket], price.rates.tokens.of(bucket), listed)


def _unit_amounts(price: PriceEntry) -> Iterator[Amount]:
    listed = dict(price.list_rates.unit_prices) if price.list_rates else {}
    for tier, ours in price.rates.unit_prices:
        yield _amount("" if tier == "default" else tier, ours, listed.get(tier))


def _more(price: PriceEntry) -> Iterator[tuple[Promise | str, tuple[Amount, ...]]]:
    """What the columns have no room for: cache writes, sound, long contexts, speed classes, server tools."""
    rates, listed = price.rates, price.list_rates or Rates()
    others = [bucket for bucket, _rate in rates.tokens.items() if bucket not in ("input", "cached_input", "output")]
    if others:
        yield _("More rates"), tuple(_token_amount(price, bucket) for bucket in others)
    listed_tiers = {tier.above_input_tokens: tier.rates for tier in listed.long_context}
    for tier in rates.long_context:
        theirs = listed_tiers.get(tier.above_input_tokens)
        title = _("Above %(tokens)s input tokens") % {"tokens": f"{tier.above_input_tokens:,}"}
        yield (
            title,
            tuple(
                _amount(BUCKET_LABELS[bucket], rate, getattr(theirs, bucket, None))
                for bucket, rate in tier.rates.items()
            ),
        )
    listed_services = {service.name: service.rates for service in listed.service_tiers}
    for service in rates.service_tiers:
        theirs = listed_services.get(service.name)
        title = _("Service tier %(name)s") % {"name": service.name}
        yield (
            title,
            tuple(
                _amount(BUCKET_LABELS[bucket], rate, getattr(theirs, bucket, None))
                for bucket, rate in service.rates.items()
            ),
        )
    tools = [(name, ours) for name, ours in rates.server_tools if ours]
    if tools:
        listed_tools = dict(listed.server_tools)
        yield _("Server tools, a use"), tuple(_amount(name, ours, listed_tools.get(name)) for name, ours in tools)


def _amount(label: str | Promise, ours: int | None, listed: int | None) -> Amount:
    return Amount(label, ours, listed if listed != ours else None)

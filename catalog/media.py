"""A media model's rules as a value: what may be asked for, and which price tier it falls into.

The rules are data (a JSON object on the model); this module only reads and checks them. ``parse`` raises ValueError
with the place of what is wrong, so a bad catalog file is caught when it is loaded and not at a call.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from catalog.pricing import DEFAULT_TIER

REFERENCE_KINDS = ("https", "data")
MAX_IMAGES = 10

_MEMBERS = {
    "sizes", "default_size", "aspect_ratios", "default_aspect_ratio", "resolutions", "default_resolution",
    "durations", "references", "last_image", "min_reference_seconds", "max_images", "max_text_bytes",
    "max_audio_seconds", "gpu", "qualities", "default_quality", "only",
}  # fmt: skip
_SIZE = re.compile(r"[1-9]\d{2,4}x[1-9]\d{2,4}")
_RATIO = re.compile(r"[1-9]\d?:[1-9]\d?")


@dataclass(frozen=True, slots=True)
class Durations:
    """Seconds of a clip: any of ``choices``, or any whole number from ``minimum`` to ``maximum``."""

    default: int
    choices: tuple[int, ...] = ()
    minimum: int = 1
    maximum: int = 0

    def allows(self, seconds: int) -> bool:
        """Whether a clip of that length may be asked for."""
        return seconds in self.choices if self.choices else self.minimum <= seconds <= self.maximum


@dataclass(frozen=True, slots=True)
class References:
    """Pictures or clips that may come with a prompt: how many, and as ``https`` URLs or base64 ``data`` URLs.

    ``minimum`` is more than zero for a model that makes nothing of a text alone.
    """

    kinds: tuple[str, ...]
    maximum: int
    minimum: int = 0


@dataclass(frozen=True, slots=True)
class Only:
    """Lengths that are left where certain choices meet: ``durations`` alone, at one of ``resolutions`` and with one of
    ``pictures`` (how many come with the prompt). What is empty does not matter.
    """

    durations: tuple[int, ...]
    resolutions: tuple[str, ...] = ()
    pictures: tuple[int, ...] = ()

    def applies(self, resolution: str, pictures: int) -> bool:
        """Whether it is about a clip of that resolution with so many pictures."""
        return (not self.resolutions or resolution in self.resolutions) and (
            not self.pictures or pictures in self.pictures
        )


@dataclass(frozen=True, slots=True)
class GpuRules:
    """How a model runs on a GPU engine: longest run, whether it is answered at once, and the worker that runs it.

    ``defaults`` go under the caller's ``input``; ``example`` is an input that works, for pages.
    """

    max_seconds: int
    inline: bool = False
    image: str = ""
    gpu_types: tuple[str, ...] = ()
    defaults: tuple[tuple[str, Any], ...] = ()
    example: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class MediaRules:
    """What a picture, video or audio model takes. An empty tuple or a zero means: it has no such choice or bound.

    ``qualities`` are words with what they add to the name of a price tier: ``high`` makes ``1K`` into ``1K high``. A
    model without them passes on whatever is asked. ``max_text_bytes`` (UTF-8) and ``max_audio_seconds`` bound what one
    request at a flat price may cost upstream.
    """

    sizes: tuple[tuple[str, str], ...] = ()
    default_size: str = ""
    aspect_ratios: tuple[str, ...] = ()
    default_aspect_ratio: str = ""
    resolutions: tuple[tuple[str, str], ...] = ()
    default_resolution: str = ""
    durations: Durations | None = None
    references: References | None = None
    last_image: bool = False
    min_reference_seconds: int = 0
    max_images: int = MAX_IMAGES
    max_text_bytes: int = 0
    max_audio_seconds: int = 0
    gpu: GpuRules | None = None
    qualities: tuple[tuple[str, str], ...] = ()
    default_quality: str = ""
    only: tuple[Only, ...] = ()

    def tier(self, size: str = "", resolution: str = "") -> str | None:
        """The price tier of what was asked for: of ``size`` if given, else of ``resolution``, else of the default.

        None for a choice that this model does not offer.
        """
        if size:
            return dict(self.sizes).get(size)
        if resolution or self.resolutions:
            return dict(self.resolutions).get(resolution or self.default_resolution)
        return dict(self.sizes).get(self.default_size) if self.sizes else DEFAULT_TIER

    def at_quality(self, tier: str, quality: str = "") -> str:
        """The price tier of a picture of ``tier`` in that quality, or in the default one."""
        addition = dict(self.qualities).get(quality or self.default_quality, "")
        return f"{tier} {addition}" if addition else tier

    @property
    def scales(self) -> frozenset[str]:
        """The price tiers of sizes and resolutions, whatever the quality."""
        return frozenset(tier for _, tier in self.resolutions + self.sizes) or frozenset({DEFAULT_TIER})

    @property
    def tiers(self) -> frozenset[str]:
        """Every price tier that a request can fall into."""
        qualities = [quality for quality, _ in self.qualities] or [""]
        return frozenset(self.at_quality(tier, quality) for tier in self.scales for quality in qualities)


def parse(document: Mapping[str, Any]) -> MediaRules:
    """The rules of a JSON object. Raises ValueError."""
    unknown = sorted(set(document) - _MEMBERS)
    if unknown:
        raise ValueError(f"media: unknown member {unknown[0]!r}")
    sizes = _tiers(document, "sizes")
    resolutions = _tiers(document, "resolutions")
    ratios = _words(document, "aspect_ratios")
    for size, _ in sizes:
        _match(_SIZE, size, "media.sizes")
    for ratio in ratios:
        _match(_RATIO, ratio, "media.aspect_ratios")
    durations, references = _durations(document.get("durations")), _references(document.get("references"))
    return MediaRules(
        sizes=sizes,
        default_size=_default(document, "default_size", [] if resolutions else [size for size, _ in sizes]),
        aspect_ratios=ratios,
        default_aspect_ratio=_default(document, "default_aspect_ratio", list(ratios)),
        resolutions=resolutions,
        default_resolution=_default(document, "default_resolution", [name for name, _ in resolutions]),
        durations=durations,
        references=references,
        last_image=bool(document.get("last_image", False)),
        min_reference_seconds=_count(document.get("min_reference_seconds", 0), "media.min_reference_seconds"),
        max_images=_count(document.get("max_images", MAX_IMAGES), "media.max_images"),
        max_text_bytes=_count(document.get("max_text_bytes", 0), "media.max_text_bytes"),
        max_audio_seconds=_count(document.get("max_audio_seconds", 0), "media.max_audio_seconds"),
        gpu=_gpu(document.get("gpu")),
        qualities=_qualities(document),
        default_quality=_default(document, "default_quality", list(document.get("qualities", {}))),
        only=_only(document, durations, [name for name, _ in resolutions], references.maximum if references else 0),
    )


def _qualities(document: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """``{ medium = "", high = "high" }`` as pairs."""
    table = document.get("qualities", {})
    if not isinstance(table, Mapping) or not all(isinstance(addition, str) for addition in table.values()):
        raise ValueError("media.qualities: must map each quality to what it adds to a price tier, or to nothing")
    return tuple(sorted((str(quality), addition) for quality, addition in table.items()))


def _gpu(document: object) -> GpuRules | None:
    if document is None:
        return None
    known = {"max_seconds", "inline", "image", "gpu_types", "defaults", "example"}
    if not isinstance(document, Mapping) or set(document) - known:
        raise ValueError("media.gpu: must have max_seconds, and else only inline, image, gpu_types, defaults, example")
    maximum = _count(document.get("max_seconds"), "media.gpu.max_seconds")
    if maximum < 1:
        raise ValueError("media.gpu.max_seconds: must be at least 1")
    return GpuRules(
        max_seconds=maximum,
        inline=bool(document.get("inline", False)),
        image=str(document.get("image", "")),
        gpu_types=_words(document, "gpu_types"),
        defaults=_members(document, "defaults"),
        example=_members(document, "example"),
    )


def _members(document: Mapping[str, Any], name: str) -> tuple[tuple[str, Any], ...]:
    table = document.get(name, {})
    if not isinstance(table, Mapping):
        raise ValueError(f"media.gpu.{name}: must be an object")
    return tuple((str(key), value) for key, value in table.items())


def _tiers(document: Mapping[str, Any], name: str) -> tuple[tuple[str, str], ...]:
    """``{"1024x1024": "1K"}`` as pairs, in an order of their own: JSON in the database keeps none."""
    table = document.get(name, {})
    if not isinstance(table, Mapping) or not all(isinstance(tier, str) and tier for tier in table.values()):
        raise ValueError(f"media.{name}: must map each choice to its price tier")
    return tuple(sorted(((str(key), tier) for key, tier in table.items()), key=_by_magnitude))


def _by_magnitude(pair: tuple[str, str]) -> tuple[list[float], str]:
    """Numbers before spelling, the longer side first: 480P, 720P, 1080P; 0.5K, 1K, 2K; 1024x1024, 1536x1024."""
    sides = sorted((float(number) for number in re.findall(r"\d+(?:\.\d+)?", pair[0])), reverse=True)
    scale = 1000.0 if pair[0].upper().endswith("K") else 1.0
    return [side * scale for side in sides], pair[0]


def _words(document: Mapping[str, Any], name: str) -> tuple[str, ...]:
    words = document.get(name, [])
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError(f"media.{name}: must be a list of strings")
    return tuple(words)


def _list(document: Mapping[str, Any], name: str) -> list[Any]:
    value = document.get(name, [])
    if not isinstance(value, list):
        raise ValueError(f"media.{name}: must be a list")
    return value


def _default(document: Mapping[str, Any], name: str, choices: list[str]) -> str:
    value = document.get(name, "")
    if bool(value) != bool(choices) or (choices and value not in choices):
        raise ValueError(f"media.{name}: must name one of the choices")
    return str(value)


def _durations(document: object) -> Durations | None:
    if document is None:
        return None
    if not isinstance(document, Mapping) or set(document) - {"choices", "min", "max", "default"}:
        raise ValueError("media.durations: must have default and either choices or min and max")
    choices = tuple(_count(seconds, "media.durations.choices") for seconds in document.get("choices", []))
    durations = Durations(
        default=_count(document.get("default"), "media.durations.default"),
        choices=choices,
        minimum=_count(document.get("min", 1), "media.durations.min"),
        maximum=_count(document.get("max", 0), "media.durations.max"),
    )
    if not durations.allows(durations.default):
        raise ValueError("media.durations.default: is not among the allowed ones")
    return durations


def _only(
    document: Mapping[str, Any], durations: Durations | None, resolutions: list[str], pictures: int
) -> tuple[Only, ...]:
    """``[{ when = { resolutions = ["1080P"] }, durations = [8] }]``. A call that names no length must always do."""
    found = []
    for each in _list(document, "only"):
        if not isinstance(each, Mapping) or set(each) != {"when", "durations"} or not isinstance(each["when"], Mapping):
            raise ValueError("media.only: each must have when and durations")
        when = each["when"]
        if not when or set(when) - {"resolutions", "pictures"}:
            raise ValueError("media.only.when: must have resolutions or pictures, and nothing else")
        rule = Only(
            durations=tuple(_count(seconds, "media.only.durations") for seconds in _list(each, "durations")),
            resolutions=_words(when, "resolutions"),
            pictures=tuple(_count(number, "media.only.when.pictures") for number in _list(when, "pictures")),
        )
        if set(rule.resolutions) - set(resolutions) or max(rule.pictures, default=0) > pictures:
            raise ValueError("media.only.when: names what the model does not offer")
        if durations is None or not all(map(durations.allows, rule.durations)):
            raise ValueError("media.only.durations: are not among the allowed ones")
        if durations.default not in rule.durations:
            raise ValueError("media.only.durations: must have the default")
        found.append(rule)
    return tuple(found)


def _references(document: object) -> References | None:
    if document is None:
        return None
    if not isinstance(document, Mapping) or set(document) - {"min"} != {"kinds", "max"}:
        raise ValueError("media.references: must have kinds and max, and may have min")
    kinds = tuple(document["kinds"])
    if not kinds or any(kind not in REFERENCE_KINDS for kind in kinds):
        raise ValueError(f"media.references.kinds: must be of {', '.join(REFERENCE_KINDS)}")
    references = References(
        kinds=kinds,
        maximum=_count(document["max"], "media.references.max"),
        minimum=_count(document.get("min", 0), "media.references.min"),
    )
    if references.minimum > references.maximum:
        raise ValueError("media.references.min: is more than max")
    return references


def _count(value: object, place: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{place}: must be a whole number, zero or more")
    return value


def _match(pattern: re.Pattern[str], value: str, place: str) -> None:
    if not pattern.fullmatch(value):
        raise ValueError(f"{place}: {value!r} is malformed")

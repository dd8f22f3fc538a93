"""Clips: from what a caller asks for to what a model may be asked, and what that costs. Pure.

A broken rule is InvalidRequest with ``param``. A model's rules are its catalog data: how long a clip may be, which
shapes and resolutions there are, which pictures may come with the prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from catalog import endpoints
from catalog.entries import ModelEntry
from catalog.pricing import Units
from core.destinations import URL_LIMIT_CHARS
from core.errors import InvalidRequest
from media import references, rules
from upstreams.images import Source

#: What the most patient provider reads of a prompt.
MOST_PROMPT_CHARACTERS: Final = 5_000
_MOST_NAME: Final = 200
_PER_SECOND: Final = "second"


@dataclass(frozen=True, slots=True)
class VideoAsk:
    """What a caller asks for, before any model's rules. Empty words were left to the model."""

    model: str = ""
    intent: str = ""
    prompt: str = field(default="", repr=False)
    duration: int | None = None
    aspect_ratio: str = ""
    resolution: str = ""
    images: tuple[Source, ...] = ()
    last_image: Source | None = None
    webhook_url: str = field(default="", repr=False)

    @property
    def kind(self) -> str:
        """The endpoint kind, as the catalog and the log call it."""
        return endpoints.VIDEOS


@dataclass(frozen=True, slots=True)
class VideoOrder:
    """What one model is asked: every choice made. Pictures are ``https`` or ``data`` URLs."""

    prompt: str = field(repr=False)
    duration: int | None
    aspect_ratio: str
    resolution: str
    images: tuple[str, ...] = field(default=(), repr=False)
    last_image: str = field(default="", repr=False)

    def as_input(self) -> dict[str, Any]:
        """What is kept with the job, by the names that adapters know."""
        return {
            "prompt": self.prompt,
            "duration": self.duration,
            "aspect_ratio": self.aspect_ratio,
            "resolution": self.resolution,
            "images": list(self.images),
            "last_image": self.last_image,
        }


def read(body: Mapping[str, Any]) -> VideoAsk:
    """The members of a decoded body. Raises InvalidRequest; members that are not ours are left alone."""
    ask = VideoAsk(
        model=_text(body, "model", _MOST_NAME),
        intent=_text(body, "intent", _MOST_NAME),
        prompt=_text(body, "prompt", MOST_PROMPT_CHARACTERS),
        duration=_duration(body.get("duration")),
        aspect_ratio=_text(body, "aspect_ratio", _MOST_NAME),
        resolution=_text(body, "resolution", _MOST_NAME),
        images=(*_pictures(body, "image"), *_pictures(body, "image_urls")),
        last_image=next(iter(_pictures(body, "last_image_url")), None),
        webhook_url=_text(body, "webhookUrl", URL_LIMIT_CHARS),
    )
    if not ask.model and not ask.intent:
        raise InvalidRequest("Name a model, or an intent such as text-to-video.", param="model", code="model_missing")
    if ask.model and ask.intent:
        raise InvalidRequest("Name a model or an intent, not both.", param="intent")
    if not ask.prompt.strip():
        raise InvalidRequest("prompt must say what the clip is to show.", param="prompt")
    return ask


def order_of(entry: ModelEntry, ask: VideoAsk) -> tuple[VideoOrder, Units]:
    """What this model is asked, and what it costs by units of its price. Raises InvalidRequest with ``param``."""
    media = entry.media
    ratio = rules.choice(entry, "aspect_ratio", ask.aspect_ratio, media.aspect_ratios)
    resolution = rules.choice(entry, "resolution", ask.resolution, [name for name, _ in media.resolutions])
    duration = _checked_duration(entry, ask.duration)
    _check_pictures(entry, ask)
    if media.max_text_bytes and len(ask.prompt.encode("utf-8", "replace")) > media.max_text_bytes:
        raise InvalidRequest(
            f"The prompt is longer than {media.max_text_bytes} bytes (UTF-8), which is what {entry.slug} takes.",
            param="prompt",
            code="text_too_long",
        )
    _check_together(entry, duration, resolution or media.default_resolution, len(ask.images))
    tier = media.tier(resolution=resolution)
    assert tier is not None  # each choice has one
    order = VideoOrder(
        prompt=ask.prompt,
        duration=duration,
        aspect_ratio=ratio or media.default_aspect_ratio,
        resolution=resolution or media.default_resolution,
        images=tuple(source.as_url for source in ask.images),
        last_image=ask.last_image.as_url if ask.last_image else "",
    )
    return order, Units(_quantity(entry, duration), tier)


def _quantity(entry: ModelEntry, duration: int | None) -> int:
    assert entry.price is not None
    return duration or 1 if entry.price.rates.unit == _PER_SECOND else 1


def _checked_duration(entry: ModelEntry, seconds: int | None) -> int | None:
    allowed = entry.media.durations
    if allowed is None:
        if seconds is not None:
            raise InvalidRequest(f"{entry.slug} takes no duration.", param="duration", code="duration_not_offered")
        return None
    if seconds is None:
        return allowed.default
    if allowed.allows(seconds):
        return seconds
    choices = list(allowed.choices)
    offered = ", ".join(map(str, choices)) if choices else f"{allowed.minimum} to {allowed.maximum}"
    raise InvalidRequest(
        f"{entry.slug} makes no clip of {seconds} seconds. It offers: {offered}.",
        param="duration",
        code="duration_not_offered",
        extra={"available_durations": choices or list(range(allowed.minimum, allowed.maximum + 1))},
    )


def _check_together(entry: ModelEntry, seconds: int | None, resolution: str, pictures: int) -> None:
    """Whether a clip of these choices can be that long: some lengths are for some of them alone."""
    for rule in entry.media.only:
        if seconds in rule.durations or not rule.applies(resolution, pictures):
            continue
        words = [f"at {resolution}"] if rule.resolutions else []
        words += [f"with {pictures} pictures" if pictures else "without a picture"] if rule.pictures else []
        raise InvalidRequest(
            f"{entry.slug} makes no clip of {seconds} seconds {' and '.join(words)}. "
            f"It offers: {', '.join(map(str, rule.durations))}.",
            param="duration",
            code="duration_not_offered",
            extra={"available_durations": list(rule.durations)},
        )


def _check_pictures(entry: ModelEntry, ask: VideoAsk) -> None:
    """Which pictures may come, and how many. A last picture needs a first one, and no others beside it."""
    allowed = entry.media.references
    rules.check_references(entry, ask.images, allowed)
    if allowed is not None and len(ask.images) < allowed.minimum:
        raise InvalidRequest(
            f"{entry.slug} makes a clip of pictures: send at least {allowed.minimum} in image_urls.",
            param="image_urls",
            code="reference_missing",
        )
    last = ask.last_image
    if last is None:
        return
    if not entry.media.last_image:
        raise InvalidRequest(f"{entry.slug} takes no last picture.", param=last.member, code="last_image_not_offered")
    rules.check_references(entry, [last], allowed)
    if not ask.images:
        raise InvalidRequest("A last picture needs a first one, in image.", param="image", code="first_image_missing")
    if len(ask.images) > 1:
        raise InvalidRequest(
            "A clip from one picture to another takes these two alone.", param="image_urls", code="too_many_references"
        )


def _text(body: Mapping[str, Any], name: str, most: int) -> str:
    value = body.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > most:
        raise InvalidRequest(f"{name} must be a text of at most {most} characters.", param=name)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"{name} holds half of a character: it is not valid Unicode.", param=name) from None
    return value


def _duration(value: object) -> int | None:
    """Whole seconds, also as a text: some clients send ``"6"``."""
    if value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 6:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 100_000:
        raise InvalidRequest("duration must be a whole number of seconds.", param="duration")
    return value


def _pictures(body: Mapping[str, Any], name: str) -> Sequence[Source]:
    """A member that holds a URL, an object with one, or a list of them."""
    value = body.get(name)
    if value is None or value == []:
        return ()
    each = value if isinstance(value, list) else [value]
    if isinstance(value, list) and name != "image_urls":
        raise InvalidRequest(f"{name} must be one URL.", param=name)
    if not isinstance(value, list) and name == "image_urls":
        raise InvalidRequest("image_urls must be a list of URLs.", param=name)
    if len(each) > references.MOST_REFERENCES:
        raise InvalidRequest(
            f"{name} has more than {references.MOST_REFERENCES} URLs.", param=name, code="too_many_references"
        )
    return [_picture(item.get("url") if isinstance(item, Mapping) else item, name) for item in each]


def _picture(url: object, param: str) -> Source:
    if not isinstance(url, str) or not url:
        raise InvalidRequest(
            f"{param} must hold public https:// URLs or base64 data URLs.", param=param, code="invalid_reference"
        )
    return references.read(param, url)

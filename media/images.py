"""Pictures: from what a caller asks for to what a model may be asked, and from what came back to what is kept.

`order_of` is pure. `kept` is synchronous Django (storage); the gateway calls it by `Runtime.work`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec
from django.conf import settings

from catalog.entries import ModelEntry
from catalog.media import MAX_IMAGES
from catalog.pricing import Units
from core.egress import EgressError, EgressFailed
from core.errors import InvalidRequest, ProductError
from keys.auth import KeyFacts
from media import rules
from media.formats import Finish, NotConverted
from storage import objects
from storage.models import StoredObject
from upstreams.images import EXTENSIONS, Order, Picture, Source, decoded, image_type

logger = logging.getLogger(__name__)

#: What one picture of a provider's may be at most: 4096 pixels squared as a PNG are some 40 MB.
MOST_PICTURE_BYTES: Final = 64 * 1024 * 1024
_NEWER_QUALITIES: Final = {"standard": "medium", "hd": "high"}
_COPY_SECONDS: Final = 25.0


@dataclass(frozen=True, slots=True)
class ImageAsk:
    """What a caller asks for, before any model's rules. Empty words were left to the model."""

    prompt: str = field(repr=False)
    n: int = 1
    size: str = ""
    aspect_ratio: str = ""
    resolution: str = ""
    quality: str = ""
    sources: tuple[Source, ...] = ()
    mask: Source | None = None
    #: Members that only a provider understands.
    members: Mapping[str, msgspec.Raw] = field(default_factory=dict, repr=False)
    wants_base64: bool = False
    #: The format that the pictures are to come in, whatever the provider draws in.
    finish: Finish = field(default_factory=Finish)


def order_of(entry: ModelEntry, ask: ImageAsk) -> tuple[Order, Units]:
    """What this model is asked, and what it costs by units of its price. Raises InvalidRequest with ``param``."""
    media = entry.media
    size = rules.choice(entry, "size", ask.size, [name for name, _ in media.sizes])
    ratio = rules.choice(entry, "aspect_ratio", ask.aspect_ratio, media.aspect_ratios)
    resolution = rules.choice(entry, "resolution", ask.resolution, [name for name, _ in media.resolutions])
    quality = _quality(entry, ask.quality)
    rules.check_references(entry, ask.sources, media.references)
    _check_mask(entry, ask)
    _check_background(entry, ask)
    if size and ratio and not rules.same_shape(size, ratio):
        raise InvalidRequest(f"The size {size} does not have the aspect ratio {ratio}.", param="aspect_ratio")
    if size and resolution and media.tier(size) != media.tier(resolution=resolution):
        raise InvalidRequest(f"The size {size} is not of the resolution {resolution}.", param="resolution")
    tier = media.tier(size, resolution)
    assert tier is not None  # each choice has one
    if not size and not ratio and not resolution:
        size = media.default_size
    if not resolution and media.resolutions:
        resolution = next((name for name, its in media.resolutions if its == tier), "")
    order = Order(
        prompt=ask.prompt,
        n=min(ask.n, media.max_images or MAX_IMAGES),
        size=size,
        aspect_ratio=ratio or _ratio_in(media.aspect_ratios, size) or media.default_aspect_ratio,
        resolution=resolution,
        scale=resolution or (tier if len(media.scales) > 1 else ""),
        quality=quality or media.default_quality,
        sources=ask.sources,
        mask=ask.mask,
        members=ask.members,
    )
    return order, Units(order.n, media.at_quality(tier, quality))


def _quality(entry: ModelEntry, asked: str) -> str:
    """The quality as the model calls it: OpenAI's older words stand for the newer ones where those are offered."""
    offered = [name for name, _ in entry.media.qualities]
    if not offered:
        return asked
    newer = _NEWER_QUALITIES.get(asked, asked)
    return rules.choice(entry, "quality", newer if newer in offered else asked, offered)


def _check_mask(entry: ModelEntry, ask: ImageAsk) -> None:
    """A mask needs a picture under it, and a provider that takes forms, as OpenAI does."""
    if ask.mask is None:
        return
    if not ask.sources:
        raise InvalidRequest("A mask needs an image that it is a mask of.", param="mask")
    if not any(takes_mask(each.target.adapter, each.target.options.images, each.sandbox) for each in entry.targets):
        raise InvalidRequest(f"{entry.slug} takes no mask.", param="mask", code="mask_not_offered")


def takes_mask(adapter: str, style: str, sandbox: bool) -> bool:
    """Whether a provider spoken to like that knows masks."""
    return sandbox or (adapter == "openai" and style == "forms")


def _check_background(entry: ModelEntry, ask: ImageAsk) -> None:
    if wants_transparency(ask) and not any(draws_transparency(each.target.adapter) for each in entry.targets):
        raise InvalidRequest(
            f"{entry.slug} draws no transparent background.", param="background", code="background_not_offered"
        )


def wants_transparency(ask: ImageAsk) -> bool:
    """Whether what lies behind the picture is to show through."""
    return bytes(ask.members.get("background", b"")) == b'"transparent"'


def draws_transparency(adapter: str) -> bool:
    """Whether a provider spoken to like that can be asked for a transparent background: Google's can't."""
    return adapter != "gemini"


def _ratio_in(offered: tuple[str, ...], size: str) -> str:
    """The offered ratio that a size has, empty where it has none."""
    return next((ratio for ratio in offered if size and rules.same_shape(size, ratio)), "")


def kept(key: KeyFacts, picture: Picture, name: str, vouched_for: str, finish: Finish) -> Picture:
    """The picture with an address that lasts: stored here as ``finish`` wants it, and signed.

    ``name`` is its file's, without an end; ``vouched_for`` is the provider's base URL. A provider's own address stays
    where the operator wants no copies, or where no copy can be had: the picture has been paid for.
    """
    try:
        stored = _stored(key, picture, name, vouched_for, finish)
    except (ProductError, EgressError, OSError) as error:
        logger.warning("a picture could not be stored: %s", type(error).__name__)
        return picture
    if stored is None:
        return picture
    return replace(picture, url=objects.signed_url(stored), content_type=stored.content_type)


def _stored(key: KeyFacts, picture: Picture, name: str, vouched_for: str, finish: Finish) -> StoredObject | None:
    if picture.b64:
        data = decoded(picture.b64)
        return _put(key, _finished(data, finish), name) if data and image_type(data) else None
    if not settings.MEDIA_COPY_RESULTS:
        return None
    copy = _copied(key, picture, name, vouched_for)
    if finish.fits(copy.content_type):
        return copy
    data = _bytes_of(copy)
    finished = _finished(data, finish)
    if finished is data:
        return copy
    row = _put(key, finished, name)
    objects.delete(copy)
    return row


def _put(key: KeyFacts, data: bytes, name: str) -> StoredObject:
    kind = image_type(data)
    assert kind is not None
    return objects.store(
        key.workspace_id, data, kind="image", filename=f"{name}.{EXTENSIONS[kind]}", content_type=kind,
        source="result", key_id=key.id, user_id=key.user_id,
    )  # fmt: skip


def _finished(data: bytes, finish: Finish) -> bytes:
    """The picture as ``finish`` wants it; as it came where that can't be: it has been paid for."""
    try:
        return finish.applied(data)
    except NotConverted as error:
        logger.warning("a picture stays in its format: %s", error)
        return data


def _bytes_of(row: StoredObject) -> bytes:
    with objects.open_bytes(row) as file:
        return bytes(file.read())


def _copied(key: KeyFacts, picture: Picture, name: str, vouched_for: str) -> StoredObject:
    """A copy of what lies at the provider's address. Raises EgressFailed for what is no picture, a page say."""
    copy = objects.fetch_and_store(
        picture.url, key.workspace_id, kind="image", filename=name, headers=dict(picture.headers),
        most_bytes=MOST_PICTURE_BYTES, seconds=_COPY_SECONDS, key_id=key.id, user_id=key.user_id,
        vouched_for=vouched_for,
    )  # fmt: skip
    if not copy.content_type.startswith("image/"):
        objects.delete(copy)
        raise EgressFailed("no_picture", "What lies at the provider's address is no picture.")
    return copy


def is_ready(picture: Picture, finish: Finish) -> bool:
    """Whether the picture's base64 is what a caller who wants base64 gets."""
    return bool(picture.b64) and (not finish.format or finish.fits(picture.inline_type))


def as_base64(key: KeyFacts, picture: Picture, name: str, vouched_for: str, finish: Finish) -> Picture:
    """The picture itself as ``finish`` wants it, fetched where it lies elsewhere; if it can't be, the address stays."""
    try:
        data = decoded(picture.b64) if picture.b64 else _fetched(key, picture, name, vouched_for)
    except (ProductError, EgressError, OSError) as error:
        logger.warning("a picture could not be fetched: %s", type(error).__name__)
        return picture
    if not data:
        return picture
    made = Picture.of(_finished(data, finish))
    return replace(made, revised_prompt=picture.revised_prompt, content_type=made.inline_type)


def _fetched(key: KeyFacts, picture: Picture, name: str, vouched_for: str) -> bytes:
    copy = _copied(key, picture, name, vouched_for)
    data = _bytes_of(copy)
    objects.delete(copy)
    return data

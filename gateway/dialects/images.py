"""OpenAI's images, as callers speak them: JSON, or a form with files for edits; and the answer. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from catalog.media import MAX_IMAGES
from core import clock, money
from core.errors import InvalidRequest
from gateway.dialects import base
from gateway.dialects.base import Fields, Receipt
from gateway.multipart import Form
from media import references
from media.formats import CONTENT_TYPES, USUAL_QUALITY, Finish
from media.images import ImageAsk
from upstreams import loose_json
from upstreams.images import Drawn, Picture, Source

MOST_PROMPT_CHARACTERS: Final = 32_000
#: Members by which pictures come along, in the order in which they are shown to a model.
REFERENCE_MEMBERS: Final = ("image", "images", "reference_images", "image_urls")
#: Members that are read here; the rest goes on to providers that speak this format.
_READ: Final = frozenset({
    "model", "intent", "prompt", "n", "size", "aspect_ratio", "resolution", "quality", "mask", "stream",
    "partial_images", "hypereal", *REFERENCE_MEMBERS,
})  # fmt: skip
_FORMATS: Final = ("url", "b64_json")
_BACKGROUNDS: Final = ("auto", "opaque", "transparent")
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,18}")


def names(fields: Fields) -> tuple[str, str]:
    """Model and intent. Raises InvalidRequest where there is neither."""
    model, intent = base.text(fields, "model"), base.text(fields, "intent")
    if not model and not intent:
        raise InvalidRequest("The member model is missing: name the model to call.", param="model")
    return model, intent


def parse(fields: Fields, files: Sequence[Source] = (), mask: Source | None = None) -> ImageAsk:
    """What is asked for. ``files`` came beside the members. Raises InvalidRequest with ``param``."""
    prompt = base.text(fields, "prompt", MOST_PROMPT_CHARACTERS)
    if not prompt.strip():
        raise InvalidRequest("The member prompt is missing: say what to draw.", param="prompt")
    if base.flag(fields, "stream"):
        raise InvalidRequest("Pictures are not streamed here.", param="stream", code="stream_not_offered")
    if base.member(fields, "partial_images"):
        raise InvalidRequest("Partial images are not offered here.", param="partial_images", code="stream_not_offered")
    finish = _finish(fields)
    if mask is None and (given := base.member(fields, "mask")) is not None:
        mask = _source("mask", given)
    return ImageAsk(
        prompt=prompt,
        n=_number(fields),
        size=_size(fields),
        aspect_ratio=_left_open(base.text(fields, "aspect_ratio", 20)),
        resolution=_left_open(base.text(fields, "resolution", 20)),
        quality=_left_open(base.text(fields, "quality", 20)),
        sources=(*files, *_references(fields)),
        mask=mask,
        members={name: raw for name, raw in fields.items() if name not in _READ},
        wants_base64=_one_of(fields, "response_format", _FORMATS) == "b64_json",
        finish=finish,
    )


def parse_form(form: Form) -> tuple[Fields, list[Source], Source | None]:
    """The members of a form as if they had come as JSON, its pictures, its mask. Raises InvalidRequest."""
    fields: Fields = {}
    for name, values in form.fields.items():
        value: Any = values if name in REFERENCE_MEMBERS and len(values) > 1 else _typed(name, values[-1])
        fields[name] = msgspec.Raw(msgspec.json.encode(value))
    unknown = [name for name in form.files if name not in (*REFERENCE_MEMBERS, "mask")]
    if unknown:
        raise InvalidRequest("Files may come as image and as mask.", param=unknown[0][:100])
    files = [
        references.uploaded(name, file.data) for name in REFERENCE_MEMBERS for file in form.files.get(name, ())
    ]  # fmt: skip
    masks = form.files.get("mask", ())
    return fields, files, references.uploaded("mask", masks[-1].data) if masks else None


def answer(drawn: Drawn, pictures: Iterable[Picture], receipt: Receipt) -> bytes:
    """OpenAI's answer, with the receipt in a member of its own that official clients keep and ignore."""
    pictures = list(pictures)
    data = [_item(picture) for picture in pictures]
    body: dict[str, Any] = {"created": int(clock.now().timestamp()), "data": data, **drawn.facts}
    formats = [name for name, its in CONTENT_TYPES.items() if {picture.content_type for picture in pictures} == {its}]
    if formats:  # what came, whatever the provider says of it
        body["output_format"] = formats[0]
    body["hypereal"] = {
        "request_id": str(receipt.request_id),
        "model": receipt.model,
        "provider": receipt.provider,
        "attempts": receipt.attempts,
        "images": receipt.units,
        "credits": money.credits_json(receipt.charged_microcredits),
        **({"sandbox": True} if receipt.sandbox else {}),
    }
    return loose_json.encode(body)


def _item(picture: Picture) -> Mapping[str, str]:
    told = {"url": picture.url} if picture.url else {"b64_json": picture.b64}
    return {**told, "revised_prompt": picture.revised_prompt} if picture.revised_prompt else told


def _number(fields: Fields) -> int:
    """How many; more or less than may be asked for is moved to the nearest that may."""
    value = base.member(fields, "n")
    if value is None:
        return 1
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidRequest(f"n must be a whole number from 1 to {MAX_IMAGES}.", param="n")
    return max(1, min(value, MAX_IMAGES))


def _size(fields: Fields) -> str:
    return _left_open(base.text(fields, "size", 20)).lower().replace("*", "x").replace("×", "x")


def _left_open(word: str) -> str:
    return "" if word.casefold() == "auto" else word


def _one_of(fields: Fields, name: str, words: tuple[str, ...]) -> str:
    value = base.text(fields, name, 20)
    if value and value not in words:
        raise InvalidRequest(f"{name} must be one of {', '.join(words)}.", param=name)
    return value


def _finish(fields: Fields) -> Finish:
    """The format of the pictures. It goes on to the provider too, which may know it."""
    wanted = _one_of(fields, "output_format", tuple(CONTENT_TYPES))
    quality = base.member(fields, "output_compression")
    if quality is not None and (isinstance(quality, bool) or not isinstance(quality, int) or not 0 <= quality <= 100):
        raise InvalidRequest("output_compression must be a whole number from 0 to 100.", param="output_compression")
    background = _one_of(fields, "background", _BACKGROUNDS)
    if background == "transparent" and wanted == "jpeg":
        raise InvalidRequest("A JPEG has no transparent background.", param="background")
    return Finish(wanted, USUAL_QUALITY if quality is None else quality)


def _references(fields: Fields) -> list[Source]:
    found: list[Source] = []
    for name in REFERENCE_MEMBERS:
        value = base.member(fields, name)
        if value is None:
            continue
        items = value if isinstance(value, list) else [value]
        if len(items) > references.MOST_REFERENCES:
            raise InvalidRequest(
                f"At most {references.MOST_REFERENCES} reference images may come with a request.", param=name
            )
        found += [_source(name, item) for item in items]
    return found


def _source(name: str, item: Any) -> Source:
    """A URL, bare or in one of the objects that OpenAI's formats put it in."""
    if isinstance(item, Mapping):
        item = item.get("image_url") or item.get("url")
        if isinstance(item, Mapping):
            item = item.get("url")
    if not isinstance(item, str) or not item:
        raise InvalidRequest(f"{name} must be a URL, or a list of URLs.", param=name, code="invalid_reference")
    return references.read(name, item)


def _typed(name: str, value: str) -> Any:
    """A form has only texts: what JSON would have had as a number or a word of its own becomes that."""
    if name in ("n", "output_compression", "partial_images") and _WHOLE.fullmatch(value.strip()):
        return int(value)
    if value in ("true", "false") and name == "stream":
        return value == "true"
    return value

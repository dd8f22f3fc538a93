"""Every model of the catalog against every rule that a body can break: 400 with the field, and nothing reserved."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import pytest

from catalog import media, source
from catalog.entries import ModelEntry, PriceEntry
from catalog.pricing import unit_ceiling
from core.errors import InvalidRequest
from media import videos
from tests.fakes.video_apis import serving
from tests.fakes.video_tasks import Ark
from tests.support.gateway import CREDIT, Gateway
from tests.videos.models import generate, serve
from tests.videos.targets import POINT

CATALOG: Final = source.read()
MODELS: Final = {slug: model for slug, model in CATALOG.models.items() if "videos" in model.endpoints}
URL: Final = "https://example.com/a.png"
NOBODY: Final = UUID(int=1)


def entry_of(slug: str) -> ModelEntry:
    model = MODELS[slug]
    assert model.price is not None
    return ModelEntry(
        id=NOBODY,
        slug=slug,
        name=model.name,
        vendor=model.vendor,
        endpoints=model.endpoints,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        media=media.parse(model.media),
        price=PriceEntry(NOBODY, 1, model.price.rates),
    )


def body_of(entry: ModelEntry, **more: Any) -> dict[str, Any]:
    """A body that the model takes, with ``more``."""
    allowed = entry.media.references
    pictures = {"image_urls": [URL] * allowed.minimum} if allowed and allowed.minimum else {}
    return {"model": entry.slug, "prompt": "a cat on the moon", **pictures, **more}


def broken(entry: ModelEntry) -> Iterator[tuple[str, dict[str, Any], str]]:
    """What is wrong, the body, the field that is to be named."""
    rules = entry.media
    allowed = rules.references
    yield "no prompt", body_of(entry, prompt=""), "prompt"
    yield "blank prompt", body_of(entry, prompt="  \n"), "prompt"
    yield "prompt no text", body_of(entry, prompt=["a"]), "prompt"
    yield "endless prompt", body_of(entry, prompt="x" * (videos.MOST_PROMPT_CHARACTERS + 1)), "prompt"
    yield "half a character", body_of(entry, prompt="\ud83d"), "prompt"
    yield "both names", body_of(entry, intent="text-to-video"), "intent"
    yield "strange ratio", body_of(entry, aspect_ratio="17:3"), "aspect_ratio"
    yield "ratio no text", body_of(entry, aspect_ratio=1.77), "aspect_ratio"
    yield "strange resolution", body_of(entry, resolution="333P"), "resolution"
    yield "resolution no text", body_of(entry, resolution=720), "resolution"
    words: list[Any] = [0, -5, True, 2.5, "five", [], {}, 99_999]
    for word in words:
        yield f"duration {word!r}", body_of(entry, duration=word), "duration"
    if rules.durations is not None:
        for seconds in {
            rules.durations.maximum + 1,
            rules.durations.minimum - 1,
            max(rules.durations.choices, default=0) + 1,
        }:
            if not rules.durations.allows(seconds):
                yield f"duration {seconds}", body_of(entry, duration=seconds), "duration"
    for rule in rules.only:
        yield from wrong_together(entry, rule)
    most = allowed.maximum if allowed else 0
    yield "too many pictures", body_of(entry, image_urls=[URL] * (most + 1)), "image_urls"
    yield "far too many", body_of(entry, image_urls=[URL] * 40), "image_urls"
    yield "pictures no list", body_of(entry, image_urls=URL), "image_urls"
    yield "picture no text", body_of(entry, image_urls=[5]), "image_urls"
    yield "image a list", body_of(entry, image=[URL]), "image"
    yield "a file", body_of(entry, image_urls=["file:///etc/passwd"]), "image_urls"
    yield "plain http", body_of(entry, image_urls=["http://example.com/a.png"]), "image_urls"
    yield "svg", body_of(entry, image_urls=["data:image/svg+xml;base64,PHN2Zy8+"]), "image_urls"
    yield "no base64", body_of(entry, image_urls=["data:image/png;base64,!!!"]), "image_urls"
    yield "webhook no text", body_of(entry, webhookUrl=5), "webhookUrl"
    if allowed and allowed.minimum:
        yield "no picture", body_of(entry, image_urls=[]), "image_urls"
    if not rules.last_image:
        yield (
            "last picture",
            body_of(entry, image_urls=[URL], last_image_url=URL),
            "last_image_url" if allowed else "image_urls",
        )
    else:
        yield "last picture alone", body_of(entry, last_image_url=URL), "image"
        if most > 1:
            yield "last of many", body_of(entry, image_urls=[URL, URL], last_image_url=URL), "image_urls"


def lengths_of(entry: ModelEntry) -> list[int]:
    """Every length that the model offers in some case."""
    durations = entry.media.durations
    assert durations is not None
    return list(durations.choices) or list(range(durations.minimum, durations.maximum + 1))


def wrong_together(entry: ModelEntry, rule: media.Only) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Choices that the model offers, but not with one another."""
    for seconds in set(lengths_of(entry)) - set(rule.durations):
        for resolution in rule.resolutions or ("",):
            for pictures in rule.pictures or (entry.media.references.minimum if entry.media.references else 0,):
                more = {"resolution": resolution} if resolution else {}
                body = body_of(entry, duration=str(seconds), **more, image_urls=[URL] * pictures)
                yield f"{seconds} s at {resolution} with {pictures} pictures", body, "duration"


@pytest.mark.parametrize("slug", sorted(MODELS))
def test_every_broken_rule_names_its_field(slug: str) -> None:
    entry, seen = entry_of(slug), 0
    for what, body, param in broken(entry):
        with pytest.raises(InvalidRequest) as caught:
            videos.order_of(entry, videos.read(body))
        assert caught.value.param == param, what
        seen += 1
    assert seen > 30


@pytest.mark.parametrize("slug", sorted(MODELS))
def test_every_choice_that_is_offered_is_taken_and_priced(slug: str) -> None:
    entry = entry_of(slug)
    assert entry.price is not None
    rules, rates = entry.media, entry.price.rates
    pictures = rules.references.minimum if rules.references else 0
    for resolution, tier in rules.resolutions:
        fitting = [rule.durations for rule in rules.only if rule.applies(resolution, pictures)]
        for seconds in set(lengths_of(entry)).intersection(*fitting):
            order, units = videos.order_of(entry, videos.read(body_of(entry, duration=seconds, resolution=resolution)))
            price = dict(rates.unit_prices)[tier]
            assert unit_ceiling(rates, units) == (price * seconds if rates.unit == "second" else price)
            assert (order.duration, order.resolution) == (seconds, resolution)
    for ratio in rules.aspect_ratios:
        assert videos.order_of(entry, videos.read(body_of(entry, aspect_ratio=ratio)))[0].aspect_ratio == ratio


def test_choices_that_providers_do_not_make_together() -> None:
    """As their documents say; and a call that names no length gets one that fits."""
    alone = {slug: entry_of(slug).media.only for slug in MODELS if entry_of(slug).media.only}
    veo = (media.Only((8,), resolutions=("1080P", "4K")), media.Only((8,), pictures=(2, 3)))
    hailuo = (media.Only((6,), resolutions=("1080P",)),)
    assert alone == {
        **dict.fromkeys((slug for slug in MODELS if slug.lower().startswith("veo3.1")), veo),
        "MiniMax-Hailuo-02": hailuo,
        "MiniMax-Hailuo-2.3": hailuo,
        "kling-video-o1": (media.Only((5, 10), pictures=(0,)),),
    }
    entry = entry_of("veo3.1-fast")
    for more in ({"resolution": "1080p"}, {"image_urls": [URL, URL]}):
        assert videos.order_of(entry, videos.read(body_of(entry, **more)))[0].duration == 8
    with pytest.raises(InvalidRequest, match=r"no clip of 6 seconds at 1080P\. It offers: 8\.") as caught:
        videos.order_of(entry, videos.read(body_of(entry, duration=6, resolution="1080p")))
    assert caught.value.extra == {"available_durations": [8]}
    assert videos.order_of(entry, videos.read(body_of(entry, duration=6, image=URL)))[0].duration == 6


def test_who_is_paid_by_the_clip_and_what_is_the_default() -> None:
    by_clip = {slug for slug in MODELS if entry_of(slug).price.rates.unit == "clip"}  # type: ignore[union-attr]
    assert by_clip == {slug for slug in MODELS if slug.lower().startswith(("gemini_omni", "veo", "vidu", "grok"))}
    for slug in MODELS:
        order, _ = videos.order_of(entry_of(slug), videos.read(body_of(entry_of(slug))))
        assert order.resolution == "720P", slug
    assert entry_of("gemini_omni_flash").media.aspect_ratios == ("16:9", "9:16")


def test_small_words_and_numbers_as_texts_are_understood() -> None:
    entry = entry_of("veo3.1-fast")
    order, _ = videos.order_of(entry, videos.read(body_of(entry, duration="8", resolution="1080p", image=POINT)))
    assert (order.duration, order.resolution, order.images) == (8, "1080P", (POINT,))
    order, _ = videos.order_of(entry, videos.read(body_of(entry, image={"url": URL}, last_image_url=URL)))
    assert (order.images, order.last_image) == ((URL,), URL)


HOSTILE: Final[list[tuple[str, Any]]] = [
    ("image_urls", ["https://127.0.0.1/a.png"]),
    ("image_urls", ["https://169.254.169.254/latest/meta-data"]),
    ("image_urls", ["https://[::1]/a.png"]),
    ("image_urls", ["https://10.0.0.8/a.png"]),
    ("image_urls", ["https://user:pw@example.com/a.png"]),
    ("image_urls", ["https://1.1.1.1:8443/a.png"]),
    ("image_urls", ["https://2130706433/a.png"]),
    ("last_image_url", "https://127.0.0.1/a.png"),
    ("webhookUrl", "https://127.0.0.1/hook"),
    ("webhookUrl", "http://1.1.1.1/hook"),
    ("webhookUrl", "https://metadata.google.internal:80/hook"),
]


def test_what_breaks_a_rule_reserves_nothing_at_the_door(gateway: Gateway) -> None:
    with serving(Ark()) as api:
        model, caller = serve(gateway, api), gateway.caller()
        for param, value in HOSTILE:
            more = {"image_urls": [POINT]} if param == "last_image_url" else {}
            reply = generate(caller, model, **{**more, param: value})
            assert (reply.status, reply.error["param"]) == (400, param), value
        for body in (b"", b"[]", b"{", b"null", b'{"model": 5}'):
            reply = caller.send("POST", "/v1/videos/generate", body)
            assert reply.status == 400
            assert reply.error["type"] == "invalid_request_error"
        choices: dict[str, Any] = {"duration": 11, "aspect_ratio": "4:3", "resolution": "4K", "prompt": ""}
        for field, choice in choices.items():
            reply = generate(caller, model, **{field: choice})
            assert (reply.status, reply.error["param"]) == (400, field)
        reply = generate(caller, model, duration=10, resolution="1080P")  # each is offered, but not together
        assert (reply.status, reply.error["param"], reply.json["error"]["available_durations"]) == (
            400, "duration", [5, 7, 8]
        )  # fmt: skip
        books = caller.books()
        assert (books.balance, books.held, books.holds) == (1000 * CREDIT, 0, [])
        assert not api.asked


def test_a_refusal_lists_what_is_offered() -> None:
    entry = entry_of("veo3.1-fast")
    with pytest.raises(InvalidRequest) as caught:
        videos.order_of(entry, videos.read(body_of(entry, duration=5)))
    assert caught.value.extra == {"available_durations": [4, 6, 8]}
    assert json.dumps(caught.value.extra)

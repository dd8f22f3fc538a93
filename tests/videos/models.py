"""Models of clips behind servers of a test, asked through the real gateway, their jobs stepped as a worker does."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from django.db import transaction

from catalog import live
from catalog.models import Provider, Target
from catalog.pricing import Rates
from jobs.models import Job
from tests.fakes.video_apis import VideoApi
from tests.support import jobs as stepping
from tests.support.gateway import CREDIT, Caller, Gateway
from tests.support.http import Reply
from tests.videos.targets import PROVIDERS, model_of

#: Credits a second, and for a clip.
SECOND: Final = {"720P": 10, "1080P": 15}
CLIP: Final = {"720P": 100, "1080P": 120}
MEDIA: Final[dict[str, Any]] = {
    "aspect_ratios": ["16:9", "9:16", "1:1"],
    "default_aspect_ratio": "16:9",
    "resolutions": {"720P": "720P", "1080P": "1080P"},
    "default_resolution": "720P",
    "durations": {"min": 3, "max": 10, "default": 5},
    "references": {"kinds": ["https", "data"], "max": 2},
    "last_image": True,
    "only": [{"when": {"resolutions": ["1080P"]}, "durations": [5, 7, 8]}],
}


def rates_of(unit: str, credits: dict[str, int]) -> Rates:
    """A price of so many credits a unit, by resolution."""
    return Rates(unit=unit, unit_prices=tuple((tier, price * CREDIT) for tier, price in credits.items()))


def serve(gateway: Gateway, *apis: VideoApi, unit: str = "second", **options: Any) -> str:
    """A model whose chain are these servers, each with the catalog's own description of it; its id."""
    rates = rates_of(unit, SECOND if unit == "second" else CLIP)
    addresses = [api.base_url + api.prefix for api in apis]
    with transaction.atomic():  # no gateway may see it half made
        slug = gateway.new_model(*addresses, rates=rates, kind="videos", media=MEDIA)
        for target, api in zip(Target.objects.filter(model__slug=slug).order_by("position"), apis, strict=True):
            provider = Provider.objects.get(pk=target.provider_id)
            provider.adapter = api.adapter
            provider.options = {**PROVIDERS[api.provider].get("options", {}), **options}
            provider.set_secret(api.secret)
            provider.save()
            target.upstream_model = model_of(api)
            target.save()
    gateway.until_known(slug)
    live.forget()
    return slug


def generate(caller: Caller, model: str, headers: dict[str, str] | None = None, /, **body: Any) -> Reply:
    """A submission."""
    asked = {"model": model, "prompt": "a white cube rotates", **body}
    return caller.send("POST", "/api/v1/videos/generate", asked, **(headers or {}))


def submitted(caller: Caller, model: str, **body: Any) -> UUID:
    """The id of a job that was taken on."""
    reply = generate(caller, model, **body)
    assert reply.status == 202, reply.body
    return UUID(reply.json["jobId"])


def drive(job_id: UUID) -> Job:
    """A worker's steps until nothing is left to do."""
    return stepping.drive(job_id)


def polled(caller: Caller, job_id: UUID) -> dict[str, Any]:
    """What the caller sees."""
    reply = caller.send("GET", f"/api/v1/jobs/{job_id}")
    assert reply.status == 200
    seen: dict[str, Any] = reply.json
    return seen


def paid(caller: Caller, rows: int = 1) -> int:
    """Credits charged in all; wallet, log, ledger and the key's month agree, and nothing is held any more."""
    books = caller.books()
    assert len(books.log) == rows
    assert books.held == books.meter_held == 0
    assert "pending" not in books.holds
    assert books.charged == 1000 * CREDIT - books.balance == books.spent == books.rolled_up
    return books.charged // CREDIT

"""From a checked request for a clip to its job: where its addresses lead, what is reserved, what is kept with it."""

from __future__ import annotations

from uuid import UUID

from django.conf import settings

from catalog import pricing
from catalog.entries import ModelEntry, PriceEntry
from catalog.pricing import Units
from core.errors import InvalidRequest
from jobs import submitting
from jobs.models import Job
from keys.auth import KeyFacts
from media import references
from media.videos import VideoAsk, VideoOrder
from usage.items import Claim, Replay
from webhooks import rules as webhook_rules


def reserved(entry: ModelEntry, units: Units) -> int:
    """Microcredits that the job holds: exactly its price. Raises InvalidRequest for a tier without one."""
    try:
        return pricing.unit_ceiling(_price(entry).rates, units)
    except pricing.NotPriced:
        raise InvalidRequest(
            f"{entry.slug} has no price for what is asked.", param="model", code="model_not_priced"
        ) from None


def submit(
    key: KeyFacts, entry: ModelEntry, ask: VideoAsk, order: VideoOrder, units: Units, claim: Claim | None, job_id: UUID
) -> Job | Replay:
    """Reserve and queue the job, or the stored answer of an Idempotency-Key. Synchronous Django.

    Where its addresses lead is looked at first. Raises InvalidRequest with ``param``, and what refuses a reservation;
    nothing is reserved then.
    """
    references.check([*ask.images, *([ask.last_image] if ask.last_image else [])])
    webhook_url = webhook_rules.url(ask.webhook_url, param="webhookUrl") if ask.webhook_url else ""
    price = _price(entry)
    kept = {
        **order.as_input(),
        "unit": price.rates.unit,
        "tier": units.tier,
        "quantity": units.quantity,
        "unit_microcredits": price.rates.unit_price(units.tier),
    }
    return submitting.submit(
        key,
        kind=ask.kind,
        model=entry.slug,
        price_id=price.id,
        reserved_microcredits=reserved(entry, units),
        input=kept,
        deadline_seconds=settings.VIDEO_JOB_SECONDS,
        job_id=job_id,
        sandbox=entry.sandboxed,
        webhook_url=webhook_url,
        claim=claim,
    )


def _price(entry: ModelEntry) -> PriceEntry:
    assert entry.price is not None  # resolve finds no other
    return entry.price

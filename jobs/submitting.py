"""How a job begins: its credits are reserved and its row is written in one transaction, or neither is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
from django.db import transaction
from django.db.models.functions import Now

from core import clock, faults
from core.storable import storable
from idempotency import replay
from idempotency.models import StoredAnswer
from jobs import kinds, lifecycle, serving
from jobs.models import Job
from keys.auth import KeyFacts
from usage import metering
from usage.items import Admit, Claim, Refused, Replay

#: What a submission is answered with.
ACCEPTED = 202


def submit(
    key: KeyFacts,
    *,
    kind: str,
    model: str,
    price_id: UUID | None,
    reserved_microcredits: int,
    input: Mapping[str, Any],
    deadline_seconds: float,
    job_id: UUID,
    sandbox: bool = False,
    webhook_url: str = "",
    claim: Claim | None = None,
    min_balance_microcredits: int = 0,
) -> Job | Replay:
    """Reserve ``reserved_microcredits`` and queue the job; or the stored answer where ``claim`` was used before.

    ``job_id`` is the request's id: asked again with it (an answer got lost), the job that is there is returned. The
    answer that a claim stores is `serving.accepted`. Raises the ProductError of a refused reservation, which reserves
    nothing, and LookupError for a kind that nobody declared.
    """
    kinds.kind_of(kind)
    admission = Admit(
        hold_id=job_id,
        workspace_id=key.workspace_id,
        key_id=key.id,
        amount_microcredits=reserved_microcredits,
        owner_id=None,
        endpoint=kind,
        model=model,
        price_id=price_id,
        min_balance_microcredits=min_balance_microcredits,
        claim=claim,
    )
    now = clock.now()
    row = Job(
        id=job_id,
        workspace_id=key.workspace_id,
        key_id=key.id,
        key_name=key.name,
        user_id=key.user_id,
        kind=kind,
        model=model,
        price_id=price_id,
        reserved_microcredits=reserved_microcredits,
        input=storable(input),
        sandbox=sandbox,
        webhook_url=webhook_url,
        created_at=now,
        run_after=now,
        deadline_at=now + timedelta(seconds=deadline_seconds),
    )
    with transaction.atomic():
        result = metering.apply_now(admission)
        if not isinstance(result, Refused | Replay):
            row = _written(row, deadline_seconds, claim)
    # Outside: a refusal may have noted that a limit is reached, which must stay.
    if isinstance(result, Refused):
        raise result.error()
    faults.point("job.submitted")
    return result if isinstance(result, Replay) else row


def _written(row: Job, deadline_seconds: float, claim: Claim | None) -> Job:
    if (earlier := Job.objects.filter(pk=row.pk).first()) is not None:
        return earlier
    row.save(force_insert=True)
    # By the database's clock, as leases are.
    Job.objects.filter(pk=row.pk).update(run_after=Now(), deadline_at=Now() + timedelta(seconds=deadline_seconds))
    if claim is not None:
        StoredAnswer.objects.filter(request_id=row.pk).update(
            status=ACCEPTED,
            content_type="application/json",
            sealed_body=replay.seal(msgspec.json.encode(serving.accepted(row))),
        )
    lifecycle.wake(row, 0.0)
    faults.point("job.submitting")
    return row

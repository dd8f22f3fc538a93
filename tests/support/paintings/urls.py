"""The gateway's addresses and one more, that submits a painting."""

from __future__ import annotations

import json
from functools import partial

from django.urls import path

from gateway import engine, job_views
from gateway.endpoints import endpoint
from gateway.request import Answer, GatewayRequest
from hypereal_site.urls_gateway import urlpatterns as _usual
from idempotency import replay
from jobs import submitting
from usage.items import Claim


@endpoint("POST", kind="paintings")
async def paint(request: GatewayRequest) -> Answer:
    await engine.count(request)
    asked = json.loads(request.body)
    name, claim = replay.presented(request.raw_headers), None
    if name is not None:
        hashes = replay.hashes(name, "POST", request.path, request.body)
        claim = Claim(hashes.key, hashes.request, False)
    submit = partial(
        submitting.submit,
        request.key,
        kind="paintings",
        model="painter-1",
        price_id=None,
        reserved_microcredits=10_000_000,
        input={"plan": asked["plan"]},
        deadline_seconds=asked.get("seconds", 600),
        job_id=request.id,
        claim=claim,
    )
    return job_views.submitted(await job_views.made(request, submit))


urlpatterns = [*_usual, path("paintings", paint)]

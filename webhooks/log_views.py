"""The log of deliveries, and one delivery with everything that was said."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from core import clock, errors, ids
from events import audit
from orgs.access import MemberRequest, requires
from orgs.permissions import Permission
from webhooks import deliveries, reading, signing, wording
from webhooks.models import Attempt, Delivery, Endpoint


@require_GET
@never_cache
@requires(Permission.WEBHOOKS_READ)
def own_deliveries(request: MemberRequest) -> HttpResponse:
    """What was sent to addresses that calls brought with them."""
    context = {"may_write": Permission.WEBHOOKS_WRITE in request.access.permissions}
    context |= log_context(request, None, reverse("webhook_deliveries"))
    return render(request, "webhooks/own.html", context)


@require_GET
@never_cache
@requires(Permission.WEBHOOKS_READ)
def delivery(request: MemberRequest, delivery_id: UUID) -> HttpResponse:
    """What was sent, and what came of each attempt."""
    row = reading.delivery(request.access, delivery_id)
    attempts = reading.attempts(row)
    context = {
        "row": _shown(row, attempts[::-1]),
        "message_id": signing.message_id(row.message_id),
        "attempts": attempts,
        "body": _pretty(row) if reading.may_see_data(request.access, row.message.event) else None,
        "may_write": Permission.WEBHOOKS_WRITE in request.access.permissions,
        "may_send": row.endpoint is None or row.endpoint.enabled,
        "waits": _is_soon(row),
    }
    return render(request, "webhooks/delivery.html", context)


@require_POST
@never_cache
@requires(Permission.WEBHOOKS_WRITE)
def replay(request: MemberRequest, delivery_id: UUID) -> HttpResponse:
    """Send it once more."""
    row = reading.delivery(request.access, delivery_id)
    try:
        deliveries.replay(row, actor=audit.actor_of(request))
    except errors.Conflict as error:
        messages.warning(request, error.message)
    else:
        messages.success(request, _("It is sent again, under the same id."))
    return HttpResponseRedirect(reverse("webhook_delivery", args=[row.pk]))


def log_context(request: MemberRequest, endpoint: Endpoint | None, path: str) -> dict[str, Any]:
    """What the table of deliveries shows: to ``endpoint``, or (None) to addresses that calls brought with them."""
    wrong = ""
    try:
        filters = reading.Filters.of(request.GET.get("state", ""), request.GET.get("event", ""))
    except errors.InvalidRequest as error:
        filters, wrong = reading.Filters(), error.message
    page = reading.deliveries(request.access, endpoint, filters, before=ids.parse(request.GET.get("before", "")))
    older = {**filters.as_query(), "before": str(page.older)} if page.older else None
    return {
        "path": path,
        "log": [_shown(row, row.made) for row in page.rows],  # type: ignore[attr-defined]
        "filters": filters,
        "wrong": wrong,
        "states": Delivery.State.choices,
        "events": list(wording.EVENT_TEXTS),
        "older": f"{path}?{urlencode(older)}" if older else "",
        "newer": f"{path}?{urlencode(filters.as_query())}" if "before" in request.GET else "",
        "here": request.get_full_path() if request.method == "GET" else path,
        "waits": any(_is_soon(row) for row in page.rows),
    }


def _is_soon(row: Delivery) -> bool:
    """Whether something is about to happen, so that the page looks again by itself."""
    return row.state == Delivery.State.WAITING and (row.run_after - clock.now()).total_seconds() < 10


def _shown(row: Delivery, made: list[Attempt]) -> dict[str, Any]:
    """A row of the table; ``made`` are its attempts, the oldest first."""
    tone, icon = wording.STATE_LOOKS[row.state]
    return {
        "delivery": row,
        "event": row.message.event,
        "words": wording.EVENT_TEXTS.get(row.message.event, ""),
        "tone": tone,
        "icon": icon,
        "attempts": len(made),
        "last": made[-1] if made else None,
        "next_at": row.run_after if row.state == Delivery.State.WAITING else None,
    }


def _pretty(row: Delivery) -> str:
    return json.dumps(json.loads(deliveries.body_of(row.message)), indent=2, ensure_ascii=False)

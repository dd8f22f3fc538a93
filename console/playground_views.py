"""``/playground``: models tried in the browser, with the workspace's own wallet, over the API that programs call.

The page gets a key of an hour for itself (`keys.internal`). It keeps it in memory, so a new page asks for a new one.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.http import HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from catalog import live
from console import playground
from core import errors
from keys import internal
from orgs.access import MemberRequest, requires
from orgs.permissions import Permission

KEY_LASTS: Final = timedelta(hours=1)


@require_GET
@never_cache
@requires(Permission.KEYS_WRITE)
def page(request: MemberRequest) -> HttpResponse:
    """The page. Whoever may make keys may spend by hand what a key could spend."""
    offered = playground.offered(live.current())
    context = {
        "formats": playground.FORMATS,
        "offered": offered,
        "config": {
            "models": offered,
            "keyUrl": reverse("playground_key"),
            "siteUrl": settings.SITE_URL,
            "texts": _texts(),
        },
    }
    return render(request, "console/playground.html", context)


@require_POST
@never_cache
@requires(Permission.KEYS_WRITE)
def key(request: MemberRequest) -> HttpResponse:
    """A key for this page alone."""
    try:
        issued = internal.mint(request, request.access.workspace, request.user, name="Playground", lasts=KEY_LASTS)
    except errors.RateLimited as error:
        return JsonResponse({"message": error.message}, status=429, headers=error.headers)
    answer = JsonResponse({"key": issued.secret, "seconds": int(KEY_LASTS.total_seconds())}, status=201)
    answer["Cache-Control"] = "no-store"
    return answer


def _texts() -> dict[str, Any]:
    """What the page's script says."""
    return {
        "you": _("You"),
        "likely": _("About {likely} credits, {reserved} reserved"),
        "exactly": _("{likely} credits"),
        "charged": _("{charged} credits charged"),
        "released": _("{released} given back"),
        "sandbox": _("from the sandbox"),
        "receipt": _("Receipt"),
        "working": _("Working…"),
        "queued": _("Waiting for its turn…"),
        "running": _("Being made: {progress} %"),
        "stopped": _("Stopped."),
        "stopping": _("The provider is being asked to stop. You pay only for what it bills, or nothing."),
        "job": _("The job"),
        "cancelled": _("Cancelled."),
        "failed": _("It did not work: {message}"),
        "offline": _("The server can't be reached."),
        "badExtra": _("More parameters must be a JSON object."),
        "noText": _("The answer holds no text."),
        "download": _("Download"),
        "settling": _("The charge is being settled…"),
    }

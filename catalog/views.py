"""The public price list."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe

from catalog import endpoints, live, pricelist

LONGEST_QUERY = 100

FILTERS = (
    ("", _("All")),
    (endpoints.CHAT, _("Chat")),
    (endpoints.MESSAGES, _("Messages")),
    (endpoints.RESPONSES, _("Responses")),
    (endpoints.GEMINI, _("Gemini")),
    (endpoints.EMBEDDINGS, _("Embeddings")),
    (endpoints.IMAGES, _("Images")),
    (endpoints.VIDEOS, _("Videos")),
    (endpoints.AUDIO, _("Audio")),
)


@require_safe
def price_list(request: HttpRequest) -> HttpResponse:
    """``/models``: every model with its price, the vendor's list price beside; anybody may read it.

    ``endpoint`` keeps one endpoint kind, ``q`` the models that match all its words. htmx gets the list alone.
    """
    endpoint = request.GET.get("endpoint", "")
    if endpoint not in endpoints.KINDS:
        endpoint = ""
    query = request.GET.get("q", "").strip()[:LONGEST_QUERY]
    groups = pricelist.groups(live.current(), endpoint, query)
    context = {
        "groups": groups,
        "count": sum(len(group.rows) for group in groups),
        "filters": FILTERS,
        "endpoint": endpoint,
        "query": query,
    }
    fragment = request.headers.get("HX-Request") and not request.headers.get("HX-History-Restore-Request")
    response = render(request, "catalog/_list.html" if fragment else "catalog/models.html", context)
    patch_vary_headers(response, ["HX-Request"])
    return response

"""The public price list."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils.cache import patch_vary_headers
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe

from catalog import endpoints, live, pricelist
from catalog.entries import Snapshot

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
    (endpoints.GPU, _("GPU")),
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
    models = _list(endpoint, query)
    if request.headers.get("HX-Request") and not request.headers.get("HX-History-Restore-Request"):
        response = HttpResponse(models)
    else:
        context = {"endpoint": endpoint, "query": query, "list": models}
        response = render(request, "catalog/models.html", context)
    patch_vary_headers(response, ["HX-Request"])
    return response


def _list(endpoint: str, query: str) -> SafeString:
    """Filters and tables. Whole lists are kept until the catalog changes; a search is written for itself alone."""

    def write(snapshot: Snapshot) -> str:
        groups = pricelist.groups(snapshot, endpoint, query)
        context = {
            "groups": groups,
            "count": sum(len(group.rows) for group in groups),
            "filters": FILTERS,
            "endpoint": endpoint,
            "query": query,
        }
        return render_to_string("catalog/_list.html", context)

    html = write(live.current()) if query else live.made((endpoint, get_language()), write)
    return mark_safe(html)  # noqa: S308 - output of a template

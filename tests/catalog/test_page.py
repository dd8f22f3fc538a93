"""The public price list at /models (C-CHAT-5, C-BILL-6)."""

from __future__ import annotations

import re
from html import unescape

import pytest
from django.core.exceptions import SynchronousOnlyOperation
from django.test import Client
from pytest_django import Settings

from catalog import live, source
from catalog.models import Model, Provider

pytestmark = pytest.mark.django_db


def codes(html: str) -> list[str]:
    """The ids that the copy buttons hold, in order."""
    return re.findall(r'data-copy="([^"]+)"', html)


def test_it_works_for_anybody(client: Client, loaded: source.CatalogSource) -> None:
    response = client.get("/models")
    assert response.status_code == 200
    html = response.content.decode()
    assert set(codes(html)) == {slug for slug, entry in loaded.models.items() if entry.endpoints}
    assert client.post("/models").status_code == 405


def test_it_shows_the_price_with_the_list_price_beside(client: Client, loaded: source.CatalogSource) -> None:
    html = re.sub(r"<[^>]+>|\s+", " ", client.get("/models", {"q": "gpt-5.5 instant"}).content.decode())
    text = " ".join(unescape(html).split())
    assert "gpt-5.5-instant" in text
    assert "List price 500 450" in text
    assert "List price 3,000 2,700" in text
    assert "Estimated price" in text
    assert "Above 272,000 input tokens" in text


SEARCHES: list[tuple[dict[str, str], set[str]]] = [
    ({"endpoint": "messages"}, {"claude-opus-4-6", "claude-sonnet-4-6", "claude-haiku-4-5"}),
    ({"endpoint": "audio", "q": "clone"}, {"audio-clone"}),
    ({"q": "claude-3-5-haiku-20241022"}, {"claude-haiku-4-5"}),  # by alias
    ({"q": "SEEDREAM"}, {"doubao-seedream-4-0", "doubao-seedream-4-5", "doubao-seedream-5-0"}),
    ({"endpoint": "audio", "q": "cloning"}, {"audio-clone"}),  # by capability
    ({"q": "no such model"}, set()),
]


def test_it_filters_and_searches(client: Client, loaded: source.CatalogSource) -> None:
    for query, ids in SEARCHES:
        assert set(codes(client.get("/models", query).content.decode())) == ids, query


def test_nothing_found_says_so(client: Client) -> None:
    assert "No model matches" in client.get("/models", {"q": "zzz"}).content.decode()


def test_what_was_searched_is_escaped(client: Client) -> None:
    html = client.get("/models", {"q": '"><script>x</script>', "endpoint": "<b>"}).content.decode()
    assert "<script>x" not in html


def test_htmx_gets_the_list_alone(client: Client) -> None:
    response = client.get("/models", {"q": "claude"}, headers={"HX-Request": "true"})
    html = response.content.decode()
    assert html.lstrip().startswith('<div id="model-list"')
    assert "<html" not in html
    assert "HX-Request" in response["Vary"]
    restored = client.get("/models", headers={"HX-Request": "true", "HX-History-Restore-Request": "true"})
    assert "<html" in restored.content.decode()


def test_an_unserved_and_a_sandboxed_model_are_marked(
    client: Client, loaded: source.CatalogSource, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for provider in Provider.objects.exclude(secret_env=""):
        monkeypatch.delenv(provider.secret_env, raising=False)
    settings.SANDBOX_BASE_URL = "http://127.0.0.1:9/v1"
    assert "Sandbox" in client.get("/models", {"q": "gpt-5.5"}).content.decode()
    settings.SANDBOX_BASE_URL = ""
    live.forget()
    assert "Not connected" in client.get("/models", {"endpoint": "videos"}).content.decode()


def test_a_model_without_a_price_is_shown_as_such(client: Client) -> None:
    acme = Provider.objects.create(slug="acme", name="Acme", adapter="openai", base_url="https://a.example")
    Model.objects.create(slug="later", name="Later", vendor=acme, endpoints=["chat"])
    assert "No price yet" in client.get("/models").content.decode()


async def test_no_event_loop_waits_for_the_pages_catalog() -> None:
    """Also not where it is still fresh: a few seconds later it would be read from the database."""
    with pytest.raises(SynchronousOnlyOperation):
        live.current()

"""References that the gateway fetches itself: where they may lead, how large, and what they must be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from core.errors import InvalidRequest
from media import references
from tests.fakes import upstream as fake
from tests.fakes.upstream import Conversation, Upstream
from tests.images.provider import PICTURE
from upstreams.images import Source


@pytest.fixture(scope="module")
def server() -> Iterator[Upstream]:
    with fake.running() as running:
        yield running


@pytest.fixture
def allowed(server: Upstream, settings: Any) -> Upstream:
    """The operator vouches for that one server; plain HTTP is fine there."""
    settings.EGRESS_ALLOW = [f"reference_image=127.0.0.1:{server.port}"]
    return server


def lies_at(server: Upstream, body: bytes = PICTURE, status: int = 200, location: str = "") -> str:
    """The address of a file, or of something that leads on to another address."""

    async def behave(talk: Conversation) -> None:
        headers = {"location": location.replace("{itself}", route.base_url)} if location else {}
        await talk.json(body, status, {"content-type": "image/png", **headers})

    route = server.serve(behave)
    return f"{route.base_url}/a.png"


def load(url: str) -> Source:
    return references.load(Source("image_urls", "https", url=url))


def test_a_picture_is_fetched_and_known_by_its_bytes(allowed: Upstream) -> None:
    loaded = load(lies_at(allowed))
    assert (loaded.data, loaded.content_type) == (PICTURE, "image/png")


def test_an_address_may_lead_on(allowed: Upstream) -> None:
    assert load(lies_at(allowed, b"", 302, lies_at(allowed))).data == PICTURE


@pytest.mark.parametrize(
    ("status", "location"),
    [
        (302, "https://169.254.169.254/latest/meta-data/"),
        (301, "http://8.8.8.8/a.png"),
        (307, "file:///etc/passwd"),
        (302, "{itself}/again"),
        (404, ""),
        (302, ""),
    ],
    ids=["metadata", "plain", "file", "loop", "missing", "nowhere"],
)
def test_what_leads_elsewhere_is_not_fetched(allowed: Upstream, status: int, location: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        load(lies_at(allowed, b"", status, location))
    assert caught.value.param == "image_urls"
    assert caught.value.code == "invalid_reference"


@pytest.mark.parametrize("body", [b"<svg/>", b"<html>", b"", b"%PDF-1.7"], ids=["svg", "html", "nothing", "pdf"])
def test_what_is_no_picture_is_refused(allowed: Upstream, body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        load(lies_at(allowed, body))


def test_more_than_is_allowed_is_refused(allowed: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "MOST_BYTES", len(PICTURE) - 1)
    with pytest.raises(InvalidRequest):
        load(lies_at(allowed))


def test_nobody_else_may_be_asked(server: Upstream, settings: Any) -> None:
    settings.EGRESS_ALLOW = []
    with pytest.raises(InvalidRequest):
        load(lies_at(server))


@pytest.mark.parametrize(
    "value",
    ["data:image/png,raw", "data:image/png;base64,", "data:;base64,####", "data:image/svg+xml;base64,PHN2Zy8+"],
    ids=["not-base64", "empty", "garbage", "svg"],
)
def test_data_urls_that_hold_no_picture(value: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        references.read("image", value)
    assert caught.value.param == "image"


def test_a_data_url_beyond_the_bound_is_not_even_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "MOST_BYTES", 30)
    monkeypatch.setattr(references, "decoded", None)  # calling it would fail differently
    with pytest.raises(InvalidRequest):
        references.read("image", "data:image/png;base64," + "A" * 60)

"""Signed addresses, names that somebody meant ill with, and what bytes are taken for."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from core import clock, ids
from storage import links, names, sniffing
from tests.storage import files


def token_of(url: str) -> str:
    return urlsplit(url).path.split("/")[2]


def test_an_address_opens_its_file_until_it_ends(settings: Any) -> None:
    settings.SITE_URL = "https://hypereal.example"
    identifier, now = ids.uuid7(), clock.now()
    url = links.url(identifier, "a b.png", seconds=3600, now=now)
    assert url.startswith("https://hypereal.example/files/")
    assert url.endswith("/a%20b.png")
    found = links.read(token_of(url), now=now)
    assert found is not None
    assert found[0] == identifier
    assert 3600 <= found[1] - now.timestamp() <= 3600 + 301
    assert links.read(token_of(url), now=now + timedelta(seconds=3599)) is not None
    assert links.read(token_of(url), now=now + timedelta(seconds=3902)) is None


def test_an_address_is_the_same_for_a_few_minutes() -> None:
    identifier = ids.uuid7()
    now = clock.now().replace(minute=1, second=0)
    assert links.url(identifier, "a", now=now) == links.url(identifier, "a", now=now + timedelta(seconds=60))


def test_no_bit_of_a_token_can_be_changed() -> None:
    token = token_of(links.url(ids.uuid7(), "a", seconds=3600))
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    for position in range(len(raw)):
        forged = bytearray(raw)
        forged[position] ^= 1
        assert links.read(base64.urlsafe_b64encode(bytes(forged)).rstrip(b"=").decode()) is None


@pytest.mark.parametrize("token", ["", "x", "é", "=", "A" * 60, "A" * 5000, "../../etc/passwd"])
def test_what_is_no_token_opens_nothing(token: str) -> None:
    assert links.read(token) is None


def test_another_installation_s_address_opens_nothing(settings: Any) -> None:
    token = token_of(links.url(ids.uuid7(), "a", seconds=3600))
    settings.SECRET_KEY = "another" * 8
    assert links.read(token) is None


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("photo.png", "photo.png"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\photo.png", "photo.png"),
        ("a\r\nSet-Cookie: x=y.png", "aSet-Cookie_ x=y.png"),
        ("evil\u202egnp.exe", "evilgnp.exe"),
        ('a"b<c>.png', "a_b_c_.png"),
        (".htaccess", "htaccess"),
        ("..", "file.png"),
        ("", "file.png"),
        ("\0\0", "file.png"),
        ("تصویر.png", "تصویر.png"),
        ("e\u0301.png", "é.png"),
        (" . a . ", "a"),
    ],
)
def test_names_are_harmless(given: str, kept: str) -> None:
    assert names.clean(given, "image/png") == kept


@pytest.mark.parametrize("given", ["x" * 5000 + ".png", "ä" * 5000 + ".png", "." * 5000 + "png", "x" * 5000])
def test_names_are_short(given: str) -> None:
    kept = names.clean(given)
    assert 0 < len(kept.encode()) <= 200
    assert kept.endswith("png") == given.endswith("png")


def test_a_name_can_not_break_out_of_its_header() -> None:
    header = names.disposition('a";\r\n%41 é.png', inline=False)
    assert header == "attachment; filename=\"a_____41 _.png\"; filename*=UTF-8''a%22%3B%0D%0A%2541%20%C3%A9.png"
    assert unquote(header.partition("''")[2]) == 'a";\r\n%41 é.png'


@pytest.mark.parametrize(
    ("head", "media_type"),
    [
        (files.PNG, "image/png"),
        (files.JPEG, "image/jpeg"),
        (files.GIF, "image/gif"),
        (files.WEBP, "image/webp"),
        (files.AVIF, "image/avif"),
        (files.MP4, "video/mp4"),
        (files.MOV, "video/quicktime"),
        (files.WEBM, "video/webm"),
        (files.M4A, "audio/mp4"),
        (files.MP3, "audio/mpeg"),
        (files.MP3_BARE, "audio/mpeg"),
        (files.OGG, "audio/ogg"),
        (files.FLAC, "audio/flac"),
        (files.WAV, "audio/wav"),
        (files.PDF, "application/pdf"),
        (files.ZIP, "application/zip"),
        (files.HTML, sniffing.UNKNOWN),
        (files.SVG, sniffing.UNKNOWN),
        (files.XML, sniffing.UNKNOWN),
        (files.JS, sniffing.UNKNOWN),
        (b"\n\n  " + files.HTML, sniffing.UNKNOWN),
        (b"\xef\xbb\xbf" + files.SVG, sniffing.UNKNOWN),
        (b"#!/bin/sh\n", sniffing.UNKNOWN),
        (b"MZ" + b"\0" * 60, sniffing.UNKNOWN),
        (b"plain words", sniffing.UNKNOWN),
        (b"", sniffing.UNKNOWN),
    ],
    ids=lambda value: value if isinstance(value, str) else value[:12].hex() or "empty",
)
def test_bytes_say_what_they_are(head: bytes, media_type: str) -> None:
    for claimed in ("", "text/html", "image/svg+xml", "image/png"):
        assert sniffing.content_type(head, claimed) == media_type


def test_a_claim_decides_only_where_a_container_holds_either() -> None:
    assert sniffing.content_type(files.WEBM, "audio/webm;codecs=opus") == "audio/webm"
    assert sniffing.content_type(files.WEBM, "audio/mp4") == "video/webm"
    assert sniffing.content_type(files.PNG, "audio/webm") == "image/png"
    assert sniffing.claim_for("audio", "", "video/webm") == "audio/webm"
    assert sniffing.claim_for("image", "", "video/webm") == "video/webm"

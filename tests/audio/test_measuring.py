"""Recordings measured on their bytes, and hostile ones."""

from __future__ import annotations

import contextlib
import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.media import MediaRules
from catalog.pricing import Units
from core.errors import InvalidRequest
from gateway import multipart
from media import adts, audio, webm
from tests.support import sounds
from upstreams.audio import AAC, FLAC, MP3, MP4, OGG, WAV, WEBM, container_of


@pytest.mark.parametrize(("data", "container", "seconds"), [
    (sounds.wav(10.0), WAV, 10.0),
    (sounds.wav(0.5, 44_100), WAV, 0.5),
    (sounds.mp3(5.0), MP3, 5.0),
    (sounds.adts(5.0), AAC, 5.0),
    (sounds.webm(5), WEBM, 5.0),
    (sounds.webm(5, named=True), WEBM, 5.0),
], ids=["wav", "wav of another rate", "mp3", "aac", "webm", "webm named"])  # fmt: skip
def test_lengths(data: bytes, container: object, seconds: float) -> None:
    found = audio.measured(data, "audio")
    assert found.container is container
    assert found.seconds == pytest.approx(seconds, abs=0.07)


def test_a_flac_is_measured() -> None:
    info = struct.pack(">HH", 4096, 4096) + bytes(6) + ((44_100 << 44) | (1 << 41) | (15 << 36) | 441_000).to_bytes(8)
    flac = b"fLaC" + b"\x80\x00\x00\x22" + info + bytes(16)
    assert container_of(flac) is FLAC
    assert audio.measured(flac, "audio").seconds == pytest.approx(10.0)


def test_a_header_that_promises_less_than_there_is_changes_nothing() -> None:
    """A frame count of one in front of ten minutes of sound."""
    xing = b"\xff\xfb\x90\x00" + bytes(32) + b"Xing" + struct.pack(">II", 1, 1)
    forged = xing + bytes(417 - len(xing)) + sounds.mp3(600)
    assert audio.measured(forged, "audio").seconds > 200


def test_a_recorder_that_could_not_go_back_to_its_header() -> None:
    streamed = bytearray(sounds.wav(3.0))
    streamed[40:44] = b"\xff\xff\xff\xff"
    assert audio.measured(bytes(streamed), "audio").seconds == pytest.approx(3.0, abs=0.01)


def test_cover_pictures_are_no_sound() -> None:
    picture = 200_000
    size = bytes([picture >> 21 & 0x7F, picture >> 14 & 0x7F, picture >> 7 & 0x7F, picture & 0x7F])
    tagged = b"ID3\x04\x00\x00" + size + bytes(picture) + sounds.mp3(3.0)
    assert audio.measured(tagged, "audio").seconds == pytest.approx(3.0, abs=0.1)


@pytest.mark.parametrize("data", [
    b"", b"RIFF", b"RIFF\x00\x00\x00\x00WAVE", b"OggS" + bytes(100), b"fLaC" + bytes(3), b"\x00\x00\x00\x18ftypM4A ",
    b"\x1aE\xdf\xa3", b"\x1aE\xdf\xa3" + b"\xff" * 100, b"\xff\xf1" + b"\xff" * 50, b"ID3" + b"\xff" * 30,
    b"FORM\x00\x00\x00\x00AIFF", b"<svg/>", b"PK\x03\x04", sounds.wav(0),
])  # fmt: skip
def test_what_tells_no_length_is_refused_clearly(data: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        audio.measured(data, "audio")
    assert refused.value.param == "audio"


def test_the_largest_file() -> None:
    with pytest.raises(InvalidRequest, match="at most 26214400"):
        audio.measured(bytes(audio.MOST_RECORDING_BYTES + 1), "file")


_HEADS = [sounds.wav(0.1), sounds.mp3(0.1), sounds.adts(0.1), sounds.webm(1), b"OggS", b"fLaC", bytes(4) + b"ftypM4A "]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(_HEADS), st.integers(0, 2**32), st.binary(max_size=400))
def test_mangled_files_are_measured_or_refused(head: bytes, seed: int, tail: bytes) -> None:
    """Never another error, and never a length that is none."""
    chance, data = random.Random(seed), bytearray(head + tail)
    for _ in range(chance.randrange(8)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    try:
        found = audio.measured(bytes(data[: chance.randrange(1, len(data) + 1)]), "audio")
    except InvalidRequest:
        return
    assert 0 < found.seconds < float("inf")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=600))
def test_our_own_parsers_end(data: bytes) -> None:
    assert adts.seconds(data) >= 0
    with contextlib.suppress(ValueError, struct.error):  # what `measured` takes for unreadable
        assert isinstance(webm.seconds(b"\x1aE\xdf\xa3\x80" + data), float)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_form_is_read_or_refused(body: bytes) -> None:
    try:
        form = multipart.read(b"multipart/form-data; boundary=x", b"--x\r\n" + body)
    except InvalidRequest:
        return
    assert len(form.digest()) == 32


def test_equal_forms_have_equal_digests() -> None:
    def form(boundary: str, *members: tuple[str, str]) -> multipart.Form:
        parts = [f'--{boundary}\r\ncontent-disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in members]
        kind = f"multipart/form-data; boundary={boundary}".encode()
        return multipart.read(kind, ("".join(parts) + f"--{boundary}--\r\n").encode())

    one, other = form("a", ("model", "m"), ("text", "t")), form("another", ("text", "t"), ("model", "m"))
    assert one.digest() == other.digest()
    assert one.digest() != form("a", ("model", "mt"), ("text", "")).digest()
    assert form("a", ("x[]", "1"), ("x[]", "2")).digest() != form("a", ("x[]", "2"), ("x[]", "1")).digest()


@pytest.mark.parametrize(("unit", "text", "units"), [
    ("request", "Grüße", 1), ("character", "Grüße", 5), ("byte", "Grüße", 7), ("character", "好" * 10, 10),
])  # fmt: skip
def test_what_texts_count_as(unit: str, text: str, units: int) -> None:
    assert audio.units_of_text(unit, text) == Units(units)


@pytest.mark.parametrize(("seconds", "units"), [(0.01, 1), (1.0, 1), (1.0000001, 1), (1.01, 2), (59.999, 60)])
def test_begun_seconds(seconds: float, units: int) -> None:
    assert audio.units_of_recording("second", seconds) == Units(units)
    assert audio.units_of_recording("request", seconds) == Units(1)


def test_rules_on_texts() -> None:
    rules = MediaRules(max_text_bytes=6)
    audio.check_text(rules, "Grüß", "text")
    for bad in ("", " \n", "Grüße", "\ud83d"):
        with pytest.raises(InvalidRequest) as refused:
            audio.check_text(rules, bad, "input")
        assert refused.value.param == "input"


def test_kinds_are_told_apart() -> None:
    assert container_of(b"OggS" + bytes(100)) is OGG
    assert container_of(b"\x00\x00\x00\x18ftypM4A ") is MP4
    assert container_of(b'{"error": {}}') is None
    assert container_of(b"\x89PNG\r\n\x1a\n") is None

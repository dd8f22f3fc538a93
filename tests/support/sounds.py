"""Audio files made on the spot: silence in several containers, of a length that is known."""

from __future__ import annotations

import io
import struct
import wave

_MP3_FRAME = b"\xff\xfb\x90\x00" + b"\x00" * 413
_MP3_FRAME_SECONDS = 1152 / 44_100


def wav(seconds: float, hertz: int = 8_000) -> bytes:
    """One channel, 16 bits."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(hertz)
        writer.writeframes(b"\x00\x00" * round(seconds * hertz))
    return file.getvalue()


def mp3(seconds: float) -> bytes:
    """Frames of 128 kbit/s; their whole number is the next above ``seconds``."""
    return _MP3_FRAME * (int(seconds / _MP3_FRAME_SECONDS) + 1)


def adts(seconds: float, hertz_index: int = 4, hertz: int = 44_100) -> bytes:
    """Frames of bare AAC."""
    size = 100
    head = bytes([0xFF, 0xF1, 1 << 6 | hertz_index << 2, 0x80 | size >> 11, size >> 3 & 0xFF, (size & 7) << 5, 0xFC])
    return (head + bytes(size - 7)) * (int(seconds * hertz / 1024) + 1)


def webm(seconds: float, *, named: bool = False) -> bytes:
    """A cluster a second, as a browser's recorder writes it: no lengths, no duration unless ``named``."""
    info = _element("2AD7B1", (1_000_000).to_bytes(3))
    if named:
        info += _element("4489", struct.pack(">d", seconds * 1000))
    clusters = b""
    for second in range(int(seconds)):
        blocks = b"".join(
            _element("A3", b"\x81" + struct.pack(">h", milliseconds) + b"\x80sound")
            for milliseconds in range(0, 1000, 60)
        )
        clusters += _element("1F43B675", _element("E7", (second * 1000).to_bytes(4)) + blocks, unknown=True)
    return _element("1A45DFA3", b"") + _element("18538067", _element("1549A966", info) + clusters, unknown=True)


def _element(name: str, content: bytes, *, unknown: bool = False) -> bytes:
    length = b"\x01" + b"\xff" * 7 if unknown else struct.pack(">Q", 1 << 56 | len(content))
    return bytes.fromhex(name) + length + content

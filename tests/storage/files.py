"""Small files whose first bytes say what they are. The picture is a whole one."""

from __future__ import annotations

import struct
import zlib


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int = 2, height: int = 2, colour: bytes = b"\x20\x60\xc0") -> bytes:
    """A picture in one colour."""
    rows = (b"\0" + colour * width) * height
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def wav(seconds: float = 0.1, rate: int = 8000) -> bytes:
    """Silence."""
    data = b"\x80" * int(seconds * rate)
    form = struct.pack("<HHIIHH", 1, 1, rate, rate, 1, 8)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


PNG = png()
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00" + b"\0" * 40
GIF = b"GIF89a\x01\x00\x01\x00\x00\x00\x00;" + b"\0" * 20
WEBP = b"RIFF\x24\x00\x00\x00WEBPVP8 " + b"\0" * 40
AVIF = b"\0\0\0\x20ftypavif\0\0\0\0avifmif1" + b"\0" * 40
MP4 = b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41" + b"\0" * 40
MOV = b"\0\0\0\x14ftypqt  \0\0\x02\0qt  " + b"\0" * 40
M4A = b"\0\0\0\x20ftypM4A \0\0\x02\0isomiso2" + b"\0" * 40
WEBM = b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01B\xf7\x81\x01B\xf2\x81\x04B\xf3\x81\x08B\x82\x84webmB\x87\x81\x04" + b"\0" * 9
MP3 = b"ID3\x04\x00\x00\x00\x00\x00\x23TSSE" + b"\0" * 40
MP3_BARE = b"\xff\xfb\x90\x64" + b"\0" * 60
OGG = b"OggS\x00\x02" + b"\0" * 40
FLAC = b"fLaC\x00\x00\x00\x22" + b"\0" * 40
WAV = wav()
PDF = b"%PDF-1.4\n1 0 obj\n"
ZIP = b"PK\x03\x04" + b"\0" * 40
HTML = b"<!DOCTYPE html><html><script>document.title = 'ran'</script></html>"
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><script>document.title = 'ran'</script></svg>"
XML = b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>"
JS = b"document.title = 'ran'"

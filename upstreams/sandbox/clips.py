"""A small clip made by hand: H.264 of raw macroblocks in an MP4. Pure, and the same for the same text.

A coder that compresses would be a library; raw macroblocks (I_PCM) are part of the Baseline profile, and what does not
change from picture to picture is skipped, so that a few seconds take some hundred kilobytes. Sections in comments are
of ITU-T H.264 and of ISO/IEC 14496-12 and -15.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from typing import Final

PICTURES_PER_SECOND: Final = 12
_LONGER_SIDE: Final = 192
_BLOCK: Final = 16
_TIMESCALE: Final = 12_000
_I_PCM: Final = 25
_INTRA_IN_P: Final = 5
_FRAME_NUMBERS: Final = 16

Block = tuple[bytes, bytes, bytes]


def clip(text: str, seconds: int, width: int, height: int) -> bytes:
    """An MP4 of that length: a disc that crosses a field of colour, of the shape ``width``:``height``."""
    scale = _LONGER_SIDE / max(width, height)
    size = max(_BLOCK, round(width * scale / 2) * 2), max(_BLOCK, round(height * scale / 2) * 2)
    seed = hashlib.sha256(text.encode("utf-8", "replace")).digest()
    count = max(1, seconds) * PICTURES_PER_SECOND
    samples = list(_samples(seed, size, count))
    return _mp4(samples, size, _parameter_sets(size))


class _Bits:
    """A string of bits, the first one highest."""

    def __init__(self) -> None:
        self._whole = bytearray()
        self._rest = 0
        self._count = 0

    def put(self, value: int, width: int) -> None:
        """``width`` bits."""
        self._rest = self._rest << width | value
        self._count += width
        while self._count >= 8:
            self._count -= 8
            self._whole.append(self._rest >> self._count & 0xFF)
        self._rest &= (1 << self._count) - 1

    def golomb(self, value: int) -> None:
        """ue(v), 9.1."""
        width = (value + 1).bit_length()
        self.put(value + 1, 2 * width - 1)

    def align(self) -> None:
        """Zeros up to the next byte."""
        if self._count:
            self.put(0, 8 - self._count)

    def raw(self, data: bytes) -> None:
        """Whole bytes, where a byte begins."""
        self._whole += data

    def ended(self) -> bytes:
        """With the stop bit, 7.3.2.11."""
        self.put(1, 1)
        self.align()
        return bytes(self._whole)


def _parameter_sets(size: tuple[int, int]) -> tuple[bytes, bytes]:
    """Sequence and picture parameters (7.3.2.1, 7.3.2.2): Baseline, one reference, order of output as decoded."""
    across, down = (-(-side // _BLOCK) for side in size)
    sequence = _Bits()
    sequence.raw(bytes([66, 0xC0, 30]))
    for value in (0, 0, 2, 1):  # id, log2 of frame numbers - 4, type of order, references
        sequence.golomb(value)
    sequence.put(0, 1)
    sequence.golomb(across - 1)
    sequence.golomb(down - 1)
    sequence.put(0b11, 2)
    cut = (across * _BLOCK - size[0]) // 2, (down * _BLOCK - size[1]) // 2
    sequence.put(int(any(cut)), 1)
    if any(cut):
        for value in (0, cut[0], 0, cut[1]):
            sequence.golomb(value)
    sequence.put(0, 1)
    picture = _Bits()
    picture.golomb(0)
    picture.golomb(0)
    picture.put(0, 2)
    for _ in range(3):
        picture.golomb(0)
    picture.put(0, 3)
    for _ in range(3):
        picture.golomb(0)
    picture.put(0b100, 3)  # the deblocking filter can be switched off
    return _unit(7, sequence.ended()), _unit(8, picture.ended())


def _unit(kind: int, payload: bytes) -> bytes:
    """A NAL unit with its emulation prevention (7.4.1)."""
    escaped, zeros = bytearray([3 << 5 | kind]), 0
    for byte in payload:
        if zeros >= 2 and byte <= 3:
            escaped.append(3)
            zeros = 0
        escaped.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes(escaped)


def _samples(seed: bytes, size: tuple[int, int], count: int) -> Iterator[bytes]:
    """One access unit a picture: all of the first, of the others what changed."""
    before: list[Block] = []
    for index in range(count):
        now = _picture(seed, size, index / max(count - 1, 1))
        unit = _slice(now, before, index)
        yield struct.pack(">I", len(unit)) + unit
        before = now


def _slice(blocks: list[Block], before: list[Block], index: int) -> bytes:
    """A slice that is a whole picture (7.3.3, 7.3.4)."""
    first = not before
    bits = _Bits()
    bits.golomb(0)
    bits.golomb(7 if first else 5)
    bits.golomb(0)
    bits.put(index % _FRAME_NUMBERS, 4)
    if first:
        bits.golomb(0)
        bits.put(0, 2)
    else:
        bits.put(0, 3)  # as many references as usual, in their order, marked as usual
    bits.golomb(0)
    bits.golomb(1)
    skipped = 0
    for place, block in enumerate(blocks):
        if not first:
            if block is before[place] or block == before[place]:
                skipped += 1
                continue
            bits.golomb(skipped)
            skipped = 0
        bits.golomb(_I_PCM if first else _I_PCM + _INTRA_IN_P)
        bits.align()
        for plane in block:
            bits.raw(plane)
    if skipped:
        bits.golomb(skipped)
    return _unit(5 if first else 1, bits.ended())


def _picture(seed: bytes, size: tuple[int, int], way: float) -> list[Block]:
    """The macroblocks of one picture, row by row. ``way`` goes from 0 to 1."""
    across, down = (-(-side // _BLOCK) for side in size)
    radius = min(size) * 0.28
    x = radius + way * (size[0] - 2 * radius)
    y = size[1] * (0.35 + seed[0] / 255 * 0.3)
    return [_block(seed, column, row, (x, y, radius)) for row in range(down) for column in range(across)]


def _block(seed: bytes, column: int, row: int, disc: tuple[float, float, float]) -> Block:
    """Background and disc in one macroblock: brightness for each point, colour for each four."""
    x, y, radius = disc
    ground = 60 + (seed[1] + 7 * column + 11 * row) % 90
    left, top = column * _BLOCK, row * _BLOCK
    if not (left - radius < x < left + _BLOCK + radius and top - radius < y < top + _BLOCK + radius):
        return bytes([ground]) * 256, bytes([seed[2] // 2 + 64]) * 64, bytes([seed[3] // 2 + 64]) * 64
    bright, one, other = bytearray(), bytearray(), bytearray()
    for point in range(256):
        dx, dy = left + point % 16 - x, top + point // 16 - y
        inside = dx * dx + dy * dy <= radius * radius
        bright.append(225 if inside else ground)
        if point % 2 == 0 and point // 16 % 2 == 0:
            one.append((seed[4] if inside else seed[2]) // 2 + 64)
            other.append((seed[5] if inside else seed[3]) // 2 + 64)
    return bytes(bright), bytes(one), bytes(other)


# ── The file (ISO/IEC 14496-12) ──────────────────────────────────────────────────────────────────────────────────────
def _box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _full(kind: bytes, *parts: bytes, flags: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", flags), *parts)


_MATRIX: Final = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)


def _mp4(samples: list[bytes], size: tuple[int, int], sets: tuple[bytes, bytes]) -> bytes:
    """The head before the samples, so that playing begins before all has come."""
    head = _box(b"ftyp", b"isom", struct.pack(">I", 512), b"isomiso2avc1mp41")
    length = len(_moov(samples, size, sets, 0))
    return head + _moov(samples, size, sets, len(head) + length + 8) + _box(b"mdat", *samples)


def _moov(samples: list[bytes], size: tuple[int, int], sets: tuple[bytes, bytes], offset: int) -> bytes:
    ticks = len(samples) * (_TIMESCALE // PICTURES_PER_SECOND)
    movie = _full(
        b"mvhd", struct.pack(">4I", 0, 0, _TIMESCALE, ticks), struct.pack(">IH10x", 0x10000, 0x100), _MATRIX,
        bytes(24), struct.pack(">I", 2),
    )  # fmt: skip
    track = _full(
        b"tkhd", struct.pack(">5I", 0, 0, 1, 0, ticks), bytes(8), struct.pack(">4H", 0, 0, 0, 0), _MATRIX,
        struct.pack(">2I", size[0] << 16, size[1] << 16), flags=3,
    )  # fmt: skip
    media = _box(
        b"mdia",
        _full(b"mdhd", struct.pack(">4I2H", 0, 0, _TIMESCALE, ticks, 0x55C4, 0)),
        _full(b"hdlr", bytes(4), b"vide", bytes(12), b"video\0"),
        _box(
            b"minf",
            _full(b"vmhd", bytes(8), flags=1),
            _box(b"dinf", _full(b"dref", struct.pack(">I", 1), _full(b"url ", flags=1))),
            _table(samples, size, sets, offset),
        ),
    )
    return _box(b"moov", movie, _box(b"trak", track, media))


def _table(samples: list[bytes], size: tuple[int, int], sets: tuple[bytes, bytes], offset: int) -> bytes:
    sequence, picture = sets
    configuration = _box(
        b"avcC", bytes([1, *sequence[1:4], 0xFF, 0xE1]), struct.pack(">H", len(sequence)), sequence,
        struct.pack(">BH", 1, len(picture)), picture,
    )  # fmt: skip
    entry = _box(
        b"avc1", bytes(6), struct.pack(">H", 1), bytes(16), struct.pack(">2H", *size),
        struct.pack(">2I4xH", 0x480000, 0x480000, 1), bytes(32), struct.pack(">Hh", 24, -1), configuration,
    )  # fmt: skip
    return _box(
        b"stbl",
        _full(b"stsd", struct.pack(">I", 1), entry),
        _full(b"stts", struct.pack(">3I", 1, len(samples), _TIMESCALE // PICTURES_PER_SECOND)),
        _full(b"stss", struct.pack(">2I", 1, 1)),
        _full(b"stsc", struct.pack(">4I", 1, 1, len(samples), 1)),
        _full(b"stsz", struct.pack(">2I", 0, len(samples)), struct.pack(f">{len(samples)}I", *map(len, samples))),
        _full(b"stco", struct.pack(">2I", 1, offset)),
    )

"""The length of bare AAC (ADTS frames), which names no length anywhere: its frames are counted. Pure."""

from __future__ import annotations

from typing import Final

_HERTZ: Final = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
_SAMPLES_A_BLOCK: Final = 1024
_HEADER_BYTES: Final = 7
#: Four hours at 48 kHz; what has more is made to keep a reader busy.
_MOST_FRAMES: Final = 700_000


def seconds(data: bytes) -> float:
    """How long the frames last, up to the first that is none. ISO/IEC 13818-7, 6.2."""
    place, total = 0, 0.0
    for _ in range(_MOST_FRAMES):
        if place + _HEADER_BYTES > len(data):
            break
        if data[place] != 0xFF or data[place + 1] & 0xF6 != 0xF0:
            break
        rate = data[place + 2] >> 2 & 0x0F
        size = (data[place + 3] & 0x03) << 11 | data[place + 4] << 3 | data[place + 5] >> 5
        if rate >= len(_HERTZ) or size < _HEADER_BYTES:
            break
        blocks = (data[place + 6] & 0x03) + 1
        total += blocks * _SAMPLES_A_BLOCK / _HERTZ[rate]
        place += size
    return total

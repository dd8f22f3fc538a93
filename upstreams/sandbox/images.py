"""OpenAI's images: pictures of this project's own making, the same for the same words and size.

Each is a PNG of sixteen colours: a mirrored pattern over a sky, with a strip that says what it is. Made with zlib
alone, large ones too: rows that repeat cost next to nothing.
"""

from __future__ import annotations

import asyncio
import base64
import colorsys
import hashlib
import re
import struct
import zlib
from typing import Any, Final

from upstreams import loose_json
from upstreams.sandbox.plans import count_tokens
from upstreams.sandbox.server import Stream, Whole

MOST_PICTURES: Final = 10
MOST_SIDE: Final = 4096
_SECONDS: Final = 0.8
_SIZE: Final = re.compile(r"([1-9]\d{2,3})x([1-9]\d{2,3})")
_RATIO: Final = re.compile(r"([1-9]\d?):([1-9]\d?)")
#: Pixels of a square picture's side, by the word for its resolution.
_SIDES: Final = {"0.5K": 512, "1K": 1024, "2K": 2048, "4K": 4096}
_COLUMNS, _ROWS = 8, 8  # of the pattern's left half
_SKY = 8  # colours of the background, from the top down; behind them come four of the pattern, ink and paper
_INK, _PAPER = 14, 15
#: The strip's letters, five rows each.
_LETTERS: Final = {
    "S": ("###", "#..", "###", "..#", "###"),
    "A": (".#.", "#.#", "###", "#.#", "#.#"),
    "N": ("#..#", "##.#", "#.##", "#..#", "#..#"),
    "D": ("##.", "#.#", "#.#", "#.#", "##."),
    "B": ("##.", "#.#", "##.", "#.#", "##."),
    "O": ("###", "#.#", "#.#", "#.#", "###"),
    "X": ("#.#", "#.#", ".#.", "#.#", "#.#"),
}
_WORD: Final = tuple(".".join(rows) for rows in zip(*(_LETTERS[letter] for letter in "SANDBOX"), strict=True))


class Endpoint:
    """Answers ``POST …/images/generations``. ``speed`` 1 takes a moment, 0 none."""

    def __init__(self, speed: float = 1.0) -> None:
        self._seconds = _SECONDS / speed if speed > 0 else 0.0

    async def answer(self, body: bytes) -> Whole | Stream:
        """The pictures as base64; a fault in the request gets OpenAI's 400."""
        try:
            request = loose_json.decode(body)
        except ValueError:
            return _fault("We could not parse the JSON body of your request.")
        if not isinstance(request, dict) or not isinstance(request.get("model"), str) or not request["model"]:
            return _fault("you must provide a model parameter", "model")
        prompt, number = request.get("prompt"), request.get("n", 1)
        if not isinstance(prompt, str) or not prompt:
            return _fault("you must provide a prompt", "prompt")
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MOST_PICTURES:
            return _fault(f"'n' must be a whole number from 1 to {MOST_PICTURES}.", "n")
        sides = _sides(request)
        if sides is None:
            return _fault("'size' must be WIDTHxHEIGHT.", "size")
        await asyncio.sleep(self._seconds)
        seed = repr([prompt, request.get("image")])
        pictures = [await asyncio.to_thread(png, f"{seed}{place}", *sides) for place in range(number)]
        tokens = count_tokens(prompt)
        made = number * 1056
        return Whole({
            "created": 0,
            "model": f"sandbox/{request['model']}",
            "size": f"{sides[0]}x{sides[1]}",
            "background": "opaque",
            "output_format": "png",
            "data": [{"b64_json": base64.b64encode(picture).decode()} for picture in pictures],
            "usage": {
                "input_tokens": tokens,
                "input_tokens_details": {"text_tokens": tokens, "image_tokens": 0},
                "output_tokens": made,
                "total_tokens": tokens + made,
            },
        })  # fmt: skip


def png(seed: str, width: int, height: int) -> bytes:
    """A picture of that size in pixels; the width is rounded up to an even number."""
    width += width % 2
    digest = hashlib.sha512(seed.encode("utf-8", "replace")).digest()
    strip = max(height // 12, 12)
    pattern = [_pattern_row(digest, row) for row in range(_ROWS)]
    rows: list[bytes] = []
    known: dict[tuple[int, int], bytes] = {}
    for y in range(height - strip):
        place = (y * _SKY // (height - strip), y * (_ROWS + 2) // (height - strip) - 1)
        if place not in known:
            cells = pattern[place[1]] if 0 <= place[1] < _ROWS else [-1] * (2 * _COLUMNS)
            known[place] = _line([place[0] if cell < 0 else _SKY + cell for cell in cells], width)
        rows.append(known[place])
    rows += _strip(width, strip)
    raw = b"".join(b"\0" + row for row in rows)
    return b"".join((
        b"\x89PNG\r\n\x1a\n",
        _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 4, 3, 0, 0, 0)),
        _chunk(b"PLTE", _palette(digest)),
        _chunk(b"tEXt", b"Comment\0Made by the sandbox"),
        _chunk(b"IDAT", zlib.compress(raw, 1)),
        _chunk(b"IEND", b""),
    ))  # fmt: skip


def _pattern_row(digest: bytes, row: int) -> list[int]:
    """One row of the pattern, mirrored: a colour of four, or -1 where the sky shows."""
    half = [digest[(row * _COLUMNS + column) % len(digest)] for column in range(_COLUMNS)]
    cells = [value % 4 if value >= 128 else -1 for value in half]
    return cells + cells[::-1]


def _line(cells: list[int], width: int) -> bytes:
    """Cells side by side as one row of four bits a pixel."""
    pixels = [cells[x * len(cells) // (width // 2)] for x in range(width // 2)]
    return bytes(colour << 4 | colour for colour in pixels)


def _strip(width: int, height: int) -> list[bytes]:
    """Paper with the word on it, as large as fits."""
    scale = max(2, min(height // 7, width // (len(_WORD[0]) + 2)) // 2 * 2)
    blank = bytes([_PAPER << 4 | _PAPER]) * (width // 2)
    above = max(0, (height - 5 * scale) // 2)
    lines = [blank] * above
    for letters in _WORD:
        inked = b"".join(
            bytes([colour << 4 | colour]) * (scale // 2)
            for colour in (_INK if mark == "#" else _PAPER for mark in letters)
        )[: width // 2]
        before = (width // 2 - len(inked)) // 2
        lines += [blank[:before] + inked + blank[: width // 2 - before - len(inked)]] * scale
    return (lines + [blank] * height)[:height]


def _palette(digest: bytes) -> bytes:
    hue = digest[0] / 256
    colours = [colorsys.hsv_to_rgb(hue, 0.25 + 0.05 * step, 0.95 - 0.07 * step) for step in range(_SKY)]
    colours += [colorsys.hsv_to_rgb((hue + 0.35 + 0.12 * step) % 1, 0.75, 0.9) for step in range(4)]
    colours += [(0.0, 0.0, 0.0)] * (_INK - len(colours)) + [(0.1, 0.1, 0.12), (0.98, 0.98, 0.96)]
    return b"".join(bytes(round(255 * part) for part in colour) for colour in colours)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _sides(request: dict[str, Any]) -> tuple[int, int] | None:
    """Pixels, from ``size`` or from a ratio and a resolution; 1024x1024 where neither is given."""
    size = request.get("size")
    if size not in (None, "", "auto"):
        match = _SIZE.fullmatch(size) if isinstance(size, str) else None
        sides = (int(match[1]), int(match[2])) if match else None
        return sides if sides is not None and max(sides) <= MOST_SIDE else None
    side = _SIDES.get(str(request.get("resolution") or "1K"), 1024)
    ratio = _RATIO.fullmatch(str(request.get("aspect_ratio") or "1:1"))
    across, down = (int(ratio[1]), int(ratio[2])) if ratio else (1, 1)
    longer = max(across, down)
    return max(64, side * across // longer), max(64, side * down // longer)


def _fault(message: str, param: str | None = None) -> Whole:
    return Whole({"error": {"message": message, "type": "invalid_request_error", "param": param, "code": None}}, 400)

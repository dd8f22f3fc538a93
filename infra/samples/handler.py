"""The sample worker, image ``hypereal/sample``: a handler for RunPod's worker SDK that shows what a worker can do.

It needs nothing but the SDK, so the same file works as the command of a container on real GPUs. ``input``:

- ``{"mode": "echo", …}`` (or no mode) gives the input back,
- ``{"mode": "sleep", "seconds": 2}`` works that long,
- ``{"mode": "fail", "message": "…"}`` fails,
- ``{"mode": "large", "bytes": 1000000}`` gives a long text,
- ``{"mode": "picture", "prompt": "…", "width": 512, "height": 512}`` paints a picture out of the prompt's words,
- ``{"mode": "clip", "prompt": "…", "seconds": 5}`` animates one,
- ``{"workflow": {…}}``, as ComfyUI workers take it, gives a picture in a ComfyUI worker's shape.

Environment variables named in ``{"mode": "environment", "names": ["…"]}`` are answered with whether they are set,
never with their values.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import struct
import time
import zlib
from typing import Any

LARGEST_BYTES = 50_000_000
LONGEST_SECONDS = 600.0
LARGEST_SIDE = 1024
CLIP_SIDE = 128
CLIP_FRAMES_PER_SECOND = 4
#: A second of a clip takes this much work here: a long one is seen to take long.
CLIP_WORK_SECONDS = 0.2


def handler(job: dict[str, Any]) -> Any:
    """What the SDK calls for each job. An exception makes the job FAILED."""
    asked = job["input"]
    if "workflow" in asked:
        return _workflow(asked)
    return _MODES.get(str(asked.get("mode", "echo")), _echo)(asked)


def _echo(asked: dict[str, Any]) -> Any:
    return {"echo": asked}


def _sleep(asked: dict[str, Any]) -> Any:
    seconds = min(max(float(asked.get("seconds", 1)), 0.0), LONGEST_SECONDS)
    time.sleep(seconds)
    return {"slept": seconds}


def _fail(asked: dict[str, Any]) -> Any:
    raise RuntimeError(str(asked.get("message", "The sample was asked to fail.")))


def _large(asked: dict[str, Any]) -> Any:
    return {"text": "x" * min(max(int(asked.get("bytes", 1_000_000)), 0), LARGEST_BYTES)}


def _environment(asked: dict[str, Any]) -> Any:
    return {"set": {str(name): str(name) in os.environ for name in asked.get("names", [])}}


def _picture(asked: dict[str, Any]) -> Any:
    width, height = _side(asked.get("width", 512)), _side(asked.get("height", 512))
    return {"images": [_data_url("image/png", png(_words(asked), width, height))]}


def _clip(asked: dict[str, Any]) -> Any:
    seconds = min(max(float(asked.get("seconds", 5)), 1.0), 60.0)
    time.sleep(seconds * CLIP_WORK_SECONDS)
    frames = [
        png(_words(asked), CLIP_SIDE, CLIP_SIDE * 9 // 16, turn=number / CLIP_FRAMES_PER_SECOND)
        for number in range(int(seconds * CLIP_FRAMES_PER_SECOND))
    ]
    return {"videos": [_data_url("image/png", animated(frames, CLIP_FRAMES_PER_SECOND))]}


def _workflow(asked: dict[str, Any]) -> Any:
    """Images in, images out, as ComfyUI workers word it; overrides count as part of the workflow."""
    text = json.dumps([asked.get("workflow"), asked.get("workflow_overrides"), asked.get("prompt")], sort_keys=True)
    taken = [str(image.get("name", "")) for image in asked.get("images", []) if isinstance(image, dict)]
    picture = base64.b64encode(png(text, 256, 256)).decode()
    return {"images": [{"filename": "sample_00001_.png", "type": "base64", "data": picture}], "images_taken": taken}


_MODES = {
    "echo": _echo,
    "sleep": _sleep,
    "fail": _fail,
    "large": _large,
    "environment": _environment,
    "picture": _picture,
    "clip": _clip,
}


# ── Pictures, made of numbers ────────────────────────────────────────────────────────────────────────────────────────
def png(text: str, width: int, height: int, turn: float = 0.0) -> bytes:
    """A PNG of waves whose colours and lengths come of ``text``: the same text, the same picture."""
    seed = hashlib.sha256(text.encode()).digest()
    step = [1 + seed[place] % 7 for place in range(3)]
    across = [[_wave(x / width * step[c] + seed[3 + c] / 40 + turn) for x in range(width)] for c in range(3)]
    rows = bytearray()
    for y in range(height):
        down = [_wave(y / height * step[2 - c] + seed[6 + c] / 40) for c in range(3)]
        row = bytearray(3 * width)
        for c in range(3):
            add = down[c]
            row[c::3] = bytes((value + add) >> 1 for value in across[c])
        rows += b"\0" + row
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(bytes(rows), 6)) + _chunk(b"IEND", b"")


def animated(frames: list[bytes], frames_per_second: int) -> bytes:
    """The pictures one after the other: an animated PNG, which players that know none show as its first picture."""
    header, number = frames[0][len(_SIGNATURE) + 8 : len(_SIGNATURE) + 21], 0
    width, height = struct.unpack(">II", header[:8])
    parts = [_SIGNATURE, _chunk(b"IHDR", header), _chunk(b"acTL", struct.pack(">II", len(frames), 0))]
    for place, frame in enumerate(frames):
        control = struct.pack(">IIIIIHHBB", number, width, height, 0, 0, 1, frames_per_second, 0, 0)
        parts.append(_chunk(b"fcTL", control))
        number += 1
        data = _pixels(frame)
        if place:
            parts.append(_chunk(b"fdAT", struct.pack(">I", number) + data))
            number += 1
        else:
            parts.append(_chunk(b"IDAT", data))
    return b"".join([*parts, _chunk(b"IEND", b"")])


_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def _pixels(picture: bytes) -> bytes:
    """The data of the one IDAT chunk that `png` writes."""
    place = len(_SIGNATURE) + 25
    (size,) = struct.unpack(">I", picture[place : place + 4])
    return picture[place + 8 : place + 8 + size]


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _wave(turns: float) -> int:
    return int(127.5 + 127.5 * math.sin(2 * math.pi * turns))


def _side(value: Any) -> int:
    return min(max(int(value), 16), LARGEST_SIDE)


def _words(asked: dict[str, Any]) -> str:
    return f"{asked.get('prompt', '')}\n{asked.get('seed', 0)}"


def _data_url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


if __name__ == "__main__":
    import runpod

    runpod.serverless.start({"handler": handler})

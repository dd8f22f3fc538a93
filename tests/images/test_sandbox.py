"""The sandbox's pictures: valid, deterministic, marked, and right in size."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import zlib
from typing import Any

import pytest

from upstreams import images, images_openai
from upstreams.images import Order
from upstreams.sandbox.images import Endpoint, png
from upstreams.sandbox.server import Whole
from upstreams.wire import Target, TargetOptions


def chunks(data: bytes) -> dict[bytes, bytes]:
    """The parts of a PNG, each with its checksum looked at."""
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    found, place = {}, 8
    while place < len(data):
        size, name = struct.unpack(">I4s", data[place : place + 8])
        body = data[place + 8 : place + 8 + size]
        assert struct.unpack(">I", data[place + 8 + size : place + 12 + size])[0] == zlib.crc32(name + body)
        found[name] = body
        place += 12 + size
    return found


@pytest.mark.parametrize(("width", "height"), [(64, 64), (1024, 1024), (1536, 1024), (4096, 4096), (576, 1024)])
def test_a_picture_is_a_whole_png_of_its_size(width: int, height: int) -> None:
    found = chunks(png("a red fox", width, height))
    assert struct.unpack(">IIBBBBB", found[b"IHDR"]) == (width, height, 4, 3, 0, 0, 0)
    assert len(zlib.decompress(found[b"IDAT"])) == height * (width // 2 + 1)
    assert b"sandbox" in found[b"tEXt"]
    assert list(found)[-1] == b"IEND"


def test_the_same_words_draw_the_same() -> None:
    assert png("a red fox", 64, 64) == png("a red fox", 64, 64)
    assert png("a red fox", 64, 64) != png("a blue fox", 64, 64)


def answer(**body: Any) -> Whole:
    given = {"model": "m", "prompt": "a red fox", **body}
    found = asyncio.run(Endpoint(0).answer(json.dumps(given).encode()))
    assert isinstance(found, Whole)
    return found


@pytest.mark.parametrize(
    ("asked", "size"),
    [
        ({}, "1024x1024"),
        ({"size": "1536x1024"}, "1536x1024"),
        ({"aspect_ratio": "16:9"}, "1024x576"),
        ({"aspect_ratio": "9:16", "resolution": "0.5K"}, "288x512"),
    ],
    ids=["nothing", "size", "ratio", "resolution"],
)
def test_what_the_adapter_asks_is_what_it_gets(asked: dict[str, Any], size: str) -> None:
    target = Target("sandbox", "openai", "http://127.0.0.1:1", "m", options=TargetOptions(images="json"))
    order = Order(prompt="a red fox", n=2, **asked)
    body = json.loads(images_openai.generation_request(target, order).body)
    drawn = images_openai.read(json.dumps(answer(**body).value).encode())
    pictures = [base64.b64decode(picture.b64) for picture in drawn.pictures]
    assert [images.image_type(picture) for picture in pictures] == ["image/png", "image/png"]
    assert pictures[0] != pictures[1]
    sides = struct.unpack(">II", chunks(pictures[0])[b"IHDR"][:8])
    assert f"{sides[0]}x{sides[1]}" == size
    assert drawn.facts["usage"]["total_tokens"] > 2000


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"model": ""}, "model"), ({"prompt": ""}, "prompt"), ({"n": 11}, "n"), ({"size": "9000x9000"}, "size")],
)
def test_a_faulty_request_gets_the_vendors_400(fields: dict[str, Any], param: str) -> None:
    refused = answer(**fields)
    assert (refused.status, refused.value["error"]["param"]) == (400, param)

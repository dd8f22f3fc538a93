"""Pictures in the format that was asked for, whatever their provider draws in (C-IMG-1)."""

from __future__ import annotations

import base64
import io
from typing import Any

import pytest
from PIL import Image

from media import formats
from media.formats import Finish, NotConverted
from storage.models import StoredObject
from storage.objects import open_bytes
from tests.fakes.upstream import Conversation
from tests.images.provider import PICTURE, ask, draws, gemini, serve
from tests.images.test_answers import GEMINI_MEDIA, GEMINI_RATES
from tests.support.gateway import CREDIT, Gateway
from upstreams.images import image_type


def drawn(mode: str = "RGB", colour: Any = (200, 30, 30), kind: str = "PNG", size: tuple[int, int] = (8, 6)) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, colour).save(out, format=kind)
    return out.getvalue()


@pytest.mark.parametrize("wanted", list(formats.CONTENT_TYPES))
@pytest.mark.parametrize(
    "data",
    [
        drawn(), drawn("L", 9), drawn("P", 3), drawn("RGBA", (1, 2, 3, 4)), drawn("LA", (9, 0)), drawn("I;16", 999),
        drawn("1", 1), drawn("CMYK", (1, 2, 3, 4), "JPEG"), drawn(kind="WEBP"), drawn("P", 3, "GIF"), PICTURE,
    ],
    ids=["rgb", "grey", "palette", "rgba", "grey-alpha", "deep", "bits", "cmyk", "webp", "gif", "own"],
)  # fmt: skip
def test_any_picture_becomes_any_format_and_keeps_its_size(data: bytes, wanted: str) -> None:
    made = Finish(wanted).applied(data)
    assert image_type(made) == formats.CONTENT_TYPES[wanted]
    with Image.open(io.BytesIO(data)) as before, Image.open(io.BytesIO(made)) as after:
        assert before.size == after.size
    assert Finish(wanted).applied(made) is made
    assert Finish().applied(data) is data


def test_what_is_transparent_stays_so_or_becomes_paper() -> None:
    data = drawn("RGBA", (255, 0, 0, 0))
    with Image.open(io.BytesIO(Finish("webp").applied(data))) as kept:
        assert kept.getchannel("A").getextrema() == (0, 0)
    with Image.open(io.BytesIO(Finish("jpeg").applied(data))) as paper:
        assert sum(paper.convert("L").histogram()[:250]) == 0  # no pixel is darker


def test_the_quality_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = io.BytesIO()
    Image.effect_noise((64, 64), 80).save(noise, format="PNG")
    for wanted in ("jpeg", "webp"):
        sizes = [len(Finish(wanted, quality).applied(noise.getvalue())) for quality in (0, 50, 100)]
        assert sizes == sorted(set(sizes))


@pytest.mark.parametrize(
    "data",
    [b"", b"no picture", PICTURE[:60], b"\x89PNG\r\n\x1a\n" + bytes(40), b"GIF89a" + b"\xff" * 20, b"BM" + bytes(60),
     b"%!PS-Adobe-3.0 EPSF\n", drawn(size=(8000, 5001))],
    ids=["nothing", "words", "cut-off", "no-head", "mangled", "other-sort", "a-program", "too-many-pixels"],
)  # fmt: skip
def test_what_can_not_be_read_is_told(data: bytes) -> None:
    with pytest.raises(NotConverted):
        Finish("jpeg").applied(data)


def test_pictures_come_in_the_format_that_was_asked_for(gateway: Gateway) -> None:
    """Google draws PNGs and knows no other; a provider's own address is read, and one that breaks stays as it came."""

    async def linked(talk: Conversation) -> None:
        if talk.seen.path.endswith("/file.png"):
            await talk.json(PICTURE, headers={"content-type": "image/png"})
        else:
            await talk.json({"created": 1, "data": [{"url": f"{route.base_url}/file.png"}], "output_format": "png"})

    caller, route = gateway.caller(), gateway.upstream.serve(linked)
    google = serve(gateway, gemini(), adapter="gemini", media=GEMINI_MEDIA, rates=GEMINI_RATES)
    broken = serve(gateway, draws(b64_json=base64.b64encode(PICTURE[:60]).decode()))
    for model in (google, serve(gateway, draws()), serve(gateway, route)):
        for wanted in ("jpeg", "webp", "png"):
            asked: dict[str, Any] = {"output_format": wanted, "output_compression": 60}
            reply = ask(caller, model, **asked)
            [item] = reply.json["data"]
            row = StoredObject.objects.get(filename=item["url"].rpartition("/")[2])
            with open_bytes(row) as file:
                assert image_type(file.read()) == row.content_type == formats.CONTENT_TYPES[wanted]
            assert reply.json["output_format"] == wanted
            inline = ask(caller, model, response_format="b64_json", **asked).json
            data = base64.b64decode(inline["data"][0]["b64_json"])
            assert (image_type(data), inline["output_format"]) == (formats.CONTENT_TYPES[wanted], wanted)
    reply = ask(caller, broken, output_format="jpeg", response_format="b64_json")
    assert (reply.status, reply.json["output_format"]) == (200, "png")  # what came, not what was asked for
    books = caller.settled_books(19)
    assert (books.charged, StoredObject.objects.filter(workspace=caller.workspace).count()) == (19 * 8 * CREDIT, 9)


def test_what_can_not_be_drawn_is_refused_before_it_costs(gateway: Gateway) -> None:
    caller, route = gateway.caller(), gateway.upstream.serve(draws())
    google = serve(gateway, gemini(), adapter="gemini", media=GEMINI_MEDIA, rates=GEMINI_RATES)
    openai = serve(gateway, route)
    for model, fields, param in (
        (google, {"background": "transparent"}, "background"),
        (openai, {"background": "transparent", "output_format": "jpeg"}, "background"),
        (openai, {"background": "see-through"}, "background"),
        (openai, {"output_format": "gif"}, "output_format"),
        (openai, {"output_compression": 101}, "output_compression"),
        (openai, {"output_compression": "50"}, "output_compression"),
    ):
        reply = ask(caller, model, **fields)
        assert (reply.status, reply.error["param"]) == (400, param), fields
    assert ask(caller, google, background="opaque").status == 200
    assert ask(caller, openai, background="transparent", output_format="png").status == 200
    assert route.seen[-1].body["background"] == "transparent"
    books = caller.settled_books(8)
    assert (books.charged, books.holds) == (16 * CREDIT, ["posted", "posted"])

"""Recordings written down: this gateway's own endpoint and OpenAI's shapes, with the exact sums."""

from __future__ import annotations

import base64
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.audio.conftest import BY_SECOND, PRICE, SECOND, SPEAKS, WRITES, Maker
from tests.fakes import fish
from tests.fakes import upstream as fake
from tests.support import http, sounds
from tests.support.gateway import CREDIT, Caller, Gateway

GENERATIONS = "/api/v1/audio/generations"
TEXT = "Good morning. It rains."
WHISPERED: dict[str, Any] = {
    "task": "transcribe",
    "language": "english",
    "duration": 2.75,
    "text": TEXT,
    "segments": [{"id": 0, "start": 0.0, "end": 2.75, "text": TEXT, "tokens": [50364]}],
    "words": [{"word": "Good", "start": 0.0, "end": 0.4}],
    "usage": {"type": "duration", "seconds": 3},
}


def whispers() -> fake.Behaviour:
    """OpenAI's own transcriptions."""

    async def behave(talk: fake.Conversation) -> None:
        form = fish.form_of(talk.seen.headers, talk.body)
        if not form.files.get("file"):
            await talk.json({"error": {"message": "no file", "param": "file", "type": "invalid_request_error"}}, 400)
            return
        if form.text("response_format") == "verbose_json":
            await talk.json(WHISPERED)
        else:
            await talk.json({"text": TEXT, "usage": {"type": "tokens", "input_tokens": 14, "output_tokens": 6}})

    return behave


def test_a_recording_is_written_down(gateway: Gateway, caller: Caller, audio_model: Maker) -> None:
    route, recording = gateway.upstream.serve(fish.answers()), sounds.wav(2.75)
    model = audio_model(WRITES, route)
    audio = f"data:audio/wav;base64,{base64.b64encode(recording).decode()}"
    reply = caller.send("POST", GENERATIONS, {"model": model, "audio": audio, "language": "en"})
    assert reply.status == 200, reply.body
    assert reply.json == {
        "text": TEXT,
        "duration": 2.75,
        "segments": [
            {"start": 0.0, "end": 1.5, "text": "Good morning."},
            {"start": 1.5, "end": 2.75, "text": "It rains."},
        ],
    }
    asked = route.seen[0]
    assert asked.path.endswith("/v1/asr")
    form = fish.form_of(asked.headers, asked.body)
    assert form.fields == {"ignore_timestamps": ["false"], "language": ["en"]}
    (file,) = form.files["audio"]
    assert (file.filename, file.content_type, file.data) == ("audio.wav", "audio/wav", recording)
    books = caller.settled_books()
    assert (books.transfers, books.balance) == ([PRICE], 1000 * CREDIT - PRICE)
    assert books.log[0]["units"] == 1


@pytest.mark.parametrize(("seconds", "billed"), [(0.2, 1), (2.75, 3), (30.0, 30), (59.9, 60)])
def test_begun_seconds_are_billed(caller: Caller, sdk: OpenAI, audio_model: Maker, seconds: float, billed: int) -> None:
    model = audio_model(WRITES, whispers(), adapter="openai", rates=BY_SECOND)
    written = sdk.audio.transcriptions.create(model=model, file=("a.wav", sounds.wav(seconds)))
    assert written.text == TEXT
    books = caller.settled_books()
    assert books.transfers == [billed * SECOND]
    assert (books.log[0]["units"], books.held) == (billed, 0)


def test_the_official_sdk_gets_what_openai_told(
    gateway: Gateway, sdk: OpenAI, caller: Caller, audio_model: Maker
) -> None:
    route = gateway.upstream.serve(whispers())
    model = audio_model(WRITES, route, adapter="openai")
    written = sdk.audio.transcriptions.create(
        model=model, file=("talk.mp3", sounds.mp3(2.0)), response_format="verbose_json", language="en",
        prompt="A talk on rain.", temperature=0.2, timestamp_granularities=["word", "segment"],
    )  # fmt: skip
    assert (written.text, written.language, written.duration) == (TEXT, "english", 2.75)
    assert written.words is not None
    assert written.words[0].word == "Good"
    form = fish.form_of(route.seen[0].headers, route.seen[0].body)
    assert form.fields == {
        "model": [f"up-{model}"], "response_format": ["verbose_json"], "language": ["en"],
        "prompt": ["A talk on rain."], "temperature": ["0.2"], "timestamp_granularities": ["word", "segment"],
    }  # fmt: skip
    assert form.files["file"][0].filename == "audio.mp3"
    assert caller.settled_books().transfers == [PRICE]


SRT = """1
00:00:00,000 --> 00:00:01,500
Good morning.

2
00:00:01,500 --> 00:00:02,750
It rains.
"""
VTT = """WEBVTT

00:00:00.000 --> 00:00:01.500
Good morning.

00:00:01.500 --> 00:00:02.750
It rains.
"""


@pytest.mark.parametrize(("wanted", "expected"), [("text", TEXT + "\n"), ("srt", SRT), ("vtt", VTT)])
def test_written_formats(sdk: OpenAI, audio_model: Maker, wanted: Any, expected: str) -> None:
    model = audio_model(WRITES, fish.answers())
    file = ("a.wav", sounds.wav(2.75))
    assert sdk.audio.transcriptions.create(model=model, file=file, response_format=wanted) == expected


def test_fish_answers_in_openais_shapes(sdk: OpenAI, audio_model: Maker) -> None:
    model = audio_model(WRITES, fish.answers())
    plain = sdk.audio.transcriptions.create(model=model, file=("a.wav", sounds.wav(2.75)))
    assert plain.text == TEXT
    told = sdk.audio.transcriptions.create(
        model=model, file=("a.wav", sounds.wav(2.75)), response_format="verbose_json"
    )
    assert (told.duration, told.text) == (2.75, TEXT)
    assert told.segments is not None
    assert [(each.id, each.start, each.end, each.text) for each in told.segments] == [
        (0, 0.0, 1.5, "Good morning."), (1, 1.5, 2.75, "It rains."),
    ]  # fmt: skip


def test_a_transcript_without_segments_is_one_cue(sdk: OpenAI, audio_model: Maker) -> None:
    model = audio_model(WRITES, fish.answers(segments=[]))
    told = sdk.audio.transcriptions.create(model=model, file=("a.wav", sounds.wav(3.0)), response_format="srt")
    assert told == f"1\n00:00:00,000 --> 00:00:03,000\n{TEXT}\n"


def test_silence_is_an_answer(caller: Caller, sdk: OpenAI, audio_model: Maker) -> None:
    model = audio_model(WRITES, fish.answers(text="", segments=[]))
    assert sdk.audio.transcriptions.create(model=model, file=("a.wav", sounds.wav(3.0))).text == ""
    assert caller.settled_books().transfers == [PRICE]


def test_translations(gateway: Gateway, caller: Caller, audio_model: Maker) -> None:
    route = gateway.upstream.serve(whispers())
    model = audio_model(WRITES, route, adapter="openai")
    reply = send_form(caller, {"model": model, "language": "de"}, sounds.wav(2.0), "/v1/audio/translations")
    assert (reply.status, reply.json["text"]) == (200, TEXT)
    assert route.seen[0].path.endswith("/audio/translations")
    assert "language" not in fish.form_of(route.seen[0].headers, route.seen[0].body).fields
    untranslated = send_form(
        caller, {"model": audio_model(WRITES, fish.answers())}, sounds.wav(2.0), "/v1/audio/translations"
    )
    assert (untranslated.status, untranslated.error["param"]) == (400, "model")


@pytest.mark.parametrize(("name", "data"), [
    ("m.mp3", sounds.mp3(3)), ("m.aac", sounds.adts(3)), ("m.webm", sounds.webm(3)),
    ("m.webm", sounds.webm(3, named=True)), ("lies.png", sounds.wav(3)),
], ids=["mp3", "aac", "webm", "webm named", "misnamed"])  # fmt: skip
def test_containers(caller: Caller, sdk: OpenAI, audio_model: Maker, name: str, data: bytes) -> None:
    model = audio_model(WRITES, fish.answers(), rates=BY_SECOND)
    assert sdk.audio.transcriptions.create(model=model, file=(name, data)).text == TEXT
    assert caller.settled_books().transfers in ([3 * SECOND], [4 * SECOND])


GRANULARITIES = "timestamp_granularities"
MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "stream": ({"stream": "true"}, "stream"),
    "format": ({"response_format": "diarized_json"}, "response_format"),
    "granularity": (
        {"response_format": "verbose_json", "timestamp_granularities[]": "letter"},
        "timestamp_granularities",
    ),
    "granularities without times": ({"timestamp_granularities[]": "word"}, GRANULARITIES),
    "words": ({"response_format": "verbose_json", "timestamp_granularities[]": "word"}, GRANULARITIES),
    "language": ({"language": "ordinary english"}, "language"),
    "temperature": ({"temperature": "2"}, "temperature"),
    "temperature in words": ({"temperature": "warm"}, "temperature"),
    "log probabilities": ({"include[]": "logprobs"}, "include"),
    "model": ({"model": ""}, "model"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named_and_cost_nothing(gateway: Gateway, caller: Caller, audio_model: Maker, name: str) -> None:
    route = gateway.upstream.serve(fish.answers())
    fields, param = MISTAKES[name]
    reply = send_form(caller, {"model": audio_model(WRITES, route), **fields}, sounds.wav(2))
    assert (reply.status, reply.error["param"]) == (400, param)
    assert (route.calls, caller.settled_books().holds) == (0, [])


def send_form(
    caller: Caller, fields: dict[str, Any], file: bytes | None, path: str = "/v1/audio/transcriptions"
) -> http.Reply:
    """A form as curl sends it."""
    begins = "--frontier\r\ncontent-disposition: form-data; name="
    parts = [f'{begins}"{name}"\r\n\r\n{value}\r\n'.encode() for name, value in fields.items()]
    if file is not None:
        head = b'--frontier\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        parts.append(head + file + b"\r\n")
    body = b"".join(parts) + b"--frontier--\r\n"
    return caller.send("POST", path, body, content_type="multipart/form-data; boundary=frontier")


def test_without_a_recording(caller: Caller, audio_model: Maker) -> None:
    model = audio_model(WRITES, fish.answers())
    missing = send_form(caller, {"model": model}, None)
    assert (missing.status, missing.error["param"]) == (400, "file")
    own = caller.send("POST", GENERATIONS, {"model": model, "text": "not what this is for"})
    assert (own.status, own.error["param"]) == (400, "audio")


def test_json_is_no_form(caller: Caller, audio_model: Maker) -> None:
    model = audio_model(WRITES, fish.answers())
    reply = caller.send("POST", "/v1/audio/transcriptions", b"model=" + model.encode(), content_type="text/plain")
    assert (reply.status, reply.error["param"]) == (400, "Content-Type")


@pytest.mark.parametrize("body", [
    b"", b"--frontier", b"--frontier\r\n\r\n\r\n", b"--other\r\n", b"--frontier--\r\n",
    b'--frontier\r\ncontent-disposition: form-data; name="model"\r\n\r\nx',
    b"--frontier\r\ncontent-disposition: form-data\r\n\r\nx\r\n--frontier--\r\n",
    b'--frontier\r\ncontent-disposition: form-data; name="a"\r\n\r\n\r\n' * 100 + b"--frontier--\r\n",
])  # fmt: skip
def test_broken_forms_are_refused(caller: Caller, body: bytes) -> None:
    reply = caller.send("POST", "/v1/audio/transcriptions", body, content_type="multipart/form-data; boundary=frontier")
    assert (reply.status, reply.error["type"]) == (400, "invalid_request_error")


def test_a_model_that_speaks_does_not_write(sdk: OpenAI, audio_model: Maker) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.audio.transcriptions.create(model=audio_model(SPEAKS, fish.answers()), file=("a.wav", sounds.wav(2)))
    assert refused.value.param == "model"
    assert "/v1/audio/speech" in str(refused.value)


RECORDING = f"data:audio/wav;base64,{base64.b64encode(sounds.wav(2)).decode()}"
#: Answers with a text in them, and times or characters that are none.
ODD_ANSWERS = {
    "half a character": rb'{"text":"Good \ud800.","segments":[{"text":"\udfff","start":0,"end":1}],"usage":"\ud800"}',
    "no numbers": b'{"text":"Good.","duration":NaN,"segments":[{"text":"x","start":NaN,"end":Infinity}]}',
    "no times": b'{"text":"Good.","duration":1e308,"segments":[{"text":"x","start":1e307,"end":1e308}]}',
    "a thousand digits": b'{"text":"Good.","duration":1%s,"segments":[{"text":"x","start":1%s,"end":2}]}'
    % (b"0" * 1000, b"0" * 1000),
    "other sorts": b'{"text":"Good.","duration":true,"segments":[5,{"start":"1"},{"text":{},"start":-1,"end":0}]}',
}  # fmt: skip


@pytest.mark.parametrize("name", ODD_ANSWERS)
def test_a_transcript_is_answered_whatever_stands_beside_it(
    gateway: Gateway, caller: Caller, audio_model: Maker, name: str
) -> None:
    """The words were written down and are paid for: they are told in every shape."""

    async def behave(talk: fake.Conversation) -> None:
        await talk.json(ODD_ANSWERS[name])

    model = audio_model(WRITES, behave)
    for written in ("json", "verbose_json", "text", "srt", "vtt"):
        reply = send_form(caller, {"model": model, "response_format": written}, sounds.wav(2))
        assert (reply.status, b"Good" in reply.body or written in ("srt", "vtt")) == (200, True), reply.body
    own = caller.send("POST", GENERATIONS, {"model": model, "audio": RECORDING})
    assert (own.status, own.json["text"][:4]) == (200, "Good")
    books = caller.settled_books(6)
    assert (books.charged, {row["status"] for row in books.log}) == (6 * PRICE, {200})


def test_a_refusal_with_half_a_character_is_told(caller: Caller, audio_model: Maker) -> None:
    async def behave(talk: fake.Conversation) -> None:
        await talk.json(rb'{"message":"no: https://a\ud800.example/x \udfff","status":400}', 400)

    reply = send_form(caller, {"model": audio_model(WRITES, behave)}, sounds.wav(2))
    assert (reply.status, reply.error["message"].startswith("no: ")) == (400, True)

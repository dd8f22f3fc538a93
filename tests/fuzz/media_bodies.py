"""Bodies for pictures, speech and recordings: JSON as in `tests.fuzz.bodies`, and forms with something wrong."""

from __future__ import annotations

import base64
from typing import Any

from hypothesis import strategies as st

from tests.fuzz.bodies import MODEL, encoded, mutations, values
from tests.support import sounds

BOUNDARY = "frontier"
_SOUND = base64.b64encode(sounds.wav(11)).decode()
_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
_PICTURE = f"data:image/png;base64,{_PIXEL}"

GOOD: dict[str, dict[str, Any]] = {
    "audio/generations": {
        "model": MODEL, "text": "Hello", "voice_id": "alloy", "format": "mp3", "speed": 1.5, "instructions": "Calm.",
        "audio": f"data:audio/wav;base64,{_SOUND}", "reference_text": "Hi", "language": "en", "prompt": "A talk",
        "temperature": 0.5, "intent": "", "hypereal": {"cache": True},
    },
    "audio/speech": {
        "model": MODEL, "input": "Hello", "voice": {"id": "alloy"}, "response_format": "wav", "speed": 1.0,
        "instructions": "Calm.", "stream_format": "audio",
    },
    "audio/transcriptions": {
        "model": MODEL, "file": f"data:audio/wav;base64,{_SOUND}", "language": "en", "prompt": "A talk",
        "response_format": "verbose_json", "temperature": 0.5, "timestamp_granularities": ["segment"], "stream": False,
    },
    "images/generations": {
        "model": MODEL, "prompt": "A fox", "n": 2, "size": "1024x1024", "response_format": "b64_json",
        "quality": "high", "background": "auto", "output_format": "png", "user": "u", "hypereal": {"cache": True},
    },
    "images/edits": {"model": MODEL, "prompt": "A fox", "image": _PICTURE, "n": 1, "size": "1024x1024"},
}  # fmt: skip
#: By path: which members are files where the body is a form, and what is in them.
FILES: dict[str, dict[str, bytes]] = {
    "audio/generations": {"audio": sounds.wav(11)},
    "audio/transcriptions": {"file": sounds.mp3(3)},
    "audio/translations": {"file": sounds.mp3(3)},
    "images/edits": {"image": base64.b64decode(_PIXEL), "mask": base64.b64decode(_PIXEL)},
}
_FIELDS: dict[str, dict[str, str]] = {
    "audio/generations": {"model": MODEL, "text": "Hello", "language": "en", "speed": "1.5"},
    "audio/transcriptions": {"model": MODEL, "language": "en", "response_format": "verbose_json", "temperature": "0.1",
                             "timestamp_granularities[]": "segment"},
    "audio/translations": {"model": MODEL, "prompt": "A talk"},
    "images/edits": {"model": MODEL, "prompt": "A fox", "n": "1", "size": "1024x1024"},
}  # fmt: skip
_words = st.text(max_size=12) | st.sampled_from(
    ["", "0", "-1", "1e400", "null", "true", "[]", "{}", '"x"', "wav", "NaN"]
)


def json_bodies(path: str, without: tuple[str, ...] = ()) -> st.SearchStrategy[bytes]:
    """Mostly good bodies with a few things wrong; ``without`` are members that this model does not take."""
    good = {name: value for name, value in GOOD[path].items() if name not in without}
    loose = st.dictionaries(st.sampled_from(sorted(GOOD[path])), values, max_size=6)
    mutated = mutations(good).map(encoded)
    named = loose.map(lambda made: encoded({"model": MODEL, **made}))
    return st.one_of(st.just(encoded(good)), mutated, mutated, named, values.map(encoded))


@st.composite
def forms(draw: st.DrawFn, path: str) -> bytes:
    """A form whose members and files are good but for some, and whose own form may be broken too."""
    fields, files = dict(_FIELDS[path]), dict(FILES[path])
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from([*fields, *files]) | st.text(max_size=6))
        if draw(st.booleans()):
            fields[name] = draw(_words)
            files.pop(name, None)
        else:
            fields.pop(name, None)
            files[name] = draw(st.binary(max_size=80) | st.sampled_from(list(FILES[path].values())))
    parts = [_part(name, value.encode("utf-8", "surrogatepass"), "") for name, value in fields.items()]
    parts += [_part(name, value, f'; filename="{draw(st.sampled_from(["a.wav", "", "../x", "ü"]))}"')
              for name, value in files.items()]  # fmt: skip
    body = b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()
    if draw(st.integers(0, 5)) == 0:
        body = body[: draw(st.integers(0, len(body)))]
    return body


def _part(name: str, value: bytes, more: str) -> bytes:
    head = f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode("utf-8", "surrogatepass") + value + b"\r\n"

"""``multipart/form-data`` bodies, read whole from memory: the handler has bounded them already. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from core.errors import InvalidRequest

MOST_PARTS: Final = 64
#: A member that is no file: prompts and settings, never megabytes.
MOST_FIELD_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class File:
    """One uploaded file. Name and content type are the caller's words and prove nothing."""

    filename: str
    content_type: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Form:
    """Members by name, in the order in which they came; ``name[]`` counts as ``name``."""

    fields: dict[str, list[str]]
    files: dict[str, list[File]]

    def text(self, name: str, most_characters: int = 200) -> str:
        """The last member of that name, empty where there is none. Raises InvalidRequest."""
        value = self.fields.get(name, [""])[-1]
        if len(value) > most_characters:
            raise InvalidRequest(f"{name} must be a text of at most {most_characters} characters.", param=name)
        return value

    def digest(self) -> bytes:
        """What the form says, whatever boundary a client has drawn for it: equal forms have equal digests."""
        found = hashlib.sha256()
        for kind, name, data in sorted(self._parts()):
            for part in (kind, name, data):
                found.update(b"%d:" % len(part))
                found.update(part)
        return found.digest()

    def _parts(self) -> Iterable[tuple[bytes, bytes, bytes]]:
        for name, values in self.fields.items():
            for place, value in enumerate(values):
                yield b"field %d" % place, name.encode(), value.encode("utf-8", "surrogatepass")
        for name, files in self.files.items():
            for place, each in enumerate(files):
                yield b"file %d" % place, name.encode(), hashlib.sha256(each.data).digest()


def is_form(content_type: bytes) -> bool:
    """Whether a Content-Type header announces such a body."""
    return content_type[:64].strip().lower().startswith(b"multipart/form-data")


def read(content_type: bytes, body: bytes) -> Form:
    """The form of a body. Raises InvalidRequest for what is none, or has too many or too large members."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise InvalidRequest("The multipart body names no boundary in its Content-Type.", param="Content-Type")
    reader = _Reader()
    try:
        parser = MultipartParser(boundary, reader.callbacks())  # type: ignore[arg-type]  # its own words, as a dict
        parser.write(body)
        parser.finalize()
    except (FormParserError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The multipart body can't be read: {error}") from None
    if not reader.ended:
        raise InvalidRequest("The multipart body ends in the middle of a part.")
    return Form(reader.fields, reader.files)


class _Reader:
    """Gathers parts as the parser comes upon them."""

    def __init__(self) -> None:
        self.fields: dict[str, list[str]] = {}
        self.files: dict[str, list[File]] = {}
        self.ended = False
        self._parts = 0
        self._headers: dict[str, str] = {}
        self._name = bytearray()
        self._value = bytearray()
        self._data: list[memoryview] = []

    def callbacks(self) -> dict[str, object]:
        """What the parser is to call."""
        return {
            "on_part_begin": self._begin,
            "on_part_data": lambda data, start, end: self._data.append(memoryview(data)[start:end]),
            "on_part_end": self._end,
            "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header,
            "on_end": self._close,
        }

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise InvalidRequest(f"A form has at most {MOST_PARTS} members.")
        self._headers.clear()
        self._data.clear()

    def _header(self) -> None:
        self._headers[self._name.decode("latin-1").lower()] = self._value.decode("utf-8", "replace")
        self._name.clear()
        self._value.clear()

    def _end(self) -> None:
        data = b"".join(self._data)
        self._data.clear()
        # The parser of options reads latin-1: what is more than that would not survive it.
        _, options = parse_options_header(self._headers.get("content-disposition", "").encode().decode("latin-1"))
        name = options.get(b"name", b"").decode("utf-8", "replace").removesuffix("[]")
        if not name:
            raise InvalidRequest("A part of the multipart body has no name.")
        if b"filename" in options:
            if not options[b"filename"] and not data:
                return  # a page's field for a file in which none was chosen
            filename = options[b"filename"].decode("utf-8", "replace")[:255]
            content_type = self._headers.get("content-type", "")[:255]
            self.files.setdefault(name, []).append(File(filename, content_type, data))
            return
        if len(data) > MOST_FIELD_BYTES:
            raise InvalidRequest(f"{name[:100]} is too long for a member that is no file.", param=name[:100])
        try:
            self.fields.setdefault(name, []).append(data.decode())
        except UnicodeDecodeError:
            raise InvalidRequest(f"{name[:100]} is not valid UTF-8.", param=name[:100]) from None

    def _close(self) -> None:
        self.ended = True

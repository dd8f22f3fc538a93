"""Reads an upload's form as it comes: fields into memory, the file into a spool, nothing twice.

Push: whoever reads the network calls `feed` with what arrived. Raises InvalidRequest for the caller's errors and
RequestTooLarge for too large a file.
"""

from __future__ import annotations

from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from core.errors import InvalidRequest
from storage.spool import Spool

#: What a form may hold beside the file: a few short fields, and the lines between.
MOST_OVERHEAD_BYTES: Final = 64 * 1024
_MOST_FIELD_BYTES: Final = 1024
_MOST_PARTS: Final = 16
_MOST_HEADERS: Final = 8
_MOST_HEADER_BYTES: Final = 2048
FILE: Final = "file"


class UploadForm:
    """One ``multipart/form-data`` body with a file named ``file``. Close it: the bytes are its."""

    def __init__(self, content_type: str, most_bytes: int) -> None:
        word, options = parse_options_header(content_type)
        if word != b"multipart/form-data" or not options.get(b"boundary"):
            raise InvalidRequest("Send the file as multipart/form-data, in a field named file.", param="Content-Type")
        self.fields: dict[str, str] = {}
        self._names = ("", "")
        self._has_file = False
        self._ended = False
        self._parts = 0
        self._overhead = 0
        self._headers: dict[str, str] = {}
        self._header = (bytearray(), bytearray())
        self._value: bytearray | None = None
        self._field = ""
        try:
            self._parser = MultipartParser(
                options[b"boundary"],
                {
                    "on_part_begin": self._part_begins,
                    "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                    "on_header_end": self._header_ends,
                    "on_headers_finished": self._headers_end,
                    "on_part_data": self._data,
                    "on_part_end": self._part_ends,
                    "on_end": self._ends,
                },
                max_header_count=_MOST_HEADERS,
                max_header_size=_MOST_HEADER_BYTES,
            )
        except FormParserError:
            raise InvalidRequest("The boundary of the form is too long.", param="Content-Type") from None
        self.spool = Spool(most_bytes)

    def feed(self, data: bytes) -> None:
        """Take in what came next."""
        before = self.spool.size_bytes
        try:
            self._parser.write(data)
        except FormParserError:
            raise InvalidRequest("The body is not a well-formed multipart/form-data form.") from None
        self._overhead += len(data) - (self.spool.size_bytes - before)
        if self._overhead > MOST_OVERHEAD_BYTES:
            raise InvalidRequest("The form holds too much beside its file.")

    def finish(self) -> None:
        """The body has ended. Raises InvalidRequest where the form had not, or had no file."""
        if not self._ended:
            raise InvalidRequest("The body broke off in the middle of the form.")
        if not self._has_file or not (self.spool.size_bytes or self.filename):
            raise InvalidRequest("The form has no file. Send it in a field named file.", param=FILE)

    @property
    def filename(self) -> str:
        """The field ``filename``, or else the name that the file came with."""
        return self.fields.get("filename", "") or self._names[0]

    @property
    def content_type(self) -> str:
        """What the sender says that it is."""
        return self.fields.get("contentType", "") or self._names[1]

    def close(self) -> None:
        """Let go of the file's bytes."""
        self.spool.close()

    # ── what the parser tells ────────────────────────────────────────────────────────────────────────────────────────
    def _part_begins(self) -> None:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise InvalidRequest(f"The form has more than {_MOST_PARTS} fields.")
        self._headers, self._value, self._field = {}, None, ""

    def _header_ends(self) -> None:
        name, value = (bytes(part) for part in self._header)
        self._headers[name.decode("latin-1").lower()] = value.decode("utf-8", "replace")
        self._header = (bytearray(), bytearray())

    def _headers_end(self) -> None:
        # The parser of options speaks latin-1; browsers send names in UTF-8.
        said = self._headers.get("content-disposition", "").encode().decode("latin-1")
        _word, options = parse_options_header(said)
        self._field = options.get(b"name", b"").decode("utf-8", "replace")
        if self._field == FILE:
            if self._has_file:
                raise InvalidRequest("The form has more than one file. Upload them one by one.", param=FILE)
            self._has_file = True
            name = options.get(b"filename", b"").decode("utf-8", "replace")
            self._names = (name, self._headers.get("content-type", ""))
        elif b"filename" in options:
            raise InvalidRequest("The file belongs into the field named file.", param=self._field or FILE)
        else:
            self._value = bytearray()

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._value is None:
            self.spool.write(data[start:end])
            return
        self._value.extend(data[start:end])
        if len(self._value) > _MOST_FIELD_BYTES:
            raise InvalidRequest(f"{self._field} is longer than {_MOST_FIELD_BYTES} bytes.", param=self._field)

    def _part_ends(self) -> None:
        if self._value is not None:
            self.fields[self._field] = self._value.decode("utf-8", "replace")
        self._value = None

    def _ends(self) -> None:
        self._ended = True

"""Files in forms of pages, spooled as they come: what is stored needs no second copy."""

from __future__ import annotations

import sys
from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler

from storage.spool import Spool


class SpooledFile(UploadedFile):  # type: ignore[type-arg]  # generic in its stubs alone
    """An uploaded file whose bytes lie in a spool, which knows their hash and their beginning."""

    def __init__(self, spool: Spool, name: str, content_type: str) -> None:
        super().__init__(spool.file, name, content_type, spool.size_bytes)
        self.spool = spool


class SpoolUploadHandler(FileUploadHandler):
    """Takes the files that are too large for memory. How large they may be, the bound on bodies and the form say."""

    def __init__(self, request: Any = None) -> None:
        super().__init__(request)
        self._spool: Spool | None = None

    def new_file(self, *arguments: Any, **named: Any) -> None:
        """A file begins."""
        super().new_file(*arguments, **named)
        self._spool = Spool(sys.maxsize)

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        """Take in what came next; no other handler is to have it."""
        assert self._spool is not None
        self._spool.write(raw_data)

    def file_complete(self, file_size: int) -> SpooledFile:
        """The file, whole."""
        spool, self._spool = self._spool, None
        assert spool is not None
        spool.file.seek(0)
        return SpooledFile(spool, self.file_name or "", self.content_type or "")

    def upload_interrupted(self) -> None:
        """The sender left: nothing stays."""
        if self._spool is not None:
            self._spool.close()

"""What every wire format of the gateway's own side offers the engine. A dialect is pure: values in, bytes out."""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Protocol
from uuid import UUID

import msgspec

from catalog.pricing import Line
from core.errors import InvalidRequest, ProductError
from upstreams.wire import NOTHING_FORWARDED, Forwarded, Usage

Fields = dict[str, msgspec.Raw]

#: The identity of a stream whose upstream has sent nothing yet.
NOTHING_SENT: Final[Mapping[str, Any]] = MappingProxyType({})


class Receipt(msgspec.Struct, frozen=True):
    """What a call cost and who served it, settled to the microcredit. ``target`` reads as it does in the log.

    ``unit`` is set for a call that is billed by the unit (image, second, clip, request); ``units`` is their number.
    """

    request_id: UUID
    model: str
    provider: str
    target: str
    attempts: int
    sandbox: bool
    usage: Usage
    charged_microcredits: int
    saved_microcredits: int
    #: The hold at its largest, growth included.
    reserved_microcredits: int = 0
    price_version: int = 0
    lines: tuple[Line, ...] = ()
    unit: str = ""
    units: int = 0


class ReceiptWriter(Protocol):
    """How a format tells a caller what the call cost."""

    def in_answer(self, body: bytes, receipt: Receipt) -> bytes:
        """A whole answer with the receipt in it."""
        ...

    def in_stream(self, end: Sequence[bytes], receipt: Receipt) -> Sequence[bytes]:
        """The last events of a stream with the receipt in them."""
        ...

    def headers(self, usage: Usage, saved_microcredits: int | None) -> list[tuple[bytes, bytes]]:
        """Headers about what a prompt cache had a part in. Of a stream only its beginning is known: None is saved."""
        ...


class Call(msgspec.Struct):
    """A request that a dialect has understood.

    ``fields`` are the members of the body that go upstream, each still as its own bytes: what is nested is never
    rewritten, and of a doubled member only one is left, the one that was read here. ``output_ceiling`` is in tokens,
    all choices together; None where the caller named none.
    """

    kind: str
    model: str
    intent: str
    stream: bool
    wants_usage: bool
    output_ceiling: int | None
    choices: int
    service_tier: str | None
    fields: Fields
    body: bytes
    #: Tools that the provider runs and bills by use: their name in a price list, and the member that asks for them.
    server_tools: tuple[tuple[str, str], ...] = ()
    #: Whether a caller who asked for no stream takes one from an upstream that always streams.
    takes_events: bool = False
    #: Other models that may take part: their name as it goes upstream, and the member that brings them in.
    other_models: tuple[tuple[str, str], ...] = ()
    #: The member that asks for ``service_tier``.
    service_tier_param: str = "service_tier"
    #: What of the caller's headers and query goes upstream.
    forwarded: Forwarded = NOTHING_FORWARDED
    #: Tells inside the answer what it cost; None where the format has no place for that.
    receipts: ReceiptWriter | None = None
    #: The format of the body, as the endpoint kind that has it for its own, where it is not that of ``kind``.
    wire: str = ""
    #: Whether the provider is to keep the answer under an id of its own, and the one of such answers to go on from.
    kept: bool = False
    previous_response_id: str = ""

    def __repr__(self) -> str:
        """Without what the caller wrote."""
        return f"Call(kind={self.kind!r}, model={self.model!r}, stream={self.stream!r})"

    @property
    def spoken(self) -> str:
        """The endpoint kind whose format the body is in."""
        return self.wire or self.kind


class Dialect(Protocol):
    """One wire format towards callers."""

    kind: str
    stream_content_type: bytes
    #: What fills silence in a stream; None where the format has no room for it.
    keepalive: bytes | None

    def parse(self, body: bytes) -> Call:
        """Raises InvalidRequest, with ``param`` where a member is wrong."""
        ...

    def error(self, error: ProductError, request_id: UUID) -> bytes:
        """The body of an error answer."""
        ...

    def error_frame(self, error: ProductError, request_id: UUID, identity: Mapping[str, Any] = NOTHING_SENT) -> bytes:
        """The event that ends a stream which can't go on. ``identity`` is that of the upstream's own events, if any."""
        ...

    def stop_frames(self, identity: Mapping[str, Any], call: Call, usage: Usage, note: str) -> Sequence[bytes]:
        """The orderly end of a stream that the gateway ends early, in the format's word for "too long"."""
        ...


_PIECE_BYTES: Final = 1 << 20
_fields_decoder = msgspec.json.Decoder(Fields)


def read_object(body: bytes) -> Fields:
    """The members of a JSON object, undecoded. Raises InvalidRequest for anything else."""
    if not body.isascii() and not _is_utf8(body):  # members that pass as they are, nobody else looks into
        raise InvalidRequest("The body is not valid JSON: it is not UTF-8.")
    try:
        return _fields_decoder.decode(body)
    except msgspec.ValidationError:
        raise InvalidRequest("The body must be a JSON object.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}") from None
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.") from None


def _is_utf8(body: bytes) -> bool:
    """Piece by piece: the text of a body of megabytes would take several times its room."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(body), _PIECE_BYTES):
            decoder.decode(body[start : start + _PIECE_BYTES])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def member(fields: Fields, name: str) -> Any:
    """One member, decoded; None where it is absent or null. Raises InvalidRequest."""
    raw = fields.get(name)
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidRequest(f"{name} is not valid JSON.", param=name) from None


def text(fields: Fields, name: str, most_characters: int = 200) -> str:
    """A text member, empty where it is absent or null. Raises InvalidRequest."""
    value = member(fields, name)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > most_characters:
        raise InvalidRequest(f"{name} must be a text of at most {most_characters} characters.", param=name)
    return value


def flag(fields: Fields, name: str) -> bool:
    """A boolean member, False where it is absent or null. Raises InvalidRequest."""
    raw = fields.get(name)
    if raw is None:
        return False
    value = member(fields, name)
    if value is None or isinstance(value, bool):
        return bool(value)
    raise InvalidRequest(f"{name} must be true or false.", param=name)


def count(fields: Fields, name: str, most: int) -> int | None:
    """A positive whole number, None where it is absent or null. Raises InvalidRequest."""
    value = member(fields, name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise InvalidRequest(f"{name} must be a whole number from 1 to {most}.", param=name)
    return value


def is_filled_list(raw: msgspec.Raw) -> bool:
    """Whether the member is a list with something in it, told from its first bytes: it may be megabytes long."""
    head = bytes(memoryview(raw)[:64]).lstrip()
    return head[:1] == b"[" and head[1:].lstrip()[:1] != b"]"

"""Token estimates from bytes, for reservations and for upstreams that report no usage. Pure."""

from __future__ import annotations

import re

BYTES_PER_TOKEN = 4
SAFE_BYTES_PER_TOKEN = 3
IMAGE_TOKENS = 2000

# One of these stands wherever a payload does: data URLs, and the members data, file_data, inline_data.
_CARRIERS = (b";base64,", b'data"')
_PAYLOAD = re.compile(
    rb'"(url|image_url|file_url|file_data|data)"\s{0,8}:\s{0,8}"(?:data:([a-z]*)[^",]{0,200};base64,)?'
    rb"([A-Za-z0-9+/_=-]{256})"
)
_PAYLOAD_OPENING_BYTES = 600
_WINDOW_BYTES = 256 * 1024
_LINK_BYTES = 40
_CONTINUATION_BYTES = bytes(range(0x80, 0xC0))
_IMAGE_LINK = re.compile(rb'"(?:url|image_url)"\s{0,8}:\s{0,8}"(?:https?:|gs:|file-)')
# How well-known files begin once they are base64: "%PDF-", PNG, JPEG, GIF.
_PDF = b"JVBERi"
_PICTURES = (b"iVBORw0KGgo", b"/9j/", b"R0lGOD")

# Decoded bytes of one token, low enough for the densest common encodings.
_BYTES_PER_AUDIO_TOKEN = 128
_BYTES_PER_VIDEO_TOKEN = 256
_BYTES_PER_FILE_TOKEN = 10

TextMembers = tuple[tuple[bytes, re.Pattern[bytes]], ...]


def text_members(*names: str) -> TextMembers:
    """The members of a format's deltas that hold text, each with a pattern for its strings that are not empty."""
    keys = [f'"{name}":'.encode() for name in names]
    return tuple((key, re.compile(key + rb'\s?"(?!")([^"\\]*+(?:\\.[^"\\]*+)*+)')) for key in keys)


_CHAT_MEMBERS = text_members("content", "arguments", "reasoning_content", "reasoning", "refusal", "transcript")
_PART_TEXT = re.compile(rb'"text":\s?"(?!")([^"\\]*+(?:\\.[^"\\]*+)*+)')
_REST_OF_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)


def ceiling_input_tokens(body: bytes) -> int:
    """More tokens than the request body will plausibly count as: what a reservation needs."""
    text_bytes, media_tokens = _weigh(body)
    tokens = -(-text_bytes // SAFE_BYTES_PER_TOKEN)
    if not body.isascii():
        # Scripts outside ASCII take three bytes and up to two tokens a character.
        tokens += (len(body) - len(body.translate(None, _CONTINUATION_BYTES))) // 2
    return tokens + media_tokens


def estimate_input_tokens(body: bytes) -> int:
    """The likely tokens of a request body: what is billed when the upstream does not say."""
    text_bytes, media_tokens = _weigh(body)
    return -(-text_bytes // BYTES_PER_TOKEN) + media_tokens


class TextCounter:
    """Counts the text in a stream's raw bytes, for a fraction of what parsing them costs.

    ``members`` is how many strings came that hold something, ``text_bytes`` how long they are together.
    ``text_members`` are those of the stream's format, a chat completion's unless told otherwise.
    """

    __slots__ = ("_order", "members", "text_bytes")

    def __init__(self, text_members: TextMembers = _CHAT_MEMBERS) -> None:
        self.members = 0
        self.text_bytes = 0
        self._order = list(text_members)

    @property
    def tokens(self) -> int:
        """A quarter of the bytes, yet at least one for each string that came by itself."""
        return max(self.members, -(-self.text_bytes // BYTES_PER_TOKEN))

    def add(self, block: bytes) -> None:
        """Whole events, or a whole answer."""
        expected = block.count(b'"delta"')
        members = text_bytes = 0
        for place, (name, pattern) in enumerate(self._order):
            if name not in block:
                continue
            texts = pattern.findall(block)
            if texts:
                members += len(texts)
                text_bytes += sum(map(len, texts))
                if 0 < expected <= members:
                    if place:  # a stream dwells on one kind of text: look for it first
                        self._order.insert(0, self._order.pop(place))
                    break
        if not members:  # content that comes in parts; elsewhere such texts repeat what was counted
            texts = _PART_TEXT.findall(block)
            members, text_bytes = len(texts), sum(map(len, texts))
        self.members += members
        self.text_bytes += text_bytes


def output_tokens_in(answer: bytes) -> int:
    """The likely output tokens of a whole answer that does not tell."""
    counter = TextCounter()
    counter.add(answer)
    return counter.tokens


def _weigh(body: bytes) -> tuple[int, int]:
    """Bytes that count as text, and the tokens of images, sounds and files in the body.

    Goes window by window: one search over tens of megabytes would hold up every other thread.
    """
    text_bytes, media_tokens = len(body), 0
    carries = any(carrier in body for carrier in _CARRIERS)
    links = b"url" in body
    at = 0
    while (carries or links) and at < len(body):
        end = at + _WINDOW_BYTES
        match = _PAYLOAD.search(body, at, end + _PAYLOAD_OPENING_BYTES) if carries else None
        searched = match.start() if match else end
        if links:
            found = _IMAGE_LINK.finditer(body, at, searched + _LINK_BYTES)
            media_tokens += IMAGE_TOKENS * sum(link.start() < searched for link in found)
        if match is None:
            at = end
            continue
        rest = _REST_OF_STRING.match(body, match.end())
        at = rest.end() if rest else len(body)
        size = at - match.start(3)
        text_bytes -= size
        media_tokens += _media_tokens(match, size * 3 // 4)
    return max(0, text_bytes), media_tokens


def _media_tokens(match: re.Match[bytes], size: int) -> int:
    """``size`` is in decoded bytes. Audio members have no media type of their own, only a name."""
    kind = match[2] or b""
    if match[3].startswith(_PDF) or kind in (b"application", b"text") or match[1] == b"file_data":
        return -(-size // _BYTES_PER_FILE_TOKEN)
    if kind == b"video":
        return -(-size // _BYTES_PER_VIDEO_TOKEN)
    if kind == b"image" or match[3].startswith(_PICTURES):
        return IMAGE_TOKENS
    return max(IMAGE_TOKENS if match[1] in (b"url", b"image_url") else 0, -(-size // _BYTES_PER_AUDIO_TOKEN))

"""However the network cuts a stream, the same events come out."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upstreams import sse
from upstreams.errors import BadAnswer

LINE_ENDS = [b"\n", b"\r\n", b"\r"]
TEXT = st.text(alphabet='ab:é\u2028\u0085 {}"', max_size=12).map(str.encode)


@st.composite
def events(draw: st.DrawFn) -> bytes:
    """One event: some fields or a comment, one kind of line end, a blank line."""
    newline = draw(st.sampled_from(LINE_ENDS))
    lines = draw(
        st.lists(
            st.one_of(
                TEXT.map(lambda text: b"data: " + text),
                TEXT.map(lambda text: b"data:" + text),
                TEXT.map(lambda text: b": " + text),
                st.just(b"event: ping"),
                st.just(b"data"),
            ),
            min_size=1,
            max_size=3,
        )
    )
    return newline.join(lines) + newline + newline


def pieces_of(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    return [stream[a:b] for a, b in pairwise(places)]


def collect(pieces: list[bytes]) -> list[bytes]:
    framer, found = sse.Framer(), []
    for piece in pieces:
        block = framer.feed(piece)
        found += sse.split(block) if block else []
    rest = framer.rest()
    return [*found, *(sse.split(rest) if rest else [])]


def data_in(found: list[bytes]) -> list[bytes]:
    return [data for event in found if (data := sse.data_of(event)) is not None]


@given(st.lists(events(), max_size=8), st.lists(st.integers(0, 400), max_size=30))
def test_any_split_gives_the_same_events(written: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(written)
    found = collect(pieces_of(stream, cuts))
    assert b"".join(found) == stream
    assert found == collect([stream] if stream else [])
    assert data_in(found) == data_in(written)


@given(st.lists(events(), min_size=1, max_size=6))
def test_byte_by_byte(written: list[bytes]) -> None:
    stream = b"".join(written)
    assert collect([stream[i : i + 1] for i in range(len(stream))]) == collect([stream])


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
@given(written=st.lists(events(), min_size=1, max_size=6))
def test_the_places_where_events_begin_and_end(newline: bytes, written: list[bytes]) -> None:
    events = [newline.join(event.splitlines()) + newline for event in written]
    block = b"".join(events)
    starts = [len(b"".join(events[:count])) for count in range(len(events) + 1)]
    for begin, end in pairwise(starts):
        assert sse.end_of_event(block, begin) == end
        assert sse.start_of_event(block, 0, begin + 1) == begin


@pytest.mark.parametrize(
    ("event", "data", "name"),
    [
        (b"data: a\n\n", b"a", b""),
        (b"data:a\n\n", b"a", b""),
        (b"data:  a\n\n", b" a", b""),
        (b"data: a\ndata: b\n\n", b"a\nb", b""),
        (b"event: error\ndata: {}\n\n", b"{}", b"error"),
        (b"event: error\r\ndata: {}\r\n\r\n", b"{}", b"error"),
        (b"data: a\rdata: b\r\r", b"a\nb", b""),
        (b": OPENROUTER PROCESSING\n\n", None, b""),
        (b"\n", None, b""),
        (b"data\n\n", b"", b""),
        (b"data:\n\n", b"", b""),
        ("data: a\u2028b\u0085c\n\n".encode(), "a\u2028b\u0085c".encode(), b""),
        (b"\xef\xbb\xbfdata: a\n\n", b"a", b""),
        (b"id: 7\ndata: a\n\n", b"a", b""),
    ],
)
def test_fields(event: bytes, data: bytes | None, name: bytes) -> None:
    assert sse.data_of(event) == data
    assert sse.name_of(event) == name


def test_other_data_keeps_fields_and_line_ends() -> None:
    assert sse.with_data(b"id: 7\r\ndata: a\r\ndata: b\r\n\r\n", b"x") == b"id: 7\r\ndata: x\r\n\r\n"
    assert sse.with_data(b"data: a\n\n", b"x") == b"data: x\n\n"


def test_a_chunk_of_whole_events_passes_as_the_very_same_object() -> None:
    chunk = b"data: a\n\ndata: b\n\n"
    assert sse.Framer().feed(chunk) is chunk


def test_an_event_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "EVENT_LIMIT_BYTES", 1000)
    framer = sse.Framer()
    with pytest.raises(BadAnswer):
        for _ in range(20):
            framer.feed(b"data: " + b"x" * 100)

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flue.sse import EventParser, EventTooLongError
from tests.models.replay_transport import cut

Events = list[tuple[bytes, bytes]]


def parse(*chunks: bytes) -> Events:
    parser = EventParser()
    events = [event for chunk in chunks for event in parser.feed(chunk)] + parser.close()
    return [(name, data) for name, data, _ in events]


def test_an_event_is_its_name_and_data() -> None:
    assert parse(b"event: ping\ndata: {}\n\n") == [(b"ping", b"{}")]


def test_a_name_belongs_to_one_event_only() -> None:
    assert parse(b"event: a\ndata: 1\n\ndata: 2\n\n") == [(b"a", b"1"), (b"", b"2")]


def test_data_lines_are_joined_by_newlines() -> None:
    assert parse(b"data: one\ndata: two\ndata\n\n") == [(b"", b"one\ntwo\n")]


def test_only_one_blank_after_the_colon_is_dropped() -> None:
    assert parse(b"data:x\n\ndata:  y\n\n") == [(b"", b"x"), (b"", b" y")]


def test_comments_ids_and_unknown_fields_say_nothing() -> None:
    assert parse(b": keep-alive\nid: 7\nretry: 10\ndataset: no\n\ndata: 1\n\n") == [(b"", b"1")]


def test_an_id_stays_until_the_next_one() -> None:
    stream = b"data: 0\n\nid: 7\ndata: 1\n\ndata: 2\n\nid:8\n\ndata: 3\n\nid: 9\0\ndata: 4\n\nid\ndata: 5\n\n"
    ids = [(data, id) for _, data, id in EventParser().feed(stream)]
    assert ids == [(b"0", b""), (b"1", b"7"), (b"2", b"7"), (b"3", b"8"), (b"4", b"8"), (b"5", b"")]


def test_a_byte_order_mark_is_skipped_even_when_it_arrives_in_pieces() -> None:
    assert parse(b"\xef", b"\xbb", b"\xbfdata: 1\n\n") == [(b"", b"1")]


def test_a_byte_order_mark_inside_the_stream_is_data() -> None:
    assert parse(b"data: 1\n\ndata: \xef\xbb\xbf\n\n") == [(b"", b"1"), (b"", b"\xef\xbb\xbf")]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_every_line_ending_of_the_standard_is_read(end: bytes) -> None:
    assert parse(b"event: a" + end + b"data: 1" + end + end) == [(b"a", b"1")]


def test_a_carriage_return_at_the_end_of_a_chunk_ends_the_line_at_once() -> None:
    parser = EventParser()
    assert parser.feed(b"data: 1\r\r") == [(b"", b"1", b"")]


def test_a_newline_split_from_its_carriage_return_makes_no_second_line() -> None:
    assert parse(b"data: 1\r", b"\ndata: 2\r", b"\n\r", b"\n") == [(b"", b"1\n2")]


def test_a_character_split_between_chunks_stays_whole() -> None:
    text = "data: é€😀\n\n".encode()
    assert parse(*(text[i : i + 1] for i in range(len(text)))) == [(b"", "é€😀".encode())]


def test_the_last_event_counts_without_its_blank_line() -> None:
    assert parse(b"data: 1\n\ndata: 2") == [(b"", b"1"), (b"", b"2")]


def test_an_endless_line_is_refused_instead_of_filling_memory() -> None:
    parser = EventParser(limit=1000)
    with pytest.raises(EventTooLongError, match="longer than 1000 bytes"):
        for _ in range(20):
            parser.feed(b"x" * 100)


def test_endless_data_lines_without_a_blank_line_are_refused() -> None:
    parser = EventParser(limit=1000)
    with pytest.raises(EventTooLongError, match="longer than 1000 bytes"):
        for _ in range(20):
            parser.feed(b"data: " + b"x" * 100 + b"\n")


def test_many_short_events_are_not_taken_for_one_long_one() -> None:
    parser = EventParser(limit=100)
    for _ in range(50):
        assert parser.feed(b"data: " + b"x" * 50 + b"\n\nda") is not None
        parser.feed(b"ta: y\n\n")


LINES = st.sampled_from(
    [
        b"data: 1",
        b"data:\xc3\xa9",
        b"data",
        b"event: a",
        b"event",
        b": note",
        b"id: 3",
        b"",
        b"",
        b"\xef\xbb\xbf",
        b"data: x: y",
    ]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@given(
    st.lists(st.tuples(LINES, ENDS), max_size=30).map(lambda lines: b"".join(line + end for line, end in lines)),
    st.lists(st.integers(0, 400), max_size=30),
    st.booleans(),
)
def test_any_chunking_gives_the_same_events(stream: bytes, places: list[int], marked: bool) -> None:
    data = b"\xef\xbb\xbf" + stream if marked else stream
    assert parse(*cut(data, places)) == parse(data)

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flue.harness.tools.truncate import MAX_BYTES, MAX_LINES, byte_length, cut_bytes, first_lines, last_lines


def test_the_limits_are_those_of_the_contract() -> None:
    assert (MAX_LINES, MAX_BYTES) == (2000, 51200)


def test_the_first_and_last_lines_up_to_the_line_limit_are_kept() -> None:
    lines = [str(number) for number in range(1, 2002)]
    head, tail = first_lines(lines), last_lines(lines)
    assert (head.lines, head.cut, head.text.split("\n")[-1]) == (2000, False, "2000")
    assert (tail.lines, tail.cut, tail.text.split("\n")[0]) == (2000, False, "2")
    assert first_lines(lines[:2000]).lines == 2000


def test_the_byte_limit_counts_newlines_between_lines_and_keeps_lines_whole() -> None:
    fitting = ["x" * 25_599, "y" * 25_600]
    assert byte_length("\n".join(fitting)) == MAX_BYTES
    assert first_lines(fitting).lines == last_lines(fitting).lines == 2
    too_long = ["x" * 25_600, "y" * 25_600]
    assert first_lines(too_long).text == "x" * 25_600
    assert last_lines(too_long).text == "y" * 25_600


def test_a_line_that_is_too_long_by_itself_is_cut() -> None:
    long = "a" + "b" * MAX_BYTES + "c"
    head, tail = first_lines([long, "d"]), last_lines(["d", long])
    assert (head.lines, head.cut, head.text[0], byte_length(head.text)) == (1, True, "a", MAX_BYTES)
    assert (tail.lines, tail.cut, tail.text[-1], byte_length(tail.text)) == (1, True, "c", MAX_BYTES)


def test_nothing_stays_nothing() -> None:
    assert first_lines([]) == last_lines([])
    assert first_lines([]).text == ""


@pytest.mark.parametrize("keep_end", [False, True])
@given(text=st.text(), limit=st.integers(0, 20))
def test_a_cut_never_splits_a_character(text: str, limit: int, keep_end: bool) -> None:
    cut = cut_bytes(text, limit, keep_end=keep_end)
    assert byte_length(cut) <= limit or cut == text
    assert text.endswith(cut) if keep_end else text.startswith(cut)
    assert byte_length(text) - byte_length(cut) == 0 or byte_length(cut) > limit - 4

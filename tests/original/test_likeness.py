"""The comparison sees what it is there to see."""

from __future__ import annotations

from typing import Any

import pytest

from tests.original.likeness import events, missing, plain


def answer(body: str, kind: str = "application/json", status: int = 200) -> dict[str, Any]:
    return {"status": status, "headers": {"content-type": kind}, "text": body}


def stream(*frames: str) -> dict[str, Any]:
    return answer(
        "".join(f"event: x\nid: {place}\ndata: {frame}\n\n" for place, frame in enumerate(frames)), "text/event-stream"
    )


@pytest.mark.parametrize(
    ("theirs", "ours", "said"),
    [
        (answer("{}", status=202), answer("{}"), ".status: theirs 202, ours 200"),
        (answer('{"a": 1}'), answer("{}"), ".text.a: theirs 1, ours nothing"),
        (answer('{"a": 1}'), answer('{"a": 2}'), ".text.a: theirs 1, ours 2"),
        (
            answer('{"error": {"type": "x"}}'),
            answer('{"error": {"type": "y"}}'),
            ".text.error.type: theirs 'x', ours 'y'",
        ),
        (
            stream('{"type": "log"}', '{"type": "turn"}'),
            stream('{"type": "log"}'),
            ".text: theirs 2, ours 1: log turn / log",
        ),
        (
            {"frames": [], "end": {"code": 1000}},
            {"frames": [], "end": {"code": 1006}},
            ".end.code: theirs 1000, ours 1006",
        ),
    ],
)
def test_a_difference_is_told(theirs: Any, ours: Any, said: str) -> None:
    assert list(missing(plain(theirs), plain(ours))) == [said]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (answer("{}"), answer('{"more": 1}')),
        (answer('{"error": {"type": "x", "message": "a"}}'), answer('{"error": {"type": "x", "message": "b"}}')),
        (
            answer('{"runId": "workflow:echo:01M8MMFJ6DZHAK0DZCPY3M44CD"}'),
            answer('{"runId": "workflow:echo:01M8MMFJ6DZHAK0DZCPY3M44CE"}'),
        ),
        (answer('{"events": []}'), answer('{"events": [{"type": "idle", "runId": "r", "eventIndex": 0}]}')),
    ],
)
def test_what_is_more_or_each_servers_own_is_none(theirs: Any, ours: Any) -> None:
    assert not list(missing(plain(theirs), plain(ours)))


def test_a_frame_that_the_protocol_does_not_have_is_refused() -> None:
    with pytest.raises(AssertionError):
        events("data: {}\n\n")

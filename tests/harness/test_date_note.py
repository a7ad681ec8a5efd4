"""A conversation over several days: the system prompt stays, the user's next message tells the new date."""

from __future__ import annotations

from flue.messages import TextContent, Usage, UserMessage
from flue.testing import MemoryStore, VirtualClock
from tests.harness.scene import Scene, scene

DAY = 24 * 3600
NOTE = "[The date has changed. It is now {}.]"
SECOND, THIRD = NOTE.format("Fri, Jan 2, 2026"), NOTE.format("Sat, Jan 3, 2026")


def asked(s: Scene) -> list[list[str]]:
    """Return the texts of each user message that the model saw last."""
    return [
        [block.text for block in message.content if isinstance(block, TextContent)]
        for message in s.model.requests[-1].messages
        if isinstance(message, UserMessage)
    ]


async def test_the_first_message_of_a_new_day_begins_with_the_date_and_the_system_prompt_stays() -> None:
    async with scene("1", "2", "3", "4", "5") as s:
        await s.session.prompt("a")
        await s.clock.advance(DAY)
        await s.session.prompt("b")
        await s.session.prompt("c")
        await s.clock.advance(DAY)
        await s.session.prompt("d")
        await s.session.prompt("e")
        assert asked(s) == [["a"], [SECOND, "b"], ["c"], [THIRD, "d"], ["e"]]
        systems = {request.system for request in s.model.requests}
        assert len(systems) == 1
        assert "Date: Thu, Jan 1, 2026" in systems.pop()
        # Whatever was sent once is sent again as it was: that is what providers keep.
        for earlier, later in zip(s.model.requests, s.model.requests[1:], strict=False):
            assert later.messages[: len(earlier.messages)] == earlier.messages


async def test_the_note_is_stored_with_its_message_and_not_repeated_in_a_later_process() -> None:
    store, clock = MemoryStore(), VirtualClock(auto=True)
    async with scene("1", "2", store=store, clock=clock) as s:
        await s.session.prompt("a")
        await clock.advance(DAY)
        await s.session.prompt("b")
    async with scene("3", store=store, clock=clock) as s:
        await s.session.prompt("c")
        assert asked(s) == [["a"], [SECOND, "b"], ["c"]]


async def test_a_conversation_opened_on_a_later_day_gets_a_note_when_an_older_one_would_mislead() -> None:
    store, clock = MemoryStore(), VirtualClock(auto=True)
    async with scene("1", "2", store=store, clock=clock) as s:
        await clock.advance(DAY)
        await s.session.prompt("b")
    await clock.advance(DAY)
    async with scene("3", store=store, clock=clock) as s:
        await s.session.prompt("c")
        assert "Date: Sat, Jan 3, 2026" in s.model.requests[0].system
        assert asked(s) == [[SECOND, "b"], [THIRD, "c"]]


async def test_after_compaction_has_taken_the_note_away_it_is_given_again() -> None:
    async with scene("1", "2", "3") as s:
        await s.clock.advance(DAY)
        await s.session.prompt("a")
        last = len(s.session.history.path) - 1
        s.session.history.compact(last, summary="So far.", tokens_before=1, details={}, usage=Usage())
        await s.session.prompt("b")
        assert asked(s)[-1] == [SECOND, "b"]


async def test_a_note_on_a_message_that_was_never_sent_is_given_with_the_next() -> None:
    async with scene("1", "2") as s:
        await s.session.prompt("a")
        await s.clock.advance(DAY)
        assert s.session.date_note.blocks("Fri, Jan 2, 2026")
        await s.session.prompt("b")
        assert asked(s)[-1] == [SECOND, "b"]

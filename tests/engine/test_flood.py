"""Lines of an application's log that come faster than they can be written."""

from __future__ import annotations

import asyncio
from typing import Any

from flue.engine.flood import WAITING_CHARACTERS
from flue.engine.log_reader import LoggedEvent
from flue.events import Idle, Log, TurnStart
from tests.engine.log_scene import Process, SlowStore, collect, settled_tasks, values, writing

LINE = "x" * (WAITING_CHARACTERS // 10)


def told(process: Process, count: int, text: str = LINE) -> None:
    for n in range(count):
        process.emit(Log, "info", text, {"n": n})


def lines(logged: list[LoggedEvent]) -> list[Any]:
    """Return the number that each line carries, and of a note how many lines it stands for."""
    found = []
    for event in values(logged):
        attributes = event.get("attributes", {})
        found.append(f"-{attributes['leftOut']}" if "leftOut" in attributes else attributes.get("n", event["type"]))
    return found


async def test_of_lines_that_find_no_room_the_number_is_kept() -> None:
    async with writing(field_limit=10_000_000) as process:
        told(process, 25)
        await settled_tasks()
        told(process, 3)
        await process.settle()
        logged = await process.read()
        assert lines(logged) == [*range(9), "-16", 0, 1, 2]
        assert values(logged)[10:] == process.told[25:]
        note = values(logged)[9]
        assert (note["level"], note["eventIndex"], note["timestamp"]) == ("warn", 24, process.told[24]["timestamp"])
        assert "16 lines were left out" in note["message"]


async def test_nothing_but_lines_is_left_out_and_the_order_holds() -> None:
    async with writing(field_limit=10_000_000) as process:
        told(process, 12)
        process.emit(TurnStart, "agent")
        told(process, 2)
        process.emit(Idle)
        await process.settle()
        assert lines(await process.read()) == [*range(9), "-3", "turn_start", "-2", "idle"]


async def test_a_flood_that_nothing_follows_is_noted_when_there_is_room_again() -> None:
    store = SlowStore()
    async with writing(store=store, field_limit=10_000_000) as process:
        told(process, 12)
        await settled_tasks()
        assert len(store.waiting) == 1
        store.commit()
        await settled_tasks()
        store.commit()
        assert lines(await process.read()) == [*range(9), "-3"]


async def test_followers_see_the_note_in_its_place() -> None:
    seen: list[LoggedEvent] = []
    async with writing(field_limit=10_000_000) as process:
        following = asyncio.create_task(collect(process, seen))
        await settled_tasks()
        told(process, 12)
        await settled_tasks()
        told(process, 1)
        await process.settle()
        await asyncio.wait_for(following, 5)
        assert lines(seen) == [*range(9), "-3", 0]
        assert values(seen) == values(await process.read())


async def test_a_line_longer_than_all_that_may_wait_is_kept() -> None:
    async with writing(field_limit=10_000_000) as process:
        told(process, 1, "y" * (WAITING_CHARACTERS + 1))
        await process.settle()
        assert values(await process.read()) == process.told

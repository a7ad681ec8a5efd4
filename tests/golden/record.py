"""`python -m tests.golden.record VERSION`: record stores for a release: a file, and a Durable Object's database.

They are written to tests/golden/VERSION.sql and VERSION-object.sql. Do it once for each release, with the code that is
released, and never again: what is there is what users have.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from flue.cloudflare.storage.store import DurableObjectStore
from flue.engine.admissions import session_lane
from flue.engine.messages import approval_message, event_message
from flue.engine.service import Service
from flue.stores import SqliteStore
from flue.testing import VirtualClock
from tests.cloudflare.standin.storage import Disk, Storage
from tests.engine.scenes import CutStore, kill, serving
from tests.golden.project import PROMPTS, RUNS, Project

FOLDER = Path(__file__).parent


async def record_file(path: Path) -> None:
    """Record a file."""
    await record(SqliteStore(path), VirtualClock())


async def record_object(path: Path) -> None:
    """Record the database of an object that does all of it."""
    clock, disk = VirtualClock(), Disk(path)
    await record(DurableObjectStore(Storage(disk, now=clock.now_ms), clock), clock)
    disk.close()


async def record(store: SqliteStore | DurableObjectStore, clock: VirtualClock) -> None:
    """Have a process work on everything at once, and kill it when each piece is where it is to be."""
    project, before = Project(recording=True), asyncio.all_tasks()
    cut = CutStore(store)
    async with serving(project.catalog(), cut, clock) as service:
        await play(service, project, clock)
        cut.dead.set()
        await kill(before)
    # What came when no process was there any more.
    lane = session_lane("desk", "decided", "default")
    (decided,) = await store.list_lane(lane)
    call_id = decided.waiting_for[0].removeprefix("approve:")
    assert await store.deliver(
        decided.address, approval_message("m1", call_id, approved=True, reason=None), now=clock.now_ms()
    )
    (told,) = await runs(store, "told")
    assert await store.deliver(told, event_message("m2", "paid", {"amount": 5}), now=clock.now_ms())
    await store.aclose()


async def play(service: Service, project: Project, clock: VirtualClock) -> None:
    """Begin everything, and wait until all of it stands still."""
    store = service.store

    async def until(condition: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(60):
            while not await condition():
                await clock.advance(0.3)
                await asyncio.sleep(0.01)

    for name in PROMPTS:
        await service.prompt("desk", name, f"{name} please")
    await service.prompt("desk", "queued", "second in the queue")
    await service.prompt("desk", "complete", "beside, in another session", session="other")
    await service.dispatch("desk", "dispatched", {"order": "A-1"}, dispatch_id="d-1")
    await service.prompt("thrifty", "ann", "budget please")
    for number in range(3):
        await service.prompt("talker", "ann", f"word-{number} " + "and so on " * 40)
    for name in RUNS:
        await service.start_workflow("errand", name, key=name)
    await service.start_agent("report", "ann", {"n": 1})

    async def stands_still() -> bool:
        states: list[str] = []
        for name in PROMPTS[1:]:
            (submission, *_) = await store.list_lane(session_lane("desk", name, "default"))
            states.append(f"{name} {submission.state}")
        for name in RUNS:
            found = await service.get_submission((await runs(store, name))[0])
            states.append(f"{name} {found.state if found else ''}")
        cut = (await store.list_lane(session_lane("desk", "cut-in-answer", "default")))[0]
        tools = (await store.list_lane(session_lane("desk", "cut-in-tools", "default")))[0]
        deltas = any(stored.row.deltas for stored in await store.read_events(cut.id, limit=100))
        kinds = [each.kind for each in await store.load_journal(tools.id)]
        left = [await store.list_lane(session_lane("talker", "ann", "default"))]
        budget = await store.list_lane(session_lane("thrifty", "ann", "default"))
        return (
            {"approval parked", "decided parked", "asleep parked", "waiting parked", "told parked"} <= set(states)
            and {"complete settled", "failed settled"} <= set(states)
            and "step first cut-in-body" in project.ran
            and deltas
            and kinds.count("tool_started") == 2
            and kinds.count("tool_result") == 1
            and left == [[]]
            and budget[0].state == "parked"
        )

    await until(stands_still)


async def runs(store: Any, name: str) -> list[str]:
    """Return the ids of the runs with this payload, oldest first."""
    rows = await store._read(
        lambda tx: tx.rows(
            "SELECT submissions.id FROM submissions JOIN inputs ON inputs.id = submissions.id"
            " WHERE kind = 'workflow' AND payload = ? ORDER BY sequence",
            json.dumps(name),
        )
    )
    return [row[0] for row in rows]


def dump(path: Path) -> str:
    """Return a database as SQL, with the numbers of its format."""
    connection = sqlite3.connect(path)
    try:
        pragmas = [
            f"PRAGMA {name} = {connection.execute(f'PRAGMA {name}').fetchone()[0]};"
            for name in ("application_id", "user_version")
        ]
        return "\n".join([*pragmas, *connection.iterdump(), ""])
    finally:
        connection.close()


def main() -> None:
    """Record a store."""
    parser = argparse.ArgumentParser("python -m tests.golden.record", description="Record a store for a release.")
    parser.add_argument("version")
    parser.add_argument("--again", action="store_true", help="replace what was recorded for a version in the making")
    options = parser.parse_args()
    for suffix, recording in (("", record_file), ("-object", record_object)):
        target = FOLDER / f"{options.version}{suffix}.sql"
        if target.exists() and not options.again:
            parser.error(f"{target} is there: what was released is not recorded again.")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "flue.db"
            asyncio.run(recording(path))
            target.write_text(dump(path), encoding="utf-8")
        print(f"{target}: {target.stat().st_size} bytes")  # noqa: T201 - what a command is for


if __name__ == "__main__":
    main()

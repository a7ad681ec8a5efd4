from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from subprocess import PIPE, Popen
from typing import Any

import pytest

from flue.durable.records import (
    EventRow,
    JournalRecord,
    Message,
    Outcome,
    Retention,
    RunQuery,
    StepResult,
    Wake,
    Writes,
)
from flue.stores import SqliteStore
from flue.stores.presence import SUPPORTED, Presence
from flue.stores.sql.history import old_rows, runs_query
from flue.testing.work_contract import LEASE, admission, claim_one, claimant
from tests.stores.everything import everything
from tests.stores.faults import watching
from tests.stores.plans import slow_statements

pipes = pytest.mark.skipif(not SUPPORTED, reason="this platform has no named pipes; leases tell")

OTHER = """
import asyncio, sys
from flue.stores import SqliteStore
from flue.testing.work_contract import admission, claimant

async def main():
    store = SqliteStore(sys.argv[1])
    await store.enlist("other", now=0, lease_until=10**15)
    for n in range(3):
        await store.admit(admission(f"s{n}", f"l{n % 2}", home="other"), now=0)
    await store.claim([claimant("a", "other")], now=0)
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


FOLLOWER = """
import asyncio, sys
from flue.stores import SqliteStore

async def main():
    store = SqliteStore(sys.argv[1])
    store.listen(lambda wake: print("ready", flush=True))
    await asyncio.Event().wait()

asyncio.run(main())
"""


@contextmanager
def other_process(path: Path, script: str = OTHER) -> Iterator[Popen[str]]:
    with Popen([sys.executable, "-c", script, str(path)], stdout=PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


async def hear(heard: asyncio.Queue[Wake], kind: str) -> None:
    while (await heard.get()).kind != kind:
        pass


# DUR-14
@pipes
@pytest.mark.faults
async def test_a_killed_processes_work_is_taken_over_at_once_and_in_order(tmp_path: Path) -> None:
    heard: asyncio.Queue[Wake] = asyncio.Queue()
    store = SqliteStore(tmp_path / "flue.db")
    await store.enlist("one", now=0, lease_until=10**15)
    store.listen(heard.put_nowait)
    with other_process(tmp_path / "flue.db") as process:
        assert await store.take_over("one", now=1) == 0
        assert await store.claim([claimant("x"), claimant("y")], now=1) == [], "it belongs to a process that lives"
        process.kill()
        await hear(heard, "gone")
    assert await store.take_over("one", now=2) == 3
    claims = await store.claim([claimant(f"b{n}") for n in range(3)], now=2)
    assert [(claim.id, claim.submission.interruptions) for claim in claims] == [("s0", 1), ("s1", 0)]
    await store.retire("one", now=3)
    await store.aclose()
    again = SqliteStore(tmp_path / "flue.db")
    assert await again.take_over("two", now=3) == 0
    await again.aclose()
    assert [path.name for path in tmp_path.iterdir()] == ["flue.db"]


@pipes
@pytest.mark.faults
async def test_a_process_that_starts_later_finds_the_dead_ones_work(tmp_path: Path) -> None:
    with other_process(tmp_path / "flue.db"):
        pass
    store = SqliteStore(tmp_path / "flue.db")
    await store.enlist("one", now=0, lease_until=10**15)
    assert await store.take_over("one", now=1) == 3
    await store.aclose()


@pipes
async def test_processes_wake_each_other_for_work_and_aborts(tmp_path: Path) -> None:
    heard: asyncio.Queue[Wake] = asyncio.Queue()
    one, two = SqliteStore(tmp_path / "flue.db"), SqliteStore(tmp_path / "flue.db")
    await one.enlist("one", now=0, lease_until=LEASE)
    await two.enlist("two", now=0, lease_until=LEASE)
    one.listen(heard.put_nowait)
    await two.admit(admission("first", home="two"), now=0)
    claim = await claim_one(two, "a1", "two")
    await one.admit(admission("second", home="one"), now=0)
    await two.settle(claim, Outcome("completed"), now=1)
    await hear(heard, "work")
    assert (await claim_one(one, "b1")).id == "second"
    await two.cancel("second", "enough", now=2)
    await hear(heard, "cancel")
    await two.retire("two", now=3)
    await one.aclose()
    await two.aclose()


@pipes
async def test_processes_hear_of_each_others_events(tmp_path: Path) -> None:
    heard: asyncio.Queue[Wake] = asyncio.Queue()
    one, two = SqliteStore(tmp_path / "flue.db"), SqliteStore(tmp_path / "flue.db")
    await one.enlist("one", now=0, lease_until=LEASE)
    # It owns nothing: whoever only reads is told as well. First to look at everything: until now nobody knew of it.
    stop = two.listen(heard.put_nowait)
    assert await heard.get() == Wake("events")
    await one.admit(admission("a1", "lane-a", home="one"), now=0)
    await one.admit(admission("a2", "lane-a", home="one"), now=0)
    claim = await claim_one(one, "x", "one")
    long = "l" * 600
    events = (EventRow("a1", 0, 1, "{}"), EventRow(long, 0, 1, "{}"))
    for log in ("a1", long):
        await one.reserve_indices(log, 2)
    await one.checkpoint(claim, Writes(events=events))
    told = {await heard.get() for _ in range(2)}
    assert told == {Wake("events", key="a1"), Wake("events")}
    await one.cancel("a2", "enough", now=1)
    assert await heard.get() == Wake("events", key="a2"), "it has ended, without an event"
    assert [path.name[:4] for path in (tmp_path / "flue.db-owners").glob("ear-*")] == ["ear-"]
    stop()
    await one.reserve_indices("a1", 1)
    await one.checkpoint(claim, Writes(events=(EventRow("a1", 2, 2, "{}"),)))
    await gone(tmp_path / "flue.db-owners")
    assert heard.empty()
    await two.aclose()
    await one.retire("one", now=2)
    await one.aclose()
    assert [path.name for path in tmp_path.iterdir()] == ["flue.db"]


async def gone(directory: Path) -> None:
    """Wait until no pipe is left for the names of logs."""
    async with asyncio.timeout(10):
        while list(directory.glob("ear-*")):  # noqa: ASYNC110 - it is another thread's
            await asyncio.sleep(0.001)


# DUR-40
@pipes
def test_logs_that_nobody_follows_wake_no_process(tmp_path: Path) -> None:
    worker, follower = Heard(), Heard()
    one, two, three = Presence(tmp_path, lambda _: None), Presence(tmp_path, worker), Presence(tmp_path, follower)
    one.register("one")
    two.register("two")
    three.follow()
    # Each owner greets it once it knows of it; the first then knows the second, too.
    while follower.next() != Wake("events", key="log"):
        one.ring([Wake("events", key="log")])
    one.ring([Wake("work", "two")])
    assert worker.next() == Wake("work")
    for presence in (one, two, three):
        presence.close()


@pipes
def test_who_follows_again_is_told_though_others_have_not_noticed_that_it_had_stopped(tmp_path: Path) -> None:
    busy, go_on, follower = threading.Event(), threading.Event(), Heard()

    def tell(wakes: Iterable[Wake]) -> None:
        if list(wakes):
            busy.set()
            assert go_on.wait(10)

    one, two = Presence(tmp_path, tell), Presence(tmp_path, follower)
    one.register("one")
    unfollow = two.follow()
    assert follower.next() == Wake("events")
    two.ring([Wake("work", "one")])
    assert busy.wait(10)
    unfollow()
    before = ears(tmp_path)
    one.ring([Wake("events", key="nobody's")])
    while ears(tmp_path) == before:
        pass
    two.follow()
    while not ears(tmp_path):
        pass
    go_on.set()
    while follower.next() != Wake("events", key="log"):
        one.ring([Wake("events", key="log")])
    one.close()
    two.close()


def ears(directory: Path) -> set[int]:
    """Return the pipes for the names of logs."""
    with os.scandir(directory) as entries:
        return {entry.inode() for entry in entries if entry.name.startswith("ear-")}


class Heard:
    """What a presence tells."""

    def __init__(self) -> None:
        self._wakes: SimpleQueue[Wake] = SimpleQueue()

    def __call__(self, wakes: Iterable[Wake]) -> None:
        for wake in wakes:
            self._wakes.put(wake)

    def next(self) -> Wake:
        return self._wakes.get(timeout=10)


@pipes
@pytest.mark.faults
async def test_a_follower_that_was_killed_is_forgotten(tmp_path: Path) -> None:
    heard: asyncio.Queue[Wake] = asyncio.Queue()
    store = SqliteStore(tmp_path / "flue.db")
    await store.enlist("one", now=0, lease_until=10**15)
    store.listen(heard.put_nowait, events=False)
    with other_process(tmp_path / "flue.db", FOLLOWER):
        pass
    await gone(tmp_path / "flue.db-owners")
    await store.admit(admission("s1", home="one"), now=0)
    assert await heard.get() == Wake("work", "one"), "nobody's work is to be taken over"
    await store.aclose()


@pipes
def test_an_owner_that_heard_too_much_at_once_looks_at_everything(tmp_path: Path) -> None:
    heard: list[Wake] = []
    greeted, asleep, awake, done = (threading.Event() for _ in range(4))

    def tell(wakes: Iterable[Wake]) -> None:
        heard.extend(wakes)
        if Wake("work") in heard:
            asleep.set()
            assert awake.wait(10)
        if Wake("events") in heard:
            (done if awake.is_set() else greeted).set()

    one, two = Presence(tmp_path, lambda _: None), Presence(tmp_path, tell)
    one.register("one")
    two.register("two")
    two.follow()
    assert greeted.wait(10)
    heard.clear()
    one.ring([Wake("work", "two")])
    assert asleep.wait(10)
    one.ring(Wake("events", key=f"log-{number}") for number in range(20_000))
    awake.set()
    assert done.wait(10)
    assert len(heard) < 20_000
    one.close()
    two.close()


async def test_what_another_living_owner_accepted_is_left_to_it(tmp_path: Path) -> None:
    """It would start there at once, and each process takes up its own when the other is gone."""
    store = SqliteStore(tmp_path / "flue.db")
    for owner in ("one", "two"):
        await store.enlist(owner, now=0, lease_until=LEASE)
    await store.admit(admission("s1", home="two"), now=0)
    assert await store.claim([claimant("a1")], now=0) == []
    assert await store.claim([claimant("a2")], now=0, lanes=["lane"]) == []
    assert await store.take_over("one", now=0) == 0
    assert (await claim_one(store, "b1", "two")).id == "s1"
    await store.aclose()


# DUR-40
async def test_what_has_to_wait_or_has_begun_wakes_nobody(tmp_path: Path) -> None:
    heard: asyncio.Queue[Wake] = asyncio.Queue()
    store = SqliteStore(tmp_path / "flue.db")
    await store.enlist("one", now=0, lease_until=LEASE)
    stop = store.listen(heard.put_nowait)
    await store.admit(admission("s1"), now=0, claimant=claimant("a1"))
    await store.admit(admission("s2"), now=0)
    await store.cancel("s2", "enough", now=1)
    wakes = [await heard.get()]
    while wakes[-1] != Wake("events", key="s2"):
        wakes.append(await heard.get())
    assert "work" not in [wake.kind for wake in wakes]
    stop()
    await store.aclose()


# DUR-16
async def test_what_has_ended_leaves_no_lane_behind_however_often_it_is_repeated(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "flue.db")
    await store.admit(admission("s1"), now=0)
    await store.settle(await claim_one(store, "a1"), Outcome("completed"), now=1)
    assert not (await store.admit(admission("s1"), now=2)).created
    await store.aclose()
    connection = sqlite3.connect(tmp_path / "flue.db")
    assert connection.execute("SELECT * FROM lanes").fetchall() == []
    connection.close()


# DUR-17
async def test_what_retention_deletes_leaves_nothing_behind(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "flue.db")
    await store.enlist("one", now=0, lease_until=LEASE)
    admitted = await store.admit(admission("s1", key="k", reserve=9), now=0, claimant=claimant("a1"))
    assert admitted.claim is not None
    await store.deliver("s1", Message("m", "x"), now=0)
    everything = Writes(
        journal=(JournalRecord("note", "n"),), steps=(StepResult("a", "1"),), events=(EventRow("s1", 0, 0, "e"),)
    )
    await store.settle(admitted.claim, Outcome("completed"), now=1, writes=everything)
    while await store.prune(Retention(submissions=2, receipts=2)):
        pass
    await store.retire("one", now=3)
    await store.aclose()
    connection = sqlite3.connect(tmp_path / "flue.db")
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    left = {name for name in tables if connection.execute(f"SELECT * FROM {name}").fetchall()}  # noqa: S608
    connection.close()
    assert left == {"sqlite_sequence"}


# DUR-16
async def test_no_statement_reads_a_whole_table_or_sorts(tmp_path: Path) -> None:
    statements: set[str] = set()
    store = SqliteStore(tmp_path / "flue.db", connect=watching(statements.add))
    await everything(store)
    await store.aclose()
    pages = [
        RunQuery(before=(1, "x"), status=status, target=name) for status in (None, "active") for name in (None, "w")
    ]
    statements |= {runs_query(query)[0] for query in pages} | {old_rows("submissions"), old_rows("runs")}
    connection = sqlite3.connect(tmp_path / "flue.db")
    slow = slow_statements(connection, statements)
    connection.close()
    # All owners are looked at when one is gone; there are as many as processes. The other lists all that there is.
    assert set(slow) == {
        "SELECT owner FROM owners ORDER BY owner",
        "SELECT id, spec, next_at FROM schedules ORDER BY id",
    }


@pipes
async def test_closing_is_heard_also_when_it_is_read_together_with_what_came_just_before(tmp_path: Path) -> None:
    closed, reading = threading.Event(), threading.Event()

    class Slow(Presence):
        """One that reads what woke it only when all that closing says has been said."""

        def _read(self, *arguments: Any) -> Any:
            reading.set()
            closed.wait(5)
            return super()._read(*arguments)

        def _interrupt(self) -> None:
            super()._interrupt()
            if self._closing:
                closed.set()

    presence = Slow(tmp_path / "owners", lambda wakes: None)
    presence.register("one")
    presence.unregister("one")
    await asyncio.to_thread(reading.wait, 5)
    async with asyncio.timeout(5):
        await asyncio.to_thread(presence.close)


@pipes
def test_an_owner_that_comes_and_dies_while_nobody_looks_is_found_dead(tmp_path: Path) -> None:
    heard, busy, go_on = Heard(), threading.Event(), threading.Event()

    def tell(wakes: Iterable[Wake]) -> None:
        heard(told := list(wakes))
        if Wake("work") in told:
            busy.set()
            assert go_on.wait(10)

    one, two = Presence(tmp_path, tell), Presence(tmp_path, lambda _: None)
    one.register("one")
    two.ring([Wake("work", "one")])
    assert busy.wait(10)
    two.register("two")
    two.close()
    go_on.set()
    assert (heard.next(), heard.next()) == (Wake("work"), Wake("gone"))
    one.ring([Wake("work")])
    one.close()


# DUR-14
@pipes
def test_the_dead_are_told_from_the_living_and_pipes_of_dead_strangers_are_cleared_away(tmp_path: Path) -> None:
    directory = tmp_path / "owners"
    presences = [Presence(directory, lambda _: None) for _ in range(3)]
    one, two, three = presences
    for presence, owner in zip(presences, ("one", "two", "three"), strict=True):
        presence.register(owner)
    assert one.gone(["one", "two"]) == []
    assert len(list(directory.iterdir())) == 3
    two.close()
    three.close()
    assert one.gone(["one", "two"]) == ["two"]
    assert one.gone(["one", "two"]) == ["two"], "until it is retired for it"
    assert len(list(directory.iterdir())) == 2
    assert one.gone(["one"]) == []
    one.unregister("one")
    one.close()
    assert not directory.exists()


# DUR-40
@pipes
def test_a_wake_for_one_owner_is_heard_by_that_one_and_another_by_all(tmp_path: Path) -> None:
    heard = Heard(), Heard()
    one, two, three = (Presence(tmp_path, tell) for tell in (lambda _: None, *heard))
    one.register("one")
    two.register("two")
    three.register("three")
    one.ring([Wake("cancel", "two"), Wake("work")])
    assert [heard[0].next(), heard[0].next(), heard[1].next()] == [Wake("cancel"), Wake("work"), Wake("work")]
    for presence in (one, two, three):
        presence.close()


@pipes
def test_whoever_followed_leaves_nothing_behind_when_it_is_closed_also_twice(tmp_path: Path) -> None:
    heard = Heard()
    one, two = Presence(tmp_path / "owners", heard), Presence(tmp_path / "owners", lambda _: None)
    one.register("one")
    two.register("two")
    one.follow()
    assert heard.next() == Wake("events")
    two.unregister("two")
    two.close()
    one.unregister("one")
    one.unregister("one")
    one.close()
    one.close()
    assert not (tmp_path / "owners").exists()


@pipes
def test_an_owner_that_could_have_no_pipe_can_have_one_later(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    heard = Heard()
    one, two = Presence(tmp_path, heard), Presence(tmp_path, lambda _: None)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(OSError, match="open files"):
            one.register("one")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert two.gone(["one"]) == []
    one.register("one")
    two.ring([Wake("work", "one")])
    assert heard.next() == Wake("work")
    one.close()
    two.close()


@pipes
def test_owners_that_come_and_go_take_no_open_files_along(tmp_path: Path) -> None:
    presence = Presence(tmp_path, lambda _: None)
    presence.register("first")
    before = len(list(Path("/dev/fd").iterdir()))
    for number in range(100):
        presence.register(f"{number}")
        presence.unregister(f"{number}")
    assert len(list(Path("/dev/fd").iterdir())) < before + 50
    presence.close()


def test_where_nobody_has_been_nobody_is_gone(tmp_path: Path) -> None:
    assert Presence(tmp_path / "owners", lambda _: None).gone(["one"]) == []


@pipes
def test_the_pipes_are_their_users_alone(tmp_path: Path) -> None:
    presence = Presence(tmp_path / "owners", lambda _: None)
    presence.register("one")
    (pipe,) = (tmp_path / "owners").iterdir()
    assert [stat.filemode(path.stat().st_mode) for path in (pipe.parent, pipe)] == ["drwx------", "prw-------"]
    presence.close()


@pipes
async def test_a_process_that_may_open_no_more_files_goes_on_writing_and_hears_of_others_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    resource = pytest.importorskip("resource")
    heard: asyncio.Queue[Wake] = asyncio.Queue()
    store = SqliteStore(tmp_path / "flue.db")
    store.listen(heard.put_nowait, events=False)
    for owner in ("one", "two"):
        await store.enlist(owner, now=0, lease_until=10**15)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        async with asyncio.timeout(5):
            await store.admit(admission("s1"), now=0)
            await store.retire("two", now=0)  # which has the pipes looked at
            await store.cancel("s1", "enough", now=0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "failed" not in caplog.text
    other = Presence(tmp_path / "flue.db-owners", lambda _: None)
    other.register("other")
    other.close()
    async with asyncio.timeout(5):
        await hear(heard, "gone")
        await store.aclose()


@pipes
def test_without_a_thread_nobody_is_heard_and_later_all_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    heard = Heard()
    one, two = Presence(tmp_path, heard), Presence(tmp_path, lambda _: None)
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError, match="new thread"):
            one.register("one")
        one.close()
    one = Presence(tmp_path, heard)
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError, match="new thread"):
            one.register("one")
    one.register("one")
    two.ring([Wake("work", "one")])
    assert heard.next() == Wake("work")
    one.close()

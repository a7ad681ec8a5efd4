from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from flue.stores import group_commit
from flue.stores.connection import Connection
from flue.stores.group_commit import GroupCommit, Verdict, Work
from tests.stores.faults import watching


@pytest.fixture
def statements() -> list[str]:
    return []


@pytest.fixture
async def writer(tmp_path: Path, statements: list[str]) -> AsyncIterator[GroupCommit]:
    def connect() -> Connection:
        connection = watching(statements.append)(str(tmp_path / "x.db"))
        connection.execute("CREATE TABLE IF NOT EXISTS t (x INTEGER PRIMARY KEY)")
        return connection

    writer = GroupCommit(
        connect,
        judge=lambda error: "reopen",
        explain=lambda error: error,
        closed=lambda: RuntimeError("closed"),
        name="writer",
    )
    yield writer
    await writer.aclose()


@asynccontextmanager
async def held(writer: GroupCommit) -> AsyncIterator[None]:
    """Keep the writer busy: what it is given within the block it writes together, afterwards."""
    begun, go_on = threading.Event(), threading.Event()

    def hold(_: Connection) -> None:
        begun.set()
        go_on.wait(5)

    holding = writer.submit(hold)
    await asyncio.to_thread(begun.wait, 5)
    try:
        yield
    finally:
        go_on.set()
    await holding


def insert(*values: int, fail: bool = False) -> Work[int]:
    def work(connection: Connection) -> int:
        for value in values:
            connection.execute("INSERT INTO t VALUES (?)", (value,))
        if fail:
            raise LookupError("changed its mind")
        return sum(values)

    return work


def stored(connection: Connection) -> list[int]:
    return [row[0] for row in connection.execute("SELECT x FROM t ORDER BY x").fetchall()]


async def test_work_gives_what_it_returns(writer: GroupCommit) -> None:
    assert await writer.submit(insert(1, 2)) == 3
    assert await writer.submit(stored) == [1, 2]


async def test_work_that_raises_is_undone_alone_and_its_awaiter_told(writer: GroupCommit) -> None:
    results = await asyncio.gather(
        writer.submit(insert(1)),
        writer.submit(insert(2, 3, fail=True)),
        writer.submit(insert(4, 1)),
        writer.submit(insert(5)),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [int, LookupError, sqlite3.IntegrityError, int]
    assert await writer.submit(stored) == [1, 5]


async def test_work_that_breaks_the_transaction_fails_its_group_and_later_work_succeeds(writer: GroupCommit) -> None:
    def break_off(connection: Connection) -> None:
        connection.execute("ROLLBACK")
        raise LookupError("gone")

    await writer.settled()
    one, broken, two = writer.submit(insert(1)), writer.submit(break_off), writer.submit(insert(2))
    together: list[asyncio.Future[Any]] = [one, broken, two]
    await asyncio.wait(together)
    assert isinstance(broken.exception(), LookupError)
    # Which of its neighbours were in its group depends on when the writer looked.
    kept = [work.result() for work in (one, two) if not work.exception()]
    assert await writer.submit(stored) == kept


# DUR-41
async def test_those_who_shared_a_commit_share_the_next_however_many_rounds_they_take_to_write_again(
    writer: GroupCommit, statements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "_PATIENCE", 10.0)

    async def go_on(number: int) -> None:
        for turn in range(10):
            await writer.submit(insert(10 * turn + number))
            for _ in range(number % 4):
                await asyncio.sleep(0)
                time.sleep(0.0002)  # noqa: ASYNC251 - the writer is to have time to look

    async with held(writer):
        going = asyncio.gather(*(go_on(number) for number in range(10)))
        await asyncio.sleep(0)  # all of them have asked
    await going
    assert statements.count("COMMIT") == 1 + 10


async def test_a_loop_that_is_stuck_holds_up_those_who_share_a_commit_with_it_for_a_moment_only(
    writer: GroupCommit,
) -> None:
    assert await beside_a_stuck_loop(writer, [insert(1), insert(2)]) == [1, 2, 3]


# DUR-41
async def test_a_lone_write_makes_nobody_wait(writer: GroupCommit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "_PATIENCE", 1000.0)
    assert await beside_a_stuck_loop(writer, [insert(1)]) == [1, 3]


async def beside_a_stuck_loop(writer: GroupCommit, theirs: Sequence[Work[int]]) -> list[int]:
    """Write here while another loop, that was told that its writes are done, does nothing else any more."""
    queued, written, let_go = threading.Event(), threading.Event(), threading.Event()

    async def get_stuck() -> None:
        writes = [writer.submit(work) for work in theirs]
        queued.set()
        await asyncio.wait(writes)
        written.set()
        let_go.wait()

    blocked = writer.submit(lambda _: queued.wait())
    thread = threading.Thread(target=lambda: asyncio.run(get_stuck()))
    thread.start()
    await asyncio.to_thread(written.wait)
    try:
        assert await blocked
        async with asyncio.timeout(5):
            await writer.submit(insert(3))
            return await writer.submit(stored)
    finally:
        let_go.set()
        await asyncio.to_thread(thread.join)


async def test_pending_names_what_is_being_written_until_it_is_committed(writer: GroupCommit) -> None:
    work = writer.submit(insert(1), touches=("a", "b"))
    assert (writer.pending(), writer.pending("a"), writer.pending("c")) == (True, True, False)
    await work
    assert not writer.pending()
    begun, gates = threading.Event(), (threading.Event(), threading.Event())

    def first(_: Connection) -> bool:
        begun.set()
        return gates[0].wait(5)

    one = writer.submit(first, touches=("a",))
    await asyncio.to_thread(begun.wait, 5)
    two = writer.submit(lambda _: gates[1].wait(5), touches=("a",))
    gates[0].set()
    assert await one
    assert writer.pending("a")
    gates[1].set()
    assert await two
    assert not writer.pending("a")


async def test_where_several_write_at_once_each_does_so_in_the_same_order_and_what_has_none_comes_last(
    tmp_path: Path,
) -> None:
    """Two that lock the same rows in different orders would wait for each other."""
    writer = GroupCommit(
        lambda: watching(lambda _: None)(str(tmp_path / "x.db")),
        judge=lambda error: "reopen",
        explain=lambda error: error,
        closed=lambda: RuntimeError("closed"),
        name="writer",
        in_order=True,
    )
    done: list[str] = []

    def noted(name: str) -> Work[None]:
        return lambda _: done.append(name)

    async with aclosing(writer):
        async with held(writer):
            given = (("none", ""), ("b1", "b"), ("a", "a"), ("b2", "b"))
            works = [writer.submit(noted(name), order=order) for name, order in given]
        await asyncio.gather(*works)
    assert done == ["a", "b1", "b2", "none"]


async def test_a_store_that_nobody_closes_keeps_no_process_alive(writer: GroupCommit) -> None:
    await writer.settled()
    assert [thread.daemon for thread in threading.enumerate() if thread.name == "writer"] == [True]


async def test_a_closed_writer_refuses_work(writer: GroupCommit) -> None:
    await writer.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await writer.submit(insert(1))
    with pytest.raises(RuntimeError, match="closed"):
        await writer.settled()


async def test_what_follows_a_commit_may_fail_and_the_writer_goes_on(
    writer: GroupCommit, caplog: pytest.LogCaptureFixture
) -> None:
    """What was committed is said to be, and what is logged says what went wrong."""

    def fail() -> None:
        raise OSError("too many open files")

    async with asyncio.timeout(5):
        assert await writer.submit(insert(1), after=fail) == 1
        assert await writer.submit(stored) == [1]
    assert "too many open files" in caplog.text


async def test_without_a_thread_a_write_fails_and_a_later_one_gets_one(
    writer: GroupCommit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", fail)
        refused = writer.submit(insert(1))
        with pytest.raises(RuntimeError, match="new thread"):
            await refused
    assert not writer.pending()
    async with asyncio.timeout(5):
        await writer.submit(insert(2))
        assert await writer.submit(stored) == [2]


class Failing:
    """A connection of which some statements fail."""

    def __init__(self, connection: Connection, fails: Callable[[str], Exception | None]) -> None:
        self._connection = connection
        self._fails = fails

    def execute(self, sql: str, *parameters: Any) -> Any:
        if (error := self._fails(sql)) is not None:
            raise error
        return self._connection.execute(sql, *parameters)

    def close(self) -> None:
        self._connection.close()
        raise OSError("it was gone already")


class Scene:
    """A writer whose connections fail as told. `errors` are those of the next commits."""

    def __init__(self, path: Path, verdict: Verdict) -> None:
        self.errors: list[Exception] = []
        self.together = 1000
        """How many insertions a commit may have."""
        self.opened = 0
        self._path = path
        self._inserted = 0
        self.writer = GroupCommit(
            self._connect,
            judge=lambda error: verdict if isinstance(error, OSError) else "keep",
            explain=lambda error: LookupError(f"explained: {error}"),
            closed=lambda: RuntimeError("closed"),
            name="writer",
        )

    def _connect(self) -> Any:
        self.opened += 1
        connection = watching(lambda _: None)(str(self._path))
        connection.execute("CREATE TABLE IF NOT EXISTS t (x INTEGER PRIMARY KEY)")
        return Failing(connection, self._fails)

    def _fails(self, sql: str) -> Exception | None:
        self._inserted = 0 if sql.startswith("BEGIN") else self._inserted + sql.startswith("INSERT")
        if sql != "COMMIT":
            return None
        return OSError("too much") if self._inserted > self.together else self.errors.pop() if self.errors else None

    async def at_once(self, *works: Work[Any] | None, cancelled: int | None = None) -> list[Any]:
        """Have works done in one transaction, where that can be; None waits for all there is."""
        async with held(self.writer):
            futures = [self.writer.settled() if work is None else self.writer.submit(work) for work in works]
            if cancelled is not None:
                futures[cancelled].cancel()
        async with asyncio.timeout(5):
            return await asyncio.gather(*futures, return_exceptions=True)


@pytest.fixture
async def scene(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    scene = Scene(tmp_path / "x.db", request.param)
    yield scene
    await scene.writer.aclose()


def verdict(*verdicts: Verdict) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("scene", verdicts, indirect=True)


# DUR-20
@verdict("each_alone")
async def test_what_is_too_much_for_one_transaction_is_written_in_several(scene: Scene) -> None:
    scene.together = 1
    results = await scene.at_once(insert(1), insert(2, 3), insert(4), None)
    assert [results[0], str(results[1]), *results[2:]] == [1, "explained: too much", 4, None]
    assert await scene.writer.submit(stored) == [1, 4]
    assert scene.opened == 1


# DUR-20
@pytest.mark.parametrize(("scene", "opened"), [("retry", 1), ("retry_reopened", 3)], indirect=["scene"])
async def test_a_transaction_that_may_go_better_is_tried_again_a_few_times(scene: Scene, opened: int) -> None:
    await scene.writer.settled()
    scene.errors = [OSError("lost")] * 2
    assert await scene.writer.submit(insert(1)) == 1
    assert scene.opened == opened
    scene.errors = [OSError("lost")] * 100
    with pytest.raises(LookupError, match="explained: lost"):
        await scene.writer.submit(insert(2))
    assert 90 < len(scene.errors) < 98
    scene.errors.clear()
    assert await scene.writer.submit(stored) == [1]


# DUR-20
@verdict("retry")
async def test_work_that_meets_what_may_go_better_is_done_again_with_its_neighbours(scene: Scene) -> None:
    tries = 0

    def meet(connection: Connection) -> int:
        nonlocal tries
        tries += 1
        insert(2)(connection)
        if tries < 3:
            raise OSError("they waited for each other")
        return tries

    assert await scene.at_once(insert(1), meet, insert(4)) == [1, 3, 4]
    assert await scene.writer.submit(stored) == [1, 2, 4]


# DUR-20
@pytest.mark.parametrize(("scene", "opened"), [("keep", 1), ("reopen", 2)], indirect=["scene"])
async def test_a_transaction_that_failed_is_undone_and_the_next_goes_well(scene: Scene, opened: int) -> None:
    await scene.writer.settled()
    scene.errors = [OSError("bad luck")]
    with pytest.raises(LookupError, match="explained: bad luck"):
        await scene.writer.submit(insert(1))
    assert await scene.writer.submit(insert(3)) == 3
    assert await scene.writer.submit(stored) == [3]
    assert scene.opened == opened


@verdict("keep")
async def test_whoever_waits_for_all_there_is_and_whoever_waits_no_more_disturb_nobody(scene: Scene) -> None:
    _, *others = await scene.at_once(insert(1), insert(2), None, cancelled=0)
    assert others == [2, None]
    assert await scene.writer.submit(stored) == [1, 2]


@verdict("keep")
async def test_a_loop_that_has_been_closed_meanwhile_stops_nobody(scene: Scene) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        begun.set()
        go_on.wait(5)
        insert(1)(connection)

    async def leave() -> None:
        scene.writer.submit(hold)
        begun.wait(5)

    await asyncio.to_thread(lambda: asyncio.run(leave()))
    go_on.set()
    async with asyncio.timeout(5):
        assert await scene.writer.submit(stored) == [1]

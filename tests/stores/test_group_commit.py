from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from flue.stores.connection import Connection
from flue.stores.group_commit import GroupCommit, Work


@pytest.fixture
async def writer(tmp_path: Path) -> AsyncIterator[GroupCommit]:
    def connect() -> Connection:
        connection = sqlite3.connect(tmp_path / "x.db", isolation_level=None, check_same_thread=False)
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


async def test_pending_names_what_is_being_written_until_it_is_committed(writer: GroupCommit) -> None:
    work = writer.submit(insert(1), touches=("a", "b"))
    assert (writer.pending(), writer.pending("a"), writer.pending("c")) == (True, True, False)
    await work
    assert not writer.pending()


async def test_a_closed_writer_refuses_work(writer: GroupCommit) -> None:
    await writer.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await writer.submit(insert(1))
    with pytest.raises(RuntimeError, match="closed"):
        await writer.settled()

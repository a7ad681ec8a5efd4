from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from flue.errors import DurabilityError
from flue.ports import EntryRow
from flue.stores import SqliteStore
from flue.testing.store_contract import entry, head, ids, outcome
from tests.stores.faults import failure, watching

pytestmark = pytest.mark.faults

FULL = (sqlite3.SQLITE_FULL, "database or disk is full", "store_full")
BROKEN = (sqlite3.SQLITE_IOERR | 4 << 8, "disk I/O error", "store_io")  # SQLITE_IOERR_FSYNC
LOCKED = (sqlite3.SQLITE_BUSY, "database is locked", "store_locked")


class FaultAt:
    """Makes the nth statement fail, counted from 0."""

    def __init__(self, position: int | None, code: int, text: str) -> None:
        self.statements = 0
        self._position = position
        self._failure = (code, text)

    def __call__(self, sql: str) -> None:
        position, self.statements = self.statements, self.statements + 1
        if position == self._position:
            raise failure(*self._failure)


async def converse(path: Path, fault: FaultAt) -> list[str]:
    """Append to one session and check all the way that what was reported is there; return the failures' codes."""
    store = SqliteStore(path, connect=watching(fault))
    durable: list[str] = []
    codes = []
    for id in ("a", "b", "c"):
        result = await outcome(store, "s", len(durable), entry(id))
        if result == "written":
            durable.append(id)
        else:
            codes.append(result)
        try:
            found = await store.load_session("s")
        except DurabilityError as error:
            codes.append(error.code)
            found = await store.load_session("s")
        assert (ids(found) if found else []) == durable
    await store.aclose()
    again = SqliteStore(path)
    assert ids(await again.load_session("s")) == durable
    await again.aclose()
    assert len(durable) + len(codes) >= 3
    return codes


@pytest.mark.parametrize(("code", "text", "name"), [FULL, BROKEN, LOCKED], ids=["full", "io", "locked"])
async def test_a_fault_at_any_statement_fails_one_operation_and_loses_nothing_reported(
    tmp_path: Path, code: int, text: str, name: str
) -> None:
    sound = FaultAt(None, code, text)
    assert await converse(tmp_path / "sound.db", sound) == []
    failed = 0
    for position in range(sound.statements):
        codes = await converse(tmp_path / f"{position}.db", FaultAt(position, code, text))
        # A full disk at a commit of one append, or a busy moment while opening, may be got over unseen.
        assert codes in ([], [name])
        failed += len(codes)
    assert failed > sound.statements // 2


async def test_a_write_too_large_for_the_disk_fails_alone_and_later_writes_work(tmp_path: Path) -> None:
    def small_disk(path: str) -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA max_page_count = 100")
        return connection

    store = SqliteStore(tmp_path / "flue.db", connect=small_disk)
    await store.append_entries("s", head("a"), [entry("a")], expected=0)
    large = EntryRow("big", "x" * 1_000_000)
    appends = [("t", 0, entry("a")), ("big", 0, large), ("s", 1, entry("b"))]
    outcomes = await asyncio.gather(*(outcome(store, *append) for append in appends))
    assert outcomes == ["written", "store_full", "written"]
    assert await outcome(store, "s", 2, entry("c")) == "written"
    assert ids(await store.load_session("s")) == ["a", "b", "c"]
    assert await store.list_sessions() == ["s", "t"]
    with pytest.raises(DurabilityError, match=r"flue\.db is on a full disk.*Free some space"):
        await store.append_entries("big", head("big"), [large], expected=0)
    await store.aclose()


async def test_a_commit_that_finds_the_disk_full_is_repeated_one_by_one(tmp_path: Path) -> None:
    appends = 0

    def full_for_two(sql: str) -> None:
        nonlocal appends
        if sql == "BEGIN IMMEDIATE":
            appends = 0
        elif sql.startswith("INSERT INTO entries"):
            appends += 1
        elif sql == "COMMIT" and appends > 1:
            raise failure(sqlite3.SQLITE_FULL, "database or disk is full")

    store = SqliteStore(tmp_path / "flue.db", connect=watching(full_for_two))
    outcomes = await asyncio.gather(*(outcome(store, f"s{n}", 0, entry("a")) for n in range(5)))
    assert outcomes == ["written"] * 5
    assert len(await store.list_sessions()) == 5
    await store.aclose()


async def test_a_database_locked_by_another_process_fails_after_the_busy_timeout_and_then_works(tmp_path: Path) -> None:
    path = tmp_path / "flue.db"
    store = SqliteStore(path, busy_timeout=0.02)
    await store.append_entries("s", head("a"), [entry("a")], expected=0)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DurabilityError, match=r"flue\.db stayed locked by another process") as caught:
        await store.append_entries("s", head("b"), [entry("b")], expected=1)
    assert caught.value.code == "store_locked"
    assert ids(await store.load_session("s")) == ["a"]
    other.execute("ROLLBACK")
    other.close()
    assert await outcome(store, "s", 1, entry("b")) == "written"
    await store.aclose()


async def test_a_lock_held_for_less_than_the_busy_timeout_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "flue.db"
    store = SqliteStore(path)
    await store.append_entries("s", head("a"), [entry("a")], expected=0)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    write = asyncio.ensure_future(store.append_entries("s", head("b"), [entry("b")], expected=1))
    reading = SqliteStore(path)
    await reading.list_sessions()
    assert not write.done()
    await reading.aclose()
    other.execute("ROLLBACK")
    other.close()
    await write
    await store.aclose()


@pytest.mark.parametrize(
    ("path", "code"),
    [("folder", "store_cannot_open"), ("text.md/flue.db", "store_cannot_open"), ("text.md", "store_foreign_file")],
)
async def test_a_path_that_cannot_be_a_database_is_named_with_a_next_step(tmp_path: Path, path: str, code: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.md").write_text("# Notes\n" * 200)
    store = SqliteStore(tmp_path / path)
    with pytest.raises(DurabilityError) as caught:
        await store.load_session("s")
    assert caught.value.code == code
    assert str(tmp_path / path) in caught.value.message
    assert caught.value.hint
    await store.aclose()
    assert (tmp_path / "text.md").read_text() == "# Notes\n" * 200


async def test_text_that_is_not_valid_unicode_is_refused_and_its_neighbours_written(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "flue.db")
    bad = EntryRow("bad", '"half a pair: \ud83d"')
    appends = {"a": [entry("a")], "b": [entry("ok"), bad], "c": [entry("a")]}
    outcomes = await asyncio.gather(*(outcome(store, key, 0, *entries) for key, entries in appends.items()))
    assert outcomes == ["written", "store_invalid_text", "written"]
    assert await store.list_sessions() == ["a", "c"]
    await store.aclose()

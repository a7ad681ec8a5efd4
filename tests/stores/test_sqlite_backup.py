from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from flue.durable.records import JournalRecord, Outcome
from flue.errors import DurabilityError
from flue.stores import SqliteStore
from flue.testing.store_contract import entry, head, ids
from flue.testing.work_contract import LEASE, admission, claim_one, writing
from tests.stores.faults import failure, watching


async def backup_code(store: SqliteStore, path: Path, *, overwrite: bool = False) -> str:
    """Return the code of the error that a backup raises."""
    with pytest.raises(DurabilityError) as caught:
        await store.backup(path, overwrite=overwrite)
    assert str(path) in caught.value.message
    return caught.value.code


async def read_copy(path: Path) -> tuple[int, int]:
    """Return how many entries and how many journal records a copy has."""
    copy = SqliteStore(path)
    session = await copy.load_session("session")
    journal = await copy.load_journal("s1")
    await copy.aclose()
    return len(ids(session)) if session else 0, len(journal)


# DUR-22
async def test_backups_taken_while_a_writer_works_are_each_one_state_between_two_commits(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "flue.db")
    await store.admit(admission("s1"), now=0)
    claim = await claim_one(store, "a1")
    written, done = 0, asyncio.Event()

    async def work() -> None:
        nonlocal written
        while not done.is_set():
            record = JournalRecord("note", f"n{written}", '"' + "x" * 2000 + '"')
            await store.checkpoint(claim, writing("session", f"e{written}", written, record))
            written += 1

    working = asyncio.create_task(work())
    for number in range(8):
        before = written
        await store.backup(tmp_path / f"{number}.db")
        entries, records = await read_copy(tmp_path / f"{number}.db")
        assert entries == records, "half of a checkpoint"
        assert before <= entries <= written + 1
    done.set()
    await working
    await store.aclose()
    assert written > 8
    assert sorted(path.name for path in tmp_path.iterdir()) == [*(f"{number}.db" for number in range(8)), "flue.db"]


class Slowly:
    """Opens connections of which that of a backup stops in the middle until it is told to go on."""

    def __init__(self) -> None:
        self._thousands = 0
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def connect(self, path: str) -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        connection.set_progress_handler(self._step, 1000)
        return connection

    def _step(self) -> int:
        if threading.current_thread().name.startswith("flue-store-backup"):
            self._thousands += 1
            if self._thousands == 5:  # well after the schema has been read
                self.reached.set()
                assert self.go_on.wait(10)
        return 0


# DUR-22
async def test_readers_and_the_writer_go_on_during_a_backup(tmp_path: Path) -> None:
    slowly = Slowly()
    store = SqliteStore(tmp_path / "flue.db", connect=slowly.connect)
    before = [str(n) for n in range(2000)]
    await store.append_entries("s", head("1999"), [entry(id) for id in before], expected=0)
    backup = asyncio.create_task(store.backup(tmp_path / "copy.db"))
    await asyncio.to_thread(slowly.reached.wait, 10)
    await store.append_entries("s", head("b"), [entry("b")], expected=2000)
    assert ids(await store.load_session("s")) == [*before, "b"]
    assert not (tmp_path / "copy.db").exists()
    slowly.go_on.set()
    await backup
    await store.aclose()
    copy = SqliteStore(tmp_path / "copy.db")
    assert ids(await copy.load_session("s")) == before, "it is the state that the backup began with"
    await copy.aclose()


async def test_a_file_is_replaced_only_when_asked_for(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "flue.db")
    (tmp_path / "copy.db").write_text("something else")
    assert await backup_code(store, tmp_path / "copy.db") == "backup_exists"
    assert (tmp_path / "copy.db").read_text() == "something else"
    await store.append_entries("s", head("a"), [entry("a")], expected=0)
    await store.backup(tmp_path / "copy.db", overwrite=True)
    assert stat.S_IMODE((tmp_path / "copy.db").stat().st_mode) == 0o600
    copy = SqliteStore(tmp_path / "copy.db")
    assert await copy.list_sessions() == ["s"]
    # Its write-ahead log would be played into the copy that replaces it.
    assert await backup_code(store, tmp_path / "copy.db", overwrite=True) == "backup_exists"
    assert await backup_code(copy, tmp_path / "copy.db", overwrite=True) == "backup_exists"
    await copy.aclose()
    await store.aclose()


async def test_a_file_that_came_during_the_backup_is_not_replaced(tmp_path: Path) -> None:
    slowly = Slowly()
    store = SqliteStore(tmp_path / "flue.db", connect=slowly.connect)
    await store.append_entries("s", head("x"), [entry(str(n)) for n in range(2000)], expected=0)
    backup = asyncio.create_task(store.backup(tmp_path / "copy.db"))
    await asyncio.to_thread(slowly.reached.wait, 10)
    (tmp_path / "copy.db").write_text("something else")
    slowly.go_on.set()
    with pytest.raises(DurabilityError, match=r"copy\.db is there already"):
        await backup
    await store.aclose()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.db", "flue.db"]
    assert (tmp_path / "copy.db").read_text() == "something else"


# DUR-22
async def test_a_backup_is_on_disk_before_it_has_its_name_and_its_name_before_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore(tmp_path / "flue.db")
    await store.append_entries("s", head("a"), [entry("a")], expected=0)
    synced: list[tuple[str, bool]] = []

    def fsync(descriptor: int) -> None:
        kind = "directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        synced.append((kind, (tmp_path / "copy.db").exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    await store.backup(tmp_path / "copy.db")
    await store.aclose()
    assert synced == [("file", False), ("directory", True)]


@pytest.mark.parametrize("taken", [False, True])
async def test_a_backup_is_put_where_there_are_no_links_and_never_in_the_place_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, taken: bool
) -> None:
    """One that came in the last moment is there when the link is made."""

    def hardlink_to(path: Path, part: Path) -> None:
        raise OSError(errno.EEXIST if taken else errno.EPERM, "no link")

    store = SqliteStore(tmp_path / "flue.db")
    await store.append_entries("s", head("a"), [entry("a")], expected=0)
    monkeypatch.setattr(Path, "hardlink_to", hardlink_to)
    if taken:
        assert await backup_code(store, tmp_path / "copy.db") == "backup_exists"
    else:
        await store.backup(tmp_path / "copy.db")
    await store.aclose()
    assert {path.name for path in tmp_path.iterdir()} == ({"flue.db"} if taken else {"copy.db", "flue.db"})


async def test_a_backup_that_fails_leaves_nothing_and_the_store_works(tmp_path: Path) -> None:
    def full(sql: str) -> None:
        if sql.startswith("VACUUM"):
            raise failure(sqlite3.SQLITE_FULL, "database or disk is full")

    store = SqliteStore(tmp_path / "flue.db", connect=watching(full))
    await store.append_entries("s", head("a"), [entry("a")], expected=0)
    assert await backup_code(store, tmp_path / "copy.db") == "store_full"
    assert await backup_code(store, tmp_path / "missing" / "copy.db") == "store_cannot_open"
    assert await store.list_sessions() == ["s"]
    await store.aclose()
    assert [path.name for path in tmp_path.iterdir()] == ["flue.db"]
    with pytest.raises(DurabilityError, match="is closed"):
        await store.backup(tmp_path / "copy.db")


async def test_what_was_accepted_goes_on_from_a_backup_once_the_lease_of_then_has_lapsed(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "flue.db")
    await store.enlist("one", now=0, lease_until=LEASE)
    for n in range(2):
        await store.admit(admission(f"s{n}", home="one"), now=0)
    await claim_one(store, "a1")
    await store.backup(tmp_path / "copy.db")
    await store.aclose()
    copy = SqliteStore(tmp_path / "copy.db")
    assert await copy.take_over("two", now=LEASE) == 2
    for n in range(2):
        claim = await claim_one(copy, f"b{n}", "two", now=LEASE)
        assert (claim.id, claim.submission.interruptions) == (f"s{n}", 1 - n)
        await copy.settle(claim, Outcome("completed"), now=LEASE)
    await copy.aclose()

from __future__ import annotations

import asyncio
import sqlite3
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from flue.durable.records import Outcome
from flue.errors import DurabilityError, UsageError
from flue.stores import SqliteStore
from flue.stores.sql.schema import SQLITE_MIGRATIONS as MIGRATIONS
from flue.stores.sqlite_file import connect, open_reader, open_writer
from flue.testing.store_contract import entry, head, ids, outcome
from flue.testing.work_contract import admission, claim_one, code_of
from tests.stores.faults import watching


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_the_file_and_a_directory_made_for_it_are_their_owners_alone(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "new" / "deep" / "flue.db")
    await store.append_entries("s", head("a"), [entry("a")], expected=0)
    assert mode(tmp_path / "new") == mode(tmp_path / "new" / "deep") == 0o700
    files = sorted((tmp_path / "new" / "deep").iterdir())
    assert [file.name for file in files] == ["flue.db", "flue.db-shm", "flue.db-wal"]
    assert [mode(file) for file in files] == [0o600] * 3
    await store.aclose()


async def test_an_existing_file_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "flue.db"
    path.touch(mode=0o640)
    before = mode(path)
    store = SqliteStore(path)
    await store.append_entries("s", head("a"), [entry("a")], expected=0)
    await store.aclose()
    assert mode(path) == before


async def test_closing_leaves_one_file_and_a_store_that_was_never_used_leaves_none(tmp_path: Path) -> None:
    used, unused = SqliteStore(tmp_path / "used.db"), SqliteStore(tmp_path / "unused.db")
    await used.append_entries("s", head("a"), [entry("a")], expected=0)
    await used.load_session("s")
    await used.aclose()
    await unused.aclose()
    assert [file.name for file in tmp_path.iterdir()] == ["used.db"]


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "flue.db")
    await store.append_entries("s", head("a"), [entry("a")], expected=0)
    await store.aclose()
    for operation in (
        store.append_entries("s", head("b"), [entry("b")], expected=1),
        store.load_session("s"),
        store.list_sessions(),
        store.delete_sessions(["s"]),
    ):
        with pytest.raises(DurabilityError, match=r"flue\.db is closed") as caught:
            await operation
        assert caught.value.code == "store_closed"


@pytest.mark.parametrize("path", ["", ":memory:"])
def test_a_store_without_a_file_is_refused_and_the_memory_store_named(path: str) -> None:
    with pytest.raises(UsageError, match="MemoryStore"):
        SqliteStore(path)


def test_the_package_is_imported_without_a_database_module() -> None:
    program = "import sys, flue.stores; assert 'MemoryStore' in dir(flue.stores); print('sqlite3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_one_store_serves_several_event_loops(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "flue.db")

    async def append(n: int) -> None:
        await store.append_entries("s", head(str(n)), [entry(str(n))], expected=n)

    for n in range(3):
        asyncio.run(append(n))

    async def load() -> list[str]:
        found = ids(await store.load_session("s"))
        await store.aclose()
        return found

    assert asyncio.run(load()) == ["0", "1", "2"]


# ------------------------------------------------------------------------------------------------ group commit


class Gate:
    """Holds the writer in its first commit, and counts commits and their appends."""

    def __init__(self) -> None:
        self.commits: list[int] = []
        self.reached = threading.Event()
        self.open = threading.Event()
        self._appends = 0

    def __call__(self, sql: str) -> None:
        if sql.startswith("INSERT INTO entries"):
            self._appends += 1
        if sql == "COMMIT" and self._appends:
            self.commits.append(self._appends)
            self._appends = 0
            self.reached.set()
            assert self.open.wait(10)


async def test_appends_that_arrive_during_a_commit_are_committed_together_by_the_next(tmp_path: Path) -> None:
    gate = Gate()
    store = SqliteStore(tmp_path / "flue.db", connect=watching(gate))
    first = store.append_entries("s0", head("a"), [entry("a")], expected=0)
    await asyncio.to_thread(gate.reached.wait, 10)
    rest = [store.append_entries(f"s{n}", head("a"), [entry("a")], expected=0) for n in range(1, 64)]
    gate.open.set()
    await asyncio.gather(first, *rest)
    assert gate.commits == [1, 63]
    await store.aclose()


async def test_reading_one_session_does_not_wait_for_a_commit_of_another(tmp_path: Path) -> None:
    path = tmp_path / "flue.db"
    before = SqliteStore(path)
    await before.append_entries("old", head("a"), [entry("a")], expected=0)
    await before.aclose()
    gate = Gate()
    store = SqliteStore(path, connect=watching(gate))
    assert ids(await store.load_session("old")) == ["a"]
    write = asyncio.ensure_future(store.append_entries("new", head("b"), [entry("b")], expected=0))
    await asyncio.to_thread(gate.reached.wait, 10)
    assert ids(await store.load_session("old")) == ["a"]
    assert not write.done()
    gate.open.set()
    await write
    await store.aclose()


async def test_an_append_and_a_load_cost_the_same_whatever_the_length_of_the_session(tmp_path: Path) -> None:
    steps = 0

    def counting(path: str) -> sqlite3.Connection:
        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        connection.set_progress_handler(count, 1)
        return connection

    store = SqliteStore(tmp_path / "flue.db", connect=counting)

    async def costs(position: int) -> tuple[int, int]:
        begun = steps
        await store.append_entries("s", replace(head("x"), start=position - 5), [entry("x")], expected=position)
        appended = steps
        assert len(ids(await store.load_session("s"))) == 6
        return appended - begun, steps - appended

    await store.append_entries("s", head("x"), [entry(str(n)) for n in range(10)], expected=0)
    await store.load_session("s")  # the reader looks at the schema once
    early = await costs(10)
    await store.append_entries("s", head("x"), [entry(str(n)) for n in range(3000)], expected=11)
    late = await costs(3011)
    await store.aclose()
    assert min(early) > 10
    assert late == early


# ------------------------------------------------------------------------------------------------------ format


# DUR-21
async def test_a_newer_format_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "flue.db"
    open_writer(path, connect, 1.0, [*MIGRATIONS, ["CREATE TABLE later (x)"]]).close()
    before = path.read_bytes()
    store = SqliteStore(path)
    with pytest.raises(DurabilityError, match=r"flue\.db has format \d+; .*Upgrade") as caught:
        await store.load_session("s")
    assert caught.value.code == "store_newer_format"
    assert await outcome(store, "s", 0, entry("a")) == "store_newer_format"
    assert await code_of(store.enlist("one", now=0, lease_until=1)) == "store_newer_format"
    assert await code_of(store.admit(admission("s1"), now=0)) == "store_newer_format"
    assert await code_of(store.get_submission("s1")) == "store_newer_format"
    await store.aclose()
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["flue.db"]


# DUR-21
async def test_a_file_of_each_earlier_format_is_migrated_and_takes_work(tmp_path: Path) -> None:
    assert len(MIGRATIONS) > 1
    for found in range(len(MIGRATIONS)):
        path = tmp_path / f"{found}.db"
        open_writer(path, connect, 1.0, MIGRATIONS[:found]).close()
        if found:
            old = connect(str(path))
            old.execute("INSERT INTO sessions VALUES (1, 'kept', 3, 1, 'a', '{}', '', '')")
            old.execute("INSERT INTO entries VALUES (1, 0, 'a', '{}')")
            old.close()
        store = SqliteStore(path)
        assert await store.list_sessions() == ["kept"] * bool(found)
        kept = await store.load_session("kept")
        assert kept is None or (ids(kept), kept.head.start, kept.head.usage) == (["a"], 0, None)
        await store.append_entries("kept", head("b"), [entry("b")], expected=int(found > 0))
        await store.admit(admission("s1"), now=0)
        await store.settle(await claim_one(store, "a1"), Outcome("completed"), now=1)
        await store.aclose()


async def test_an_older_format_is_migrated_with_its_sessions(tmp_path: Path) -> None:
    path = tmp_path / "flue.db"
    store = SqliteStore(path)
    await store.append_entries("s", head("a"), [entry("a")], expected=0)
    await store.aclose()
    added = ["CREATE TABLE later (x)", "ALTER TABLE sessions ADD COLUMN colour TEXT DEFAULT 'blue'"]
    migrated = open_writer(path, connect, 1.0, [*MIGRATIONS, added])
    assert migrated.execute("SELECT key, colour FROM sessions").fetchall() == [("s", "blue")]
    assert migrated.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 1,)
    migrated.close()


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "flue.db"
    open_writer(path, connect, 1.0).close()
    with pytest.raises(sqlite3.OperationalError, match="no such table: nowhere"):
        open_writer(path, connect, 1.0, [*MIGRATIONS, ["CREATE TABLE later (x)", "INSERT INTO nowhere VALUES (1)"]])
    again = open_writer(path, connect, 1.0)
    assert again.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    assert again.execute("SELECT count(*) FROM sqlite_master WHERE name = 'later'").fetchone() == (0,)
    again.close()


async def test_stores_that_create_one_file_at_the_same_time_all_work(tmp_path: Path) -> None:
    stores = [SqliteStore(tmp_path / "new" / "flue.db") for _ in range(8)]
    outcomes = await asyncio.gather(*(outcome(store, f"s{n}", 0, entry("a")) for n, store in enumerate(stores)))
    assert outcomes == ["written"] * 8
    assert len(await stores[0].list_sessions()) == 8
    await asyncio.gather(*(store.aclose() for store in stores))


async def test_the_database_of_another_application_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE invoices (x)")
    other.close()
    before = path.read_bytes()
    store = SqliteStore(path)
    assert await outcome(store, "s", 0, entry("a")) == "store_foreign_file"
    await store.aclose()
    assert path.read_bytes() == before


async def test_every_commit_is_synced_in_full(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "flue.db", connect, 1.0)
    full = 2  # https://sqlite.org/pragma.html#pragma_synchronous
    assert writer.execute("PRAGMA synchronous").fetchone() == (full,)
    assert writer.execute("PRAGMA fullfsync").fetchone() == (1,)
    assert writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    writer.close()


async def test_a_locked_file_is_waited_for_as_long_as_was_asked_and_readers_write_nothing(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "flue.db", connect, 0.25)
    reader = open_reader(tmp_path / "flue.db", connect, 0.75)
    assert writer.execute("PRAGMA busy_timeout").fetchone() == (250,)
    assert reader.execute("PRAGMA busy_timeout").fetchone() == (750,)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("CREATE TABLE t (x)")
    reader.close()
    writer.close()

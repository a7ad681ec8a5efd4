"""What is particular to a store in a Durable Object: its tables, its values, long texts, its format."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flue.cloudflare.storage import store as object_store
from flue.cloudflare.storage.statements import LONG
from flue.cloudflare.storage.store import MIGRATIONS, DurableObjectStore
from flue.durable.records import (
    EventRow,
    JournalRecord,
    Message,
    Outcome,
    Retention,
    RunQuery,
    Schedule,
    SessionAppend,
    StepResult,
    Wait,
    Writes,
)
from flue.errors import DurabilityError
from flue.ports import EntryRow
from flue.stores import SqliteStore
from flue.stores.sql.history import old_rows, runs_query
from flue.stores.sql.schema import SQLITE_MIGRATIONS
from flue.testing import VirtualClock
from flue.testing.store_contract import entry, head, ids
from flue.testing.work_contract import admission, claim_one, claimant, code_of
from tests.architecture.rooms import modules
from tests.architecture.test_core_purity import banned_imports
from tests.cloudflare.standin.storage import Disk, Storage
from tests.stores.dump import dump
from tests.stores.everything import everything
from tests.stores.plans import slow_statements

# 3 MB in UTF-8 of characters of one to four bytes, so that none may be cut in two.
LONG_TEXT = '{"text":"' + "aé会🜁" * 300_000 + '"}'


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk()
    yield disk
    disk.close()


def opened(disk: Disk, statements: list[str] | None = None) -> DurableObjectStore:
    clock = VirtualClock()
    before = (lambda _: None) if statements is None else statements.append
    return DurableObjectStore(Storage(disk, now=clock.now_ms, before=before), clock)


def rows(disk: Disk, sql: str) -> list[Any]:
    return disk.inner.execute(sql).fetchall()


# ---------------------------------------------------------------------------------------------- tables, values


async def test_an_object_holds_the_same_values_of_the_same_types_as_a_file(disk: Disk, tmp_path: Path) -> None:
    store, file = opened(disk), SqliteStore(tmp_path / "flue.db")
    await everything(store)
    await everything(file)
    await file.aclose()
    connection = sqlite3.connect(tmp_path / "flue.db")
    expected = dump(connection)
    found = {name.removeprefix("flue_"): table for name, table in dump(disk.inner).items()}
    for only in ("format", "untold", "_cf_METADATA"):
        found.pop(only, None)
    # An object has one owner at a time, so nothing has a home.
    columns = [row[1] for row in connection.execute("PRAGMA table_info(submissions)")]
    home = columns.index("home")
    expected["submissions"] = [(*row[:home], "", *row[home + 1 :]) for row in expected["submissions"]]
    # Names in the table of numbers given so far.
    found["sqlite_sequence"] = [(name.removeprefix("flue_"), last) for name, last in found["sqlite_sequence"]]
    connection.close()
    assert {name: sorted(map(repr, table)) for name, table in found.items()} == {
        name: sorted(map(repr, table)) for name, table in expected.items()
    }


async def test_an_application_may_have_tables_of_the_same_names_in_the_object(disk: Disk) -> None:
    clock = VirtualClock()
    storage = Storage(disk, now=clock.now_ms)
    storage.sql.exec("CREATE TABLE messages (text TEXT); INSERT INTO messages VALUES ('mine')")
    storage.sql.exec("CREATE TABLE events (x TEXT); CREATE INDEX submissions_ready ON events (x)")
    await everything(DurableObjectStore(storage, clock))
    assert rows(disk, "SELECT * FROM messages") == [("mine",)]
    names = {row[0] for row in rows(disk, "SELECT name FROM sqlite_master WHERE sql IS NOT NULL")}
    assert {name for name in names if not name.startswith("flue_")} == {
        *("messages", "events", "submissions_ready", "_cf_METADATA", "sqlite_sequence")
    }


async def test_integers_too_large_for_javascript_are_kept_and_read_as_near_as_it_can(disk: Disk) -> None:
    store = opened(disk)
    await store.put_schedule(Schedule("far", "{}", 2**60 + 1))
    assert rows(disk, "SELECT next_at, typeof(next_at) FROM flue_schedules") == [(2**60 + 1, "integer")]
    assert await store.next_due("one") == 2**60
    await store.admit(admission("s1", timeout_ms=2**55), now=0)
    claim = await claim_one(store, "a1", now=8)
    assert claim.submission.deadline_at == 2**55 + 8
    await store.park(claim, Wait("sleep", 2**54), now=9)
    (waiting,) = await store.list_lane("lane")
    assert waiting.wake_at == 2**54
    assert disk.alarm == 6_900_000_000_000, "in 2188, as the binding takes no later time"


async def test_half_of_a_surrogate_pair_is_refused_and_not_replaced(disk: Disk) -> None:
    store = opened(disk)
    assert await code_of(store.append_entries("s", head("a"), [EntryRow("a", '"\ud800"')], expected=0)) == (
        "store_invalid_text"
    )
    assert await store.list_sessions() == []


# DUR-16
async def test_no_statement_reads_a_whole_table_or_sorts(disk: Disk) -> None:
    statements: list[str] = []
    await everything(opened(disk, statements))
    pages = [RunQuery(before=(1, "x"), status=one, target=two) for one in (None, "active") for two in (None, "w")]
    queries = [runs_query(page)[0] for page in pages] + [old_rows("submissions"), old_rows("runs")]
    statements += [sql.replace(" submissions", " flue_submissions") for sql in queries]
    statements = [sql for sql in statements if sql.split()[0:1] not in ([], ["CREATE"])]
    assert "SELECT owner FROM flue_owners ORDER BY owner" in statements
    slow = slow_statements(disk.inner, set(statements) - {"SELECT changes()"}, small={"flue_untold"})
    assert set(slow) == {
        # Those of the isolates that came and went before anybody looked; the other lists all that there is.
        "SELECT owner FROM flue_owners ORDER BY owner",
        "SELECT id, spec, next_at FROM flue_schedules ORDER BY id",
    }


# ------------------------------------------------------------------------------------------------- long texts


# DUR-46
async def test_texts_longer_than_a_row_are_kept_wherever_they_may_occur(disk: Disk) -> None:
    first = EventRow("s1", 0, 0, LONG_TEXT, "stream")
    writes = Writes(
        journal=(JournalRecord("answer", "t1", LONG_TEXT), JournalRecord("note", "n", "{}")),
        sessions=(SessionAppend("s", head("b", {"x": LONG_TEXT}), (EntryRow("a", LONG_TEXT), entry("b")), 0),),
        events=(EventRow("s1", 1, 1, LONG_TEXT, "stream"), EventRow("s1", 2, 2, "short", "stream")),
        steps=(StepResult("pay", LONG_TEXT),),
    )
    store = opened(disk)
    await store.admit(admission("s1", payload=LONG_TEXT, events=(first,), reserve=9, recorded="workflow"), now=0)
    await store.deliver("s1", Message("m", "paid", LONG_TEXT), now=0)
    claim = await claim_one(store, "a1")
    assert claim.submission.payload == LONG_TEXT
    await store.checkpoint(claim, writes)
    await store.settle(claim, Outcome("failed", LONG_TEXT, LONG_TEXT), now=5)

    store = opened(disk)
    run = await store.get_run("s1")
    assert run is not None
    assert (run.payload, run.result, run.error) == (LONG_TEXT, LONG_TEXT, LONG_TEXT)
    assert [record.body for record in await store.load_journal("s1")] == [LONG_TEXT, "{}", "{}"]
    assert await store.load_steps("s1") == [StepResult("pay", LONG_TEXT)]
    assert await store.load_messages("s1") == [Message("m", "paid", LONG_TEXT)]
    session = await store.load_session("s")
    assert session is not None
    assert (session.head.metadata, session.entries[0].body, ids(session)) == ({"x": LONG_TEXT}, LONG_TEXT, ["a", "b"])
    expected = [LONG_TEXT, LONG_TEXT, "short"]
    assert [stored.row.body for stored in await store.read_events("s1")] == expected
    assert [stored.row.body for stored in await store.read_stream("stream")] == expected

    await store.delete_sessions(["s"])
    await store.prune(Retention(runs=100))
    assert rows(disk, "SELECT count(*) FROM flue_pieces") == [(0,)]


# DUR-46
async def test_a_long_text_goes_when_it_is_overwritten(disk: Disk) -> None:
    store = opened(disk)
    await store.append_entries("s", head(None, {"x": LONG_TEXT}), [], expected=0)
    await store.append_entries("s", head(None, {"y": LONG_TEXT}), [], expected=0)
    session = await store.load_session("s")
    assert session is not None
    assert session.head.metadata == {"y": LONG_TEXT}
    assert len(rows(disk, "SELECT DISTINCT text FROM flue_pieces")) == 1
    await store.append_entries("s", head(), [], expected=0)
    assert rows(disk, "SELECT count(*) FROM flue_pieces") == [(0,)]


# DUR-46
async def test_a_long_text_that_is_not_written_after_all_leaves_nothing(disk: Disk) -> None:
    store = opened(disk)
    await store.admit(admission("s1"), now=0)
    claim = await claim_one(store, "a1")
    for body in ("1", LONG_TEXT):
        await store.checkpoint(claim, Writes(steps=(StepResult("pay", body),)))
        await store.deliver("s1", Message("m", "paid", body), now=1)
    assert await store.load_steps("s1") == [StepResult("pay", "1")]
    assert await store.load_messages("s1") == [Message("m", "paid", "1")]
    conflict = store.append_entries("s", head("a"), [EntryRow("a", LONG_TEXT)], expected=7)
    assert await code_of(conflict) == "session_conflict"
    assert rows(disk, "SELECT count(*) FROM flue_pieces") == [(0,)]


@pytest.mark.parametrize("body", ["\x01flue:", "\x01flue:1", "\x01flue:x", "\x01", "x\x01flue:1"])
async def test_a_text_that_looks_like_a_reference_is_kept_as_it_is(disk: Disk, body: str) -> None:
    store = opened(disk)
    await store.append_entries(body, head(body), [EntryRow(body, body), EntryRow("b", LONG_TEXT)], expected=0)
    session = await store.load_session(body)
    assert session is not None
    assert (session.head.leaf_id, session.entries[0]) == (body, EntryRow(body, body))
    assert await store.list_sessions() == [body]


# DUR-46
async def test_a_key_longer_than_a_row_is_refused_before_anything_is_accepted(disk: Disk) -> None:
    store = opened(disk)
    for given in (admission("s1", key="k" * 3_000_000), admission("s" * 3_000_000), admission("s1", "l" * 3_000_000)):
        with pytest.raises(DurabilityError, match="cannot hold a value this large") as caught:
            await store.admit(given, now=0)
        assert caught.value.code == "store_too_big"
    assert await store.get_submission("s1") is None
    assert await store.get_receipt("k" * 1000) is None
    assert disk.alarm is None


def test_every_column_of_texts_of_any_length_is_known() -> None:
    """What users and models write goes into these columns; a new one must be decided about."""
    short = {
        *("key", "leaf_id", "created_at", "updated_at", "usage", "id", "lane", "kind", "target", "instance", "address"),
        *("state", "home", "digest", "owner", "attempt_id", "park_reason", "waiting_for", "cancel_reason", "outcome"),
        *("recorded", "status", "restarted_from", "restarted_as", "submission", "name", "log", "stream", "spec"),
    }
    connection = sqlite3.connect(":memory:")
    for migration in SQLITE_MIGRATIONS:
        for statement in migration:
            connection.execute(statement)
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    for table in tables:
        columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
        texts = {name for _, name, type, *_ in columns if type == "TEXT"}
        assert texts - short == set(LONG.get(table, ())), table
    connection.close()


# ----------------------------------------------------------------------------------------------------- format


async def test_a_new_object_has_the_newest_format(disk: Disk) -> None:
    assert await opened(disk).list_sessions() == []
    assert rows(disk, "SELECT version FROM flue_format") == [(len(MIGRATIONS),)]


# DUR-21
async def test_an_object_of_a_newer_version_is_refused_and_left_as_it_is(disk: Disk) -> None:
    await opened(disk).admit(admission("s1"), now=0)
    disk.inner.execute("UPDATE flue_format SET version = 99")
    before = dump(disk.inner)
    for call in (opened(disk).admit(admission("s2"), now=0), opened(disk).list_sessions()):
        with pytest.raises(DurabilityError, match="has format 99") as caught:
            await call
        assert caught.value.code == "store_newer_format"
    assert dump(disk.inner) == before


# DUR-21
async def test_a_migration_is_done_as_a_whole_or_not_at_all(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    await opened(disk).admit(admission("s1"), now=0)
    before = dump(disk.inner)
    broken = (*MIGRATIONS, ("CREATE TABLE flue_later (x)", "INSERT INTO nowhere VALUES (1)"))
    monkeypatch.setattr(object_store, "MIGRATIONS", broken)
    assert await code_of(opened(disk).admit(admission("s2"), now=0)) == "store_error"
    assert dump(disk.inner) == before
    monkeypatch.setattr(object_store, "MIGRATIONS", (*MIGRATIONS, ("CREATE TABLE flue_later (x)",)))
    assert [row.id for row in await opened(disk).list_lane("lane")] == ["s1"]
    assert rows(disk, "SELECT count(*) FROM flue_later") == [(0,)]


def test_every_change_to_the_tables_of_a_file_is_one_of_an_objects_as_well() -> None:
    """Their formats are counted apart; what is added to a file's migrations must be added to an object's."""
    ours = " ".join(sql.replace("flue_", "") for migration in MIGRATIONS for sql in migration)
    for migration in SQLITE_MIGRATIONS:
        for statement in migration:
            assert statement in ours


# ------------------------------------------------------------------------------------------------------ owners


# DUR-45
async def test_what_an_isolate_ran_that_was_evicted_is_taken_over_at_once(disk: Disk) -> None:
    store = opened(disk)
    await store.enlist("one", now=0, lease_until=30_000)
    await store.admit(admission("s1"), now=0, claimant=claimant("a1", "one"))
    assert await store.take_over("other", now=1) == 0, "this isolate lives"
    store = opened(disk)
    await store.enlist("two", now=2, lease_until=30_002)
    assert await store.take_over("two", now=2) == 1
    claim = await claim_one(store, "a2", "two", now=2)
    assert claim.submission.interruptions == 1


async def test_a_transition_is_done_when_the_call_returns(disk: Disk) -> None:
    store = opened(disk)
    future = store.admit(admission("s1"), now=0)
    assert rows(disk, "SELECT id FROM flue_submissions") == [("s1",)]
    await store.aclose()
    assert (await future).created
    assert await code_of(store.admit(admission("s2"), now=0)) == "store_closed"


@pytest.mark.e2e
def test_a_worker_loads_neither_a_driver_nor_threads_of_its_own_with_the_store() -> None:
    program = "import flue.cloudflare.storage.store, sys; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "flue.stores.sql.store" in loaded
    assert not loaded & {"sqlite3", "psycopg", "pydantic", "httpx2", "flue.stores.group_commit", "flue.host"}
    ours = [module for module in modules() if module.name in loaded]
    assert not [found for module in ours for found in banned_imports(module)]

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flue.durable.port import DurableStore
from flue.durable.records import Claimant, EventRow, JournalRecord, Outcome, Wake, Writes
from flue.errors import DurabilityError
from flue.testing.history_contract import HistoryContract
from flue.testing.owner_contract import OwnerContract
from flue.testing.store_contract import DurableStoreContract, entry, head, ids
from flue.testing.work_contract import Opening, WorkContract, admission, claim_one
from tests.stores.postgres_server import INSTALL, PostgresServer, find_binaries
from tests.stores.test_work_machine import QUICK
from tests.stores.work_machine import WorkMachine

psycopg = pytest.importorskip("psycopg", reason="needs the extra: pip install 'flue-agents[postgres]'")
from flue.stores import postgres_connection  # noqa: E402  (after the check above)
from flue.stores.postgres import PostgresStore  # noqa: E402
from flue.stores.postgres_channel import Channel  # noqa: E402
from flue.stores.postgres_connection import LostConnectionError, PostgresConnection  # noqa: E402

BINARIES = find_binaries()
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(60),  # a server starts first, and crashes and recovers in between
    pytest.mark.skipif(BINARIES is None, reason=f"needs Postgres 15 or newer: {INSTALL}"),
]
URL = "FLUE_TEST_POSTGRES"


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[PostgresServer]:
    assert BINARIES is not None
    server = PostgresServer(BINARIES)
    server.start()
    # Child processes read it too.
    os.environ[URL] = server.url
    yield server
    server.stop()


def open_schema(name: str) -> PostgresStore:
    return PostgresStore(os.environ[URL], schema=name)


class InPostgres(Opening):
    opener = f"{__name__}:open_schema"

    def make_store(self, directory: Path) -> DurableStore:
        return open_schema(self.location(directory))

    def location(self, directory: Path) -> str:
        return "test_" + hashlib.sha256(str(directory).encode()).hexdigest()[:16]


class TestPostgresSessions(InPostgres, DurableStoreContract):
    pass


class TestPostgresWork(InPostgres, WorkContract):
    pass


class TestPostgresOwners(InPostgres, OwnerContract):
    pass


class TestPostgresHistory(InPostgres, HistoryContract):
    pass


class PostgresMachine(InPostgres, WorkMachine):
    pass


TestPostgresMachine = PostgresMachine.TestCase
TestPostgresMachine.settings = QUICK


async def work_through(store: DurableStore, owner: str, settled: list[str]) -> None:
    """Admit and settle in eight lanes until 40 submissions of this owner are settled."""

    async def lane(number: int) -> None:
        for n in range(5):
            id = f"{owner}-{number}-{n}"
            first = Claimant(owner, f"attempt-{id}", 10**9)
            admitted = await store.admit(admission(id, f"{owner}-{number}"), now=n, claimant=first)
            assert admitted.claim is not None
            await store.checkpoint(admitted.claim, Writes(journal=(JournalRecord("request", "t"),)))
            await store.settle(admitted.claim, Outcome("completed"), now=n)
            settled.append(id)

    await asyncio.gather(*(lane(number) for number in range(8)))


# DUR-15
async def test_a_restart_of_the_database_loses_and_doubles_nothing(tmp_path: Path, server: PostgresServer) -> None:
    settled: list[str] = []
    async with InPostgres().opened(tmp_path) as one, InPostgres().opened(tmp_path) as two:
        heard: asyncio.Queue[Wake] = asyncio.Queue()
        two.listen(heard.put_nowait)
        await heard.get()
        working = asyncio.gather(work_through(one, "one", settled), work_through(two, "two", settled))
        while len(settled) < 10:  # noqa: ASYNC110  (the workers have no other business than to fill the list)
            await asyncio.sleep(0)
        await asyncio.to_thread(server.restart)
        await working
        assert len(settled) == 80
        for id in settled:
            assert [record.kind for record in await one.load_journal(id)] == ["request", "settled"]
        while not heard.empty():
            heard.get_nowait()
        # What was notified meanwhile is lost; the listener is told to look.
        await one.admit(admission("after", "after"), now=9)
        while await heard.get() != Wake("work"):
            pass


# DUR-26
async def test_who_retires_gives_back_what_was_being_accepted_for_it(tmp_path: Path) -> None:
    """Lanes have writers of their own; a slow one must not enlist an owner again that has gone in good order."""
    name = InPostgres().location(tmp_path)
    async with InPostgres().opened(tmp_path) as store:
        assert await store.list_sessions() == []
        with postgres_connection.connect(os.environ[URL], name, 5) as other:
            other.execute("BEGIN")
            other.execute("LOCK TABLE lanes IN ACCESS EXCLUSIVE MODE")
            claimant = Claimant("one", "attempt", 10**9)
            late = [
                asyncio.ensure_future(store.admit(admission(f"s{n}", f"l{n}"), now=1, claimant=claimant))
                for n in range(9)
            ]
            gone = asyncio.ensure_future(store.retire("one", now=2))
            await asyncio.wait([gone], timeout=0.2)
            other.execute("COMMIT")
        await asyncio.gather(gone, *late)
        claims = await store.claim([Claimant("two", f"a{n}", 10**9) for n in range(10)], now=3)
        assert len(claims) == 9
        with postgres_connection.connect(os.environ[URL], name, 5) as other:
            assert other.execute("SELECT owner FROM owners").fetchall() == [("two",)]


# DUR-05
async def test_a_lease_is_renewed_while_every_lane_waits(tmp_path: Path) -> None:
    """However long the work of lanes takes to be written, whoever does it is not taken for dead."""
    name = InPostgres().location(tmp_path)
    async with InPostgres().opened(tmp_path) as store:
        await store.enlist("one", now=0, lease_until=10)
        with postgres_connection.connect(os.environ[URL], name, 5) as other:
            other.execute("BEGIN")
            other.execute("LOCK TABLE lanes IN ACCESS EXCLUSIVE MODE")
            claimant = Claimant("one", "attempt", 20)
            late = [
                asyncio.ensure_future(store.admit(admission(f"s{n}", f"l{n}"), now=1, claimant=claimant))
                for n in range(20)
            ]
            async with asyncio.timeout(5):
                await store.renew("one", [], now=9, lease_until=19)
            assert not any(admitting.done() for admitting in late)
            other.execute("COMMIT")
        await asyncio.gather(*late)


# DUR-15
async def test_a_commit_whose_answer_was_lost_is_found_out_and_not_repeated(tmp_path: Path) -> None:
    name = InPostgres().location(tmp_path)
    async with InPostgres().opened(tmp_path):
        pass
    opened = 0

    def connect() -> Any:
        nonlocal opened
        opened += 1
        return postgres_connection.connect(os.environ[URL], name, 5)

    raw = connect()
    postgres_connection.migrate(raw, name)
    connection = PostgresConnection(connect, Channel(name, "0"))
    for answered in (True, False):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO lanes (lane, depth) VALUES (?, 1)", (f"lane-{answered}",))
        lose_connection_at_commit(connection, committed=answered)
        if answered:
            connection.execute("COMMIT")
        else:
            with pytest.raises(LostConnectionError):
                connection.execute("COMMIT")
    assert raw.execute("SELECT lane FROM lanes").fetchall() == [("lane-True",)]
    assert opened == 4
    connection.close()
    raw.close()


def lose_connection_at_commit(connection: PostgresConnection, *, committed: bool) -> None:
    """Make the next COMMIT of a connection lose it, after or before the database has done it."""
    real = connection._raw

    class Losing:
        closed = False
        info = real.info

        def execute(self, sql: str) -> None:
            assert sql == "COMMIT"
            if committed:
                real.execute(sql)
            self.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")

        def close(self) -> None:
            self.closed = True
            real.close()

    connection._raw = Losing()  # type: ignore[assignment]


# DUR-15
async def test_a_crash_that_gives_the_number_of_a_lost_transaction_to_another_is_no_commit(
    tmp_path: Path, server: PostgresServer
) -> None:
    name = InPostgres().location(tmp_path)
    async with InPostgres().opened(tmp_path):
        pass

    def connect() -> Any:
        return postgres_connection.connect(os.environ[URL], name, 10)

    raw = connect()
    postgres_connection.migrate(raw, name)
    raw.close()
    connection = PostgresConnection(connect, Channel(name, "0"))
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO lanes (lane, depth) VALUES (?, 1)", ("lost",))
    connection.wait()
    commit = connection._raw.execute

    def crash(sql: str) -> Any:
        # Nothing of it is on disk; others use up its number and the next ones.
        server.restart()
        with connect() as other:
            for number in range(20):
                other.execute("INSERT INTO lanes (lane, depth) VALUES (%s, 1)", [f"lane-{number}"])
        return commit(sql)

    connection._raw.execute = crash  # type: ignore[method-assign,assignment]
    with pytest.raises(LostConnectionError):
        connection.execute("COMMIT")
    lanes = connection._raw.execute("SELECT COUNT(*), COUNT(*) FILTER (WHERE lane = 'lost') FROM lanes").fetchone()
    assert lanes == (20, 0)
    connection.close()


async def test_a_writer_that_ends_in_good_order_leaves_no_mark(tmp_path: Path) -> None:
    async with InPostgres().opened(tmp_path) as store:
        await store.admit(admission("s1"), now=1)
    async with InPostgres().opened(tmp_path) as store:
        assert isinstance(store, PostgresStore)
        assert await store._read(lambda tx: tx.rows("SELECT writer FROM writers")) == []


async def test_two_nodes_that_wait_for_each_other_are_both_served(tmp_path: Path) -> None:
    async with InPostgres().opened(tmp_path) as one, InPostgres().opened(tmp_path) as two:
        # The writers sort their work by lane, so the opposite order of these does not matter.
        lanes = [f"lane{n}" for n in range(12)]
        for _ in range(5):
            await asyncio.gather(
                *(one.admit(admission(f"one-{lane}-{_}", lane), now=1) for lane in lanes),
                *(two.admit(admission(f"two-{lane}-{_}", lane), now=1) for lane in reversed(lanes)),
            )
        assert [len(await one.list_lane(lane)) for lane in lanes] == [10] * 12


async def test_other_nodes_hear_of_work_of_aborts_and_of_events(tmp_path: Path) -> None:
    heard: asyncio.Queue[Wake] = asyncio.Queue()
    async with InPostgres().opened(tmp_path) as one, InPostgres().opened(tmp_path) as two:
        await one.enlist("one", now=0, lease_until=10**9)
        two.listen(heard.put_nowait)
        for _ in range(3):
            await heard.get()
        await one.admit(admission("s1", reserve=3), now=0)
        assert await heard.get() == Wake("work")
        claim = await claim_one(one, "a1")
        await one.checkpoint(claim, Writes(events=(EventRow("s1", 0, 0, "x"),)))
        assert await heard.get() == Wake("events", key="s1")
        await two.cancel("s1", "enough", now=1)
        assert await heard.get() == Wake("cancel", "one")


# DUR-40
async def test_logs_that_nobody_follows_elsewhere_are_not_notified(tmp_path: Path) -> None:
    """A commit that notifies keeps all others of the server waiting."""
    heard: asyncio.Queue[Wake] = asyncio.Queue()
    channel = Channel(InPostgres().location(tmp_path), "0")
    async with InPostgres().opened(tmp_path) as one, InPostgres().opened(tmp_path) as two:
        await one.admit(admission("s1", reserve=100), now=0)
        claim = await claim_one(one, "a1")
        with psycopg.connect(os.environ[URL], autocommit=True) as outside:
            channel.listen(outside)

            async def told(index: int) -> bool:
                await one.checkpoint(claim, Writes(events=(EventRow("s1", index, index, "x"),)))
                await one.admit(admission(f"then-{index}", f"then-{index}"), now=0)  # which is always told
                wakes: list[Wake] = []
                for notification in outside.notifies():
                    wakes += channel.read(notification.payload)
                    if Wake("work") in wakes:
                        break
                return Wake("events", key="s1") in wakes

            two.listen(lambda _: None, events=False)
            assert not await told(0)
            stop = two.listen(heard.put_nowait)
            for _ in range(3):
                await heard.get()
            assert await told(1)
            stop()
            await locks_are_given_up(outside)
            assert not await told(2)


async def locks_are_given_up(connection: Any) -> None:
    while connection.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' LIMIT 1").fetchone():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


# DUR-40
async def test_who_begins_to_follow_finds_what_is_being_committed(tmp_path: Path) -> None:
    """By looking, or by hearing of it: nothing falls in between."""
    async with InPostgres().opened(tmp_path) as one, InPostgres().opened(tmp_path) as two:
        await one.admit(admission("s1", reserve=1000), now=0)
        claim = await claim_one(one, "a1")
        two.listen(lambda _: None, events=False)
        for index in range(40):
            looking = asyncio.Event()
            written = one.checkpoint(claim, Writes(events=(EventRow("s1", index, index, "x"),)))
            for _ in range(index % 8):
                await asyncio.sleep(0.001)
            stop = two.listen(lambda _, look=looking: look.set())  # type: ignore[misc]
            async with asyncio.timeout(10):
                while not await two.read_events("s1", start=index):
                    await looking.wait()
                    looking.clear()
            stop()
            await written


async def test_a_database_that_is_not_there_is_named(tmp_path: Path) -> None:
    store = PostgresStore(f"postgresql:///x?host={tmp_path}", retry_for=0)
    with pytest.raises(DurabilityError, match="cannot be reached") as caught:
        await store.admit(admission("s1"), now=0)
    assert caught.value.code == "store_unreachable"
    await store.aclose()


async def test_closing_waits_for_no_database_that_is_away(tmp_path: Path) -> None:
    store = PostgresStore(f"postgresql:///x?host={tmp_path}", retry_for=60)
    store.listen(lambda _: None)
    reading = asyncio.create_task(store.get_run("r1"))
    writing = [asyncio.ensure_future(store.admit(admission(f"s{n}", f"lane {n}"), now=0)) for n in range(9)]
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await store.aclose()
        heard = await asyncio.gather(reading, *writing, return_exceptions=True)
    codes = [error.code for error in heard if isinstance(error, DurabilityError)]
    assert codes == 10 * ["store_unreachable"]


# DUR-21
async def test_a_schema_of_each_earlier_format_is_migrated_with_its_sessions(tmp_path: Path) -> None:
    assert len(postgres_connection.MIGRATIONS) > 1
    for found in range(1, len(postgres_connection.MIGRATIONS)):
        name = InPostgres().location(tmp_path / str(found))
        with postgres_connection.connect(os.environ[URL], name, 5) as old:
            postgres_connection.migrate(old, name, postgres_connection.MIGRATIONS[:found])
            old.execute(
                "INSERT INTO sessions (key, version, entries, leaf_id, metadata, created_at, updated_at)"
                " VALUES ('kept', 3, 1, 'a', '{}', '', '')"
            )
            old.execute("INSERT INTO entries SELECT number, 0, 'a', '{}' FROM sessions")
        async with InPostgres().opened(tmp_path / str(found)) as store:
            kept = await store.load_session("kept")
            assert kept is not None
            assert (ids(kept), kept.head.start, kept.head.usage) == (["a"], 0, None)
            await store.append_entries("kept", replace(head("b"), start=1), [entry("b")], expected=1, after="a")
            assert ids(await store.load_session("kept")) == ["b"]


# DUR-21
async def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    name = InPostgres().location(tmp_path)
    async with InPostgres().opened(tmp_path) as store:
        await store.admit(admission("s1"), now=0)
    with postgres_connection.connect(os.environ[URL], name, 5) as connection:
        connection.execute("UPDATE format SET version = 99")
    async with InPostgres().opened(tmp_path) as store:
        with pytest.raises(DurabilityError, match="format 99") as caught:
            await store.get_submission("s1")
        assert caught.value.code == "store_newer_format"


def test_a_machine_that_is_gone_is_noticed_in_time_unless_the_url_says_otherwise() -> None:
    url = os.environ[URL]
    with postgres_connection.connect(url, "public", 5) as usual:
        assert usual.info.get_parameters()["tcp_user_timeout"] == "20000"
    with postgres_connection.connect(f"{url}&tcp_user_timeout=1000", "public", 5) as own:
        assert own.info.get_parameters()["tcp_user_timeout"] == "1000"

"""What every `Store` must do, as test classes to subclass.

    class TestMyStore(StoreContract):
        def make_store(self, directory: Path) -> Store:
            return MyStore(directory / "sessions.db")

`DurableStoreContract` adds what a store that outlives its process must do; it starts child processes. Needs pytest
and pytest-asyncio.
"""

# ruff: noqa: D102  (the names of the tests are sentences)

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from flue.errors import DurabilityError
from flue.messages import Cost, Json, Usage
from flue.ports import EntryRow, SessionHead, Store, StoredSession

CREATED = "2026-01-02T03:04:05.678Z"


def entry(id: str, text: str = "hello") -> EntryRow:
    """Return an entry as the harness writes it."""
    body = {"type": "message", "id": id, "parentId": None, "timestamp": CREATED, "message": {"content": text}}
    return EntryRow(id, json.dumps(body, separators=(",", ":")))


def head(leaf_id: str | None = None, metadata: Json | None = None, updated_at: str = CREATED) -> SessionHead:
    """Return a session head."""
    return SessionHead(leaf_id, metadata if metadata is not None else {}, CREATED, updated_at)


def ids(session: StoredSession | None) -> list[str]:
    """Return the ids of a session's entries."""
    assert session is not None, "the session is missing"
    return [row.id for row in session.entries]


def texts(session: StoredSession | None) -> list[str]:
    """Return the texts of entries made by `entry`."""
    assert session is not None, "the session is missing"
    return [json.loads(row.body)["message"]["content"] for row in session.entries]


async def outcome(store: Store, key: str, expected: int, *entries: EntryRow) -> str:
    """Append and return `written`, or the code of the error."""
    try:
        await store.append_entries(key, head(entries[-1].id), entries, expected=expected)
    except DurabilityError as error:
        return error.code
    return "written"


@pytest.mark.asyncio
class StoreContract:
    """The contract of `flue.ports.Store`. A subclass says how a store is made.

    `keeps_start` is False for a store that keeps nothing but the exchange format, which has no `start` and no `usage`.
    """

    keeps_start = True

    def make_store(self, directory: Path) -> Store:
        """Return a store whose data lies in `directory`; two made for one directory share their sessions."""
        raise NotImplementedError

    @asynccontextmanager
    async def opened(self, directory: Path) -> AsyncIterator[Store]:
        """Open a store for a block."""
        store = self.make_store(directory)
        try:
            yield store
        finally:
            await store.aclose()

    async def test_a_session_that_was_never_written_is_none(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            assert await store.load_session("nobody") is None

    async def test_a_session_loads_as_it_was_appended(self, tmp_path: Path) -> None:
        metadata = {"tasks": [{"id": "t1", "nested": {"deep": [1, 2.5, None, True]}}], "title": "Ünïcode ✓"}
        written = head("b", metadata, "2026-01-02T03:04:06.000Z")
        async with self.opened(tmp_path) as store:
            await store.append_entries("s", written, [entry("a"), entry("b", "zwei")], expected=0)
        async with self.opened(tmp_path) as store:
            session = await store.load_session("s")
            assert session is not None
            assert session.head == written
            assert [(row.id, json.loads(row.body)) for row in session.entries] == [
                (row.id, json.loads(row.body)) for row in (entry("a"), entry("b", "zwei"))
            ]

    async def test_appends_add_at_the_end_and_replace_the_head(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.append_entries("s", head("a", {"n": 1}), [entry("a")], expected=0)
            await store.append_entries("s", head("c", {"n": 2}), [entry("b"), entry("c")], expected=1)
            session = await store.load_session("s")
            assert ids(session) == ["a", "b", "c"]
            assert session is not None
            assert session.head == head("c", {"n": 2})

    async def test_an_append_without_entries_creates_a_session_or_replaces_its_head(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.append_entries("s", head(None, {"n": 1}), [], expected=0)
            await store.append_entries("s", head(None, {"n": 2}), [], expected=0)
            session = await store.load_session("s")
            assert session == StoredSession(head(None, {"n": 2}), ())

    @pytest.mark.parametrize("start", [0, 1, 4, 5, 9])
    async def test_a_load_returns_the_entries_from_a_position_on(self, tmp_path: Path, start: int) -> None:
        names = ["a", "b", "c", "d", "e"]
        async with self.opened(tmp_path) as store:
            await store.append_entries("t", head("x"), [entry("x")], expected=0)
            await store.append_entries("s", head("e"), [entry(name) for name in names], expected=0)
            session = await store.load_session("s", start=start)
            assert ids(session) == names[start:]
            assert session is not None
            assert (session.first, session.count) == (min(start, 5), 5)

    async def test_a_load_begins_where_the_newest_head_says(self, tmp_path: Path) -> None:
        used = Usage(3, 4, 5, 6, Cost(0.1, 0.2, 0.3, 1e-9))
        early, late = replace(head("b"), start=1, usage=Usage(1)), replace(head("d"), start=2, usage=used)
        async with self.opened(tmp_path) as store:
            await store.append_entries("s", early, [entry("a"), entry("b")], expected=0)
            await store.append_entries("s", late, [entry("c"), entry("d")], expected=2, after="b")
        async with self.opened(tmp_path) as store:
            session, whole = await store.load_session("s"), await store.load_session("s", start=0)
            assert ids(whole) == ["a", "b", "c", "d"]
            assert session is not None
            assert session.count == 4
            assert session.head == (late if self.keeps_start else head("d"))
            assert ids(session) == (["c", "d"] if self.keeps_start else ids(whole))

    async def test_appends_queued_without_waiting_keep_their_order(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            writes = [store.append_entries("s", head(f"e{n}"), [entry(f"e{n}")], expected=n) for n in range(50)]
            await asyncio.gather(*writes)
            assert ids(await store.load_session("s")) == [f"e{n}" for n in range(50)]

    async def test_a_load_sees_what_was_queued_before_it(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            write = store.append_entries("s", head("a"), [entry("a")], expected=0)
            assert ids(await store.load_session("s")) == ["a"]
            assert await store.list_sessions() == ["s"]
            await write

    async def test_what_the_caller_changes_after_an_append_is_not_stored(self, tmp_path: Path) -> None:
        metadata: Json = {"list": [1]}
        entries = [entry("a")]
        async with self.opened(tmp_path) as store:
            write = store.append_entries("s", head("a", metadata), entries, expected=0)
            metadata["list"].append(2)
            entries.append(entry("b"))
            await write
            session = await store.load_session("s")
            assert ids(session) == ["a"]
            assert session is not None
            assert session.head.metadata == {"list": [1]}

    @pytest.mark.parametrize("expected", [0, 1, 3])
    async def test_an_append_to_a_session_of_another_length_is_refused_and_writes_nothing(
        self, tmp_path: Path, expected: int
    ) -> None:
        async with self.opened(tmp_path) as store:
            await store.append_entries("s", head("b", {"n": 1}), [entry("a"), entry("b")], expected=0)
            with pytest.raises(DurabilityError, match="s was changed by someone else") as caught:
                await store.append_entries("s", head("x", {"n": 2}), [entry("x")], expected=expected)
            assert caught.value.code == "session_conflict"
            session = await store.load_session("s")
            assert ids(session) == ["a", "b"]
            assert session is not None
            assert session.head == head("b", {"n": 1})

    async def test_an_append_after_another_entry_than_the_last_is_refused(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.append_entries("s", head("b"), [entry("a"), entry("b")], expected=0)
            with pytest.raises(DurabilityError, match="s was changed by someone else") as caught:
                await store.append_entries("s", head("x"), [entry("x")], expected=2, after="a")
            assert caught.value.code == "session_conflict"
            await store.append_entries("s", head("c"), [entry("c")], expected=2, after="b")
            assert ids(await store.load_session("s")) == ["a", "b", "c"]

    async def test_an_append_queued_behind_a_refused_one_is_refused_too(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.append_entries("s", head("theirs"), [entry("theirs")], expected=0)
            mine = [
                store.append_entries("s", head("a"), [entry("a")], expected=0),
                store.append_entries("s", head("b"), [entry("b")], expected=1, after="a"),
            ]
            codes = [getattr(error, "code", error) for error in await asyncio.gather(*mine, return_exceptions=True)]
            assert codes == ["session_conflict", "session_conflict"]
            assert ids(await store.load_session("s")) == ["theirs"]

    async def test_an_append_that_continues_a_missing_session_is_refused(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            assert await outcome(store, "s", 4, entry("a")) == "session_conflict"
            with pytest.raises(DurabilityError, match="s was changed by someone else"):
                await store.append_entries("s", head("b"), [entry("b")], expected=0, after="a")
            assert await store.load_session("s") is None

    async def test_a_refused_append_does_not_disturb_its_neighbours(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            appends = [("s", 0, "a"), ("s", 7, "x"), ("s", 1, "b"), ("t", 1, "y"), ("u", 0, "c")]
            outcomes = await asyncio.gather(*(outcome(store, key, n, entry(id)) for key, n, id in appends))
            assert outcomes == ["written", "session_conflict", "written", "session_conflict", "written"]
            assert ids(await store.load_session("s")) == ["a", "b"]
            assert await store.list_sessions() == ["s", "u"]

    async def test_of_two_stores_that_continue_one_session_the_later_is_refused(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as one, self.opened(tmp_path) as two:
            await one.append_entries("s", head("a"), [entry("a")], expected=0)
            assert ids(await two.load_session("s")) == ["a"]
            assert await outcome(two, "s", 1, entry("b")) == "written"
            assert await outcome(one, "s", 1, entry("c")) == "session_conflict"
            assert ids(await one.load_session("s")) == ["a", "b"]
            assert await outcome(one, "s", 2, entry("c")) == "written"

    async def test_64_sessions_append_at_once_and_each_keeps_its_own_order(self, tmp_path: Path) -> None:
        async def converse(store: Store, key: str) -> None:
            for n in range(10):
                await store.append_entries(key, head(f"{key}-{n}"), [entry(f"{key}-{n}")], expected=n)

        async with self.opened(tmp_path) as store:
            keys = [f"s{n:02}" for n in range(64)]
            await asyncio.gather(*(converse(store, key) for key in keys))
            assert await store.list_sessions() == keys
            for key in keys:
                assert ids(await store.load_session(key)) == [f"{key}-{n}" for n in range(10)]

    async def test_loads_that_are_asked_for_at_once_return_each_its_own(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            for n in range(20):
                written = [entry(f"{n}-{at}") for at in range(n % 4)]
                await store.append_entries(f"s{n}", head(f"{n}"), written, expected=0)
            wanted = [(f"s{n}", start) for n in range(25) for start in (None, 0, 2)]
            found = await asyncio.gather(*(store.load_session(key, start=start) for key, start in wanted))
            assert found == [await store.load_session(key, start=start) for key, start in wanted]
            assert [session is None for session in found] == [n >= 20 for n in range(25) for _ in range(3)]
            assert ids(found[3 * 7]) == ids(found[3 * 7 + 1]) == ["7-0", "7-1", "7-2"]
            assert ids(found[3 * 7 + 2]) == ["7-2"]

    async def test_loads_beside_appends_see_whole_appends(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as writing, self.opened(tmp_path) as reading:
            await writing.append_entries("s", head("0-b"), [entry("0-a"), entry("0-b")], expected=0)

            async def write() -> None:
                for n in range(1, 20):
                    pair = [entry(f"{n}-a"), entry(f"{n}-b")]
                    await writing.append_entries("s", head(f"{n}-b"), pair, expected=2 * n)

            writer = asyncio.create_task(write())
            while not writer.done():
                session = await reading.load_session("s")
                assert session is not None
                assert ids(session)[-1] == session.head.leaf_id
                assert len(session.entries) % 2 == 0
                await asyncio.sleep(0)
            await writer

    async def test_a_cancelled_await_does_not_take_the_append_back(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.append_entries("s", head("a"), [entry("a")], expected=0)

            async def append() -> None:
                await store.append_entries("s", head("b"), [entry("b")], expected=1)

            task = asyncio.create_task(append())
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert ids(await store.load_session("s")) == ["a", "b"]

    async def test_a_deleted_session_is_gone_and_can_be_begun_anew(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            for key in ("a", "b", "c"):
                await store.append_entries(key, head("1"), [entry("1"), entry("2")], expected=0)
            await store.delete_sessions(["a", "missing", "c"])
            assert await store.list_sessions() == ["b"]
            assert await store.load_session("a") is None
            await store.append_entries("c", head("new"), [entry("new")], expected=0)
            assert ids(await store.load_session("c")) == ["new"]
            assert ids(await store.load_session("b")) == ["1", "2"]
            await store.delete_sessions([])

    async def test_a_session_deleted_while_appends_are_queued_refuses_the_next(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.append_entries("s", head("a"), [entry("a")], expected=0)
            queued = asyncio.ensure_future(store.append_entries("s", head("b"), [entry("b")], expected=1))
            await store.delete_sessions(["s"])
            await queued
            assert await store.load_session("s") is None
            assert await outcome(store, "s", 2, entry("c")) == "session_conflict"
            assert await outcome(store, "s", 0, entry("d")) == "written"

    @pytest.mark.parametrize(
        ("prefix", "found"),
        [
            ("", ["%", "A/1", "_", "a", "a%b", "a/1", "a/2", "a_b", "axb", "é", "é1", "𝄞"]),
            ("a/", ["a/1", "a/2"]),
            ("a%", ["a%b"]),
            ("a_", ["a_b"]),
            ("%", ["%"]),
            ("_", ["_"]),
            ("A", ["A/1"]),
            ("é", ["é", "é1"]),
            ("𝄞", ["𝄞"]),
            ("zz", []),
        ],
    )
    async def test_listing_takes_a_prefix_literally_and_sorts(
        self, tmp_path: Path, prefix: str, found: list[str]
    ) -> None:
        keys = ["a/2", "a/1", "axb", "a%b", "a_b", "A/1", "a", "%", "_", "é1", "é", "𝄞"]
        async with self.opened(tmp_path) as store:
            await asyncio.gather(*(store.append_entries(key, head(), [], expected=0) for key in keys))
            assert store.can_list
            assert await store.list_sessions(prefix) == found

    @pytest.mark.parametrize(
        "key",
        [
            'agent-session:["inst","default","main"]',
            "",
            "Zoë 会話 🜁",
            "e\u0301 is not é",
            "quote ' \" ; DROP TABLE sessions; --",
            "line\nbreak\ttab\x00nul",
            "k" * 4000,
        ],
    )
    async def test_any_text_is_a_key(self, tmp_path: Path, key: str) -> None:
        async with self.opened(tmp_path) as store:
            await store.append_entries(key, head("a"), [entry("a")], expected=0)
            assert ids(await store.load_session(key)) == ["a"]
            assert await store.list_sessions(key) == [key]
            await store.delete_sessions([key])
            assert await store.list_sessions() == []

    async def test_a_body_of_a_megabyte_and_any_characters_comes_back(self, tmp_path: Path) -> None:
        large = '\x00 \\ " \n \u2028 é 🜁 ' + "x" * 1_000_000
        async with self.opened(tmp_path) as store:
            await store.append_entries("s", head("a"), [entry("a", large), entry("b", "")], expected=0)
            assert texts(await store.load_session("s")) == [large, ""]

    async def test_closing_writes_what_is_queued(self, tmp_path: Path) -> None:
        store = self.make_store(tmp_path)
        writes = [store.append_entries(f"s{n}", head("a"), [entry("a")], expected=0) for n in range(20)]
        await store.aclose()
        await asyncio.gather(*writes)
        async with self.opened(tmp_path) as again:
            assert len(await again.list_sessions()) == 20

    async def test_closing_twice_is_fine(self, tmp_path: Path) -> None:
        store = self.make_store(tmp_path)
        await store.aclose()
        await store.aclose()


_PREFACE = """
import asyncio, sys
from pathlib import Path
from importlib import import_module
from flue.testing.store_contract import entry, head, outcome
module, _, name = sys.argv[1].partition(":")
store = getattr(import_module(module), name)(sys.argv[2])
"""

_APPEND_FOR_EVER = (
    _PREFACE
    + """
async def converse(session):
    for n in range(10**9):
        await store.append_entries(f"s{session}", head(f"{n}"), [entry(f"{n}", "x" * 500)], expected=n)
        print(session, n, flush=True)

async def main():
    await asyncio.gather(*(converse(session) for session in range(8)))

asyncio.run(main())
"""
)

_COMPETE = (
    _PREFACE
    + """
async def main():
    print("ready", flush=True)
    sys.stdin.readline()
    for n in range(40):
        seen = await store.load_session("s")
        count = len(seen.entries) if seen else 0
        id = f"{sys.argv[3]}-{n}"
        print(id, count, await outcome(store, "s", count, entry(id)), flush=True)
    await store.aclose()

asyncio.run(main())
"""
)


class DurableStoreContract(StoreContract):
    """The contract of a store that outlives its process and may be opened by several.

    `opener` names a callable, as `module:name`, that makes the store from one text: what `location` returns.
    """

    opener: str

    def location(self, directory: Path) -> str:
        """Return the text that makes `opener` open the same store as `make_store(directory)`."""
        raise NotImplementedError

    @contextmanager
    def child(self, program: str, directory: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Run a program in another process for a block; it is killed at the end."""
        command = [sys.executable, "-c", program, self.opener, self.location(directory), *arguments]
        process = subprocess.Popen(  # noqa: S603  (this interpreter, and a program from above)
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    async def test_every_append_reported_before_a_kill_is_there_after_it(self, tmp_path: Path) -> None:
        with self.child(_APPEND_FOR_EVER, tmp_path) as process:
            assert process.stdout is not None
            reported = [process.stdout.readline() for _ in range(300)]
            process.kill()
            reported += process.stdout.readlines()
        last: dict[str, int] = {}
        for line in reported:
            # The kill may have cut the last line.
            if line.endswith("\n"):
                session, position = line.split()
                last[session] = int(position)
        assert len(last) == 8
        async with self.opened(tmp_path) as store:
            for session, n in last.items():
                found = ids(await store.load_session(f"s{session}"))
                assert found == [str(index) for index in range(len(found))]
                assert len(found) > n

    async def test_two_processes_on_one_session_lose_and_double_nothing(self, tmp_path: Path) -> None:
        with self.child(_COMPETE, tmp_path, "a") as one, self.child(_COMPETE, tmp_path, "b") as two:
            for process in (one, two):
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
            for process in (one, two):
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.flush()
            lines = [line.split() for process in (one, two) for line in process.stdout or ()]
        assert len(lines) == 80
        assert {result for _, _, result in lines} <= {"written", "session_conflict"}
        # A write that found n entries is the one at position n.
        written = sorted((int(count), id) for id, count, result in lines if result == "written")
        async with self.opened(tmp_path) as store:
            assert ids(await store.load_session("s")) == [id for _, id in written]

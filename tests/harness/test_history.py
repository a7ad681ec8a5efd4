"""A session's history: what is read of it, and that what is read is what was written, whatever happens in between."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flue.errors import DurabilityError
from flue.harness.entries import CompactionEntry, Entry, entry_from_json
from flue.harness.history import History
from flue.messages import AssistantMessage, TextContent, Usage, UserMessage
from flue.ports import EntryRow, SessionHead, StoredSession
from flue.stores import MemoryStore
from flue.testing import SequentialIds, VirtualClock

KEY = "s"


class Counting(MemoryStore):
    """Notes how many entries each load returned; `fail` is what the next appends do instead of their work."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[int] = []
        self.fail: list[str] = []

    async def load_session(self, key: str, *, start: int | None = None) -> StoredSession | None:
        stored = await super().load_session(key, start=start)
        self.loaded.append(0 if stored is None else len(stored.entries))
        return stored

    def append_entries(
        self, key: str, head: SessionHead, entries: Sequence[EntryRow], *, expected: int, after: str | None = None
    ) -> Awaitable[None]:
        fail = self.fail.pop() if self.fail else ""
        written = None if fail == "lost" else super().append_entries(key, head, entries, expected=expected, after=after)
        if written is None or fail:
            failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            failed.set_exception(DurabilityError("The disk is gone.", code="store_io"))
            failed.exception()  # it need not be awaited
            return failed
        return written


def new(store: MemoryStore, ids: SequentialIds | None = None) -> History:
    return History(KEY, store, VirtualClock(), ids or SequentialIds())


async def load(store: MemoryStore, ids: SequentialIds | None = None) -> History:
    history = await History.load(KEY, store, VirtualClock(), ids or SequentialIds())
    assert history is not None
    return history


def ask(history: History, text: str = "Why?") -> None:
    history.append(UserMessage((TextContent(text),)), "prompt")


def answer(history: History, text: str = "Because.") -> None:
    history.append(AssistantMessage((TextContent(text),), "a", "p", "m", Usage(input=3, output=1)))


def compact(history: History, kept: int) -> None:
    history.compact(kept, summary="Long ago.", tokens_before=9, details={}, usage=Usage(input=5, output=2))


async def talk(history: History, turns: int) -> None:
    for _ in range(turns):
        ask(history)
        answer(history)
        await history.durable()


def all_visible(entries: Sequence[Entry], leaf_id: str | None) -> list[Entry]:
    """Return what the model sees, from the whole path: the rule of the format, with all entries at hand."""
    by_id = {entry.id: entry for entry in entries}
    path: list[Entry] = []
    while leaf_id is not None:
        path.insert(0, by_id[leaf_id])
        leaf_id = path[0].parent_id
    at = max((at for at, entry in enumerate(path) if isinstance(entry, CompactionEntry)), default=None)
    if at is None:
        return path
    compaction = path[at]
    assert isinstance(compaction, CompactionEntry)
    first = [entry.id for entry in path].index(compaction.first_kept_entry_id)
    kept = [entry for entry in path[first:at] if not isinstance(entry, CompactionEntry)]
    return [compaction, *kept, *path[at + 1 :]]


def all_usage(entries: Sequence[Entry]) -> Usage:
    total = Usage()
    for entry in entries:
        if isinstance(entry, CompactionEntry):
            total += entry.usage
        elif isinstance(entry.message, AssistantMessage):
            total += entry.message.usage
    return total


async def read_all(store: MemoryStore) -> tuple[SessionHead, list[Entry]]:
    stored = await store.load_session(KEY, start=0)
    assert stored is not None
    return stored.head, [entry_from_json(json.loads(row.body)) for row in stored.entries]


async def test_what_a_load_reads_does_not_grow_with_what_was_said_before() -> None:
    store = Counting()
    history = new(store)
    for _ in range(5):
        await talk(history, 20)
        compact(history, len(history.path) - 4)
        await history.durable()
        assert (await load(store)).path == history.path
    assert store.loaded == [5] * 5
    assert (await load(store)).usage == all_usage((await read_all(store))[1])


async def test_what_the_model_does_not_see_is_not_read_at_all() -> None:
    store = MemoryStore()
    await store.append_entries(KEY, SessionHead(None, {}, "", ""), [EntryRow("x", "no JSON")], expected=0)
    head = SessionHead(None, {}, "", "", start=1, usage=Usage(input=7))
    await store.append_entries(KEY, head, [], expected=1)
    history = await load(store)
    await talk(history, 1)
    again = await load(store)
    assert [entry.id for entry in again.path] == [entry.id for entry in history.path]
    assert again.usage == Usage(input=10, output=1)


async def test_a_session_of_a_version_that_wrote_neither_start_nor_usage_is_read_whole_until_it_is_written() -> None:
    store = Counting()
    history = new(store)
    await talk(history, 10)
    compact(history, 18)
    await history.durable()
    head, entries = await read_all(store)
    rows = [EntryRow(entry.id, json.dumps(entry.to_json())) for entry in entries]
    store = Counting()
    await store.append_entries(KEY, replace(head, start=0, usage=None), rows, expected=0)
    old = await load(store)
    assert (old.path, old.usage) == (history.path, history.usage)
    await talk(old, 1)
    new_one = await load(store)
    assert (new_one.path, new_one.usage) == (old.path, old.usage)
    assert store.loaded == [21, 5]


@pytest.mark.parametrize("start", [1, 3, 5, 6, 99])
async def test_a_head_that_is_wrong_about_the_start_is_not_believed(start: int) -> None:
    store = MemoryStore()
    history = new(store)
    await talk(history, 3)
    head, _ = await read_all(store)
    await store.append_entries(KEY, replace(head, start=start), [], expected=6)
    again = await load(store)
    assert again.path == history.path
    await talk(again, 1)
    assert (await read_all(store))[0].start == 0


async def test_entries_that_are_missing_are_named_as_damage() -> None:
    store = MemoryStore()
    await store.append_entries(KEY, SessionHead("b", {}, "", ""), [EntryRow("a", "{}")], expected=0)
    with pytest.raises(DurabilityError, match="lacks entries") as raised:
        await load(store)
    assert raised.value.code == "store_corrupt"


async def test_a_path_that_runs_in_a_circle_is_damage_too() -> None:
    store = MemoryStore()
    history = new(store)
    ask(history)
    ask(history)
    one, two = (entry.to_json() for entry in history.path)
    rows = [EntryRow("1", json.dumps({**one, "parentId": "2", "id": "1"}))]
    rows.append(EntryRow("2", json.dumps({**two, "parentId": "1", "id": "2"})))
    await store.append_entries(KEY, SessionHead("2", {}, "", ""), rows, expected=0)
    with pytest.raises(DurabilityError, match="lacks entries"):
        await load(store)


async def test_finding_out_what_was_written_reads_no_more_than_was_being_written() -> None:
    store = Counting()
    history = new(store)
    await talk(history, 50)
    for failure, read in (("lost", 0), ("unheard", 1)):
        ask(history)
        store.fail = [failure]
        with pytest.raises(DurabilityError, match="disk is gone"):
            await history.durable()
        await history.durable()
        assert store.loaded.pop() == read
    assert (await load(store)).path == history.path


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
async def test_a_session_begun_anew_while_a_write_was_lost_is_left_alone(turns: int) -> None:
    store, ids = Counting(), SequentialIds()
    history = new(store, ids)
    await talk(history, 2)
    ask(history)
    store.fail = ["lost"]
    with pytest.raises(DurabilityError, match="disk is gone"):
        await history.durable()
    await store.delete_sessions([KEY])
    if turns:
        await talk(new(store, ids), turns)
    before = await store.load_session(KEY)
    with pytest.raises(DurabilityError, match="changed by someone else"):
        await history.durable()
    assert history.stale
    assert await store.load_session(KEY) == before


@pytest.mark.parametrize("failure", ["", "lost", "unheard"])
async def test_several_may_wait_for_the_disk_at_once_and_each_entry_is_written_once(failure: str) -> None:
    """A decision on a tool call is written while the turn loop writes."""
    store = Counting()
    history = new(store)
    await talk(history, 1)
    if failure:
        store.fail = [failure]
    waiting = []
    for _ in range(3):
        ask(history)
        waiting.append(asyncio.create_task(history.durable()))
        await asyncio.sleep(0)
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [DurabilityError if failure else type(None)] + 2 * [type(None)]
    await talk(history, 1)
    assert (await load(store)).path == history.path


async def test_an_export_has_all_entries() -> None:
    history = new(MemoryStore())
    await talk(history, 10)
    compact(history, 18)
    exported = await history.export()
    assert len(exported["entries"]) == 21
    assert set(exported) == {"version", "entries", "leafId", "metadata", "createdAt", "updatedAt"}


async def test_ids_that_come_again_in_another_process_make_no_entry_of_the_same_id() -> None:
    store = MemoryStore()
    for _ in range(3):
        history = new(store) if not await store.list_sessions() else await load(store)
        await talk(history, 2)
    ids = [entry.id for entry in (await read_all(store))[1]]
    assert len(set(ids)) == len(ids) == 12


# ------------------------------------------------------------------------------------------- whatever happens

ACTS = ("ask", "answer", "drop", "compact", "write", "durable", "lost", "unheard", "reopen", "intrude")


@given(st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 9)), max_size=60))
def test_what_is_loaded_is_what_was_durable_and_what_all_entries_together_say(acts: list[tuple[str, int]]) -> None:
    asyncio.run(_play(acts))


async def _play(acts: list[tuple[str, int]]) -> None:
    store, ids = Counting(), SequentialIds()
    history = new(store, ids)
    await history.durable()
    for act, number in acts:
        try:
            history = await _act(store, ids, history, act, number)
        except DurabilityError as error:
            if history.stale:
                history = await load(store, ids)
            elif error.code != "store_io":
                raise
        await _check(store)
    store.fail = []
    ask(history, "All there?")
    with contextlib.suppress(DurabilityError):  # of a write that was lost before
        await history.durable()
    try:
        await history.durable()
    except DurabilityError:
        assert history.stale
        return
    again = await load(store)
    assert (again.path, again.usage, again.leaf_id) == (history.path, history.usage, history.leaf_id)
    assert list(again.transcript) == list(history.transcript)


async def _act(store: Counting, ids: SequentialIds, history: History, act: str, number: int) -> History:
    match act:
        case "ask":
            ask(history, f"{number}?")
        case "answer":
            answer(history, f"{number}!")
        case "drop" if len(history.path) > 1 and history.path[-1].id == history.leaf_id:
            history.drop_last()
        case "compact" if len(history.path) > 1:
            compact(history, 1 + number % (len(history.path) - 1))
        case "write":
            history.write()
        case "durable":
            store.fail = []
            await history.durable()
        case "lost" | "unheard":
            store.fail = [act]
            await history.durable()
        case "reopen":
            return await load(store, ids)
        case "intrude":
            other = await load(store, ids)
            ask(other, "And I?")
            store.fail = []
            await other.durable()
    return history


async def _check(store: Counting) -> None:
    """Compare what is loaded with what all entries together say, and see that nothing else was read."""
    head, entries = await read_all(store)
    stored = await store.load_session(KEY)
    loaded = await load(store)
    assert stored is not None
    assert loaded.path == all_visible(entries, head.leaf_id)
    assert loaded.usage == all_usage(entries)
    assert len({entry.id for entry in entries}) == len(entries)
    assert stored.count == len(entries)
    places: dict[str, Any] = {entry.id: place for place, entry in enumerate(entries)}
    if len(loaded.path) > 1:
        assert stored.first == min(places[entry.id] for entry in loaded.path)

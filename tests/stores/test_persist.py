from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from flue.errors import DurabilityError
from flue.messages import Json
from flue.stores import PersistStore
from flue.testing.store_contract import CREATED, entry, head, ids, outcome


class Shelf:
    """A user's session store with plain methods and no listing; `broken` makes `save` fail."""

    def __init__(self) -> None:
        self.sessions: dict[str, Any] = {}
        self.saves = 0
        self.broken = False

    def save(self, id: str, data: Json) -> None:
        if self.broken:
            raise ConnectionError("no route to the bucket")
        self.saves += 1
        self.sessions[id] = data

    def load(self, id: str) -> Json | None:
        return self.sessions.get(id)

    def delete(self, id: str) -> None:
        self.sessions.pop(id, None)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def store(shelf: Shelf) -> PersistStore:
    return PersistStore(shelf)  # type: ignore[arg-type]  # plain methods, which it accepts too


async def test_the_object_is_given_whole_sessions_in_exchange_format_3(shelf: Shelf, store: PersistStore) -> None:
    await store.append_entries("s", head("a", {"n": 1}), [entry("a", "hello")], expected=0)
    assert shelf.sessions["s"] == {
        "version": 3,
        "entries": [
            {"type": "message", "id": "a", "parentId": None, "timestamp": CREATED, "message": {"content": "hello"}}
        ],
        "leafId": "a",
        "metadata": {"n": 1},
        "createdAt": CREATED,
        "updatedAt": CREATED,
    }


async def test_appends_queued_together_are_saved_once(shelf: Shelf, store: PersistStore) -> None:
    await asyncio.gather(*(store.append_entries("s", head(str(n)), [entry(str(n))], expected=n) for n in range(10)))
    assert shelf.saves == 1
    assert len(shelf.sessions["s"]["entries"]) == 10


async def test_a_failing_object_is_named_and_asked_again_the_next_time(shelf: Shelf, store: PersistStore) -> None:
    shelf.broken = True
    with pytest.raises(DurabilityError, match="store Shelf failed to save session s: ConnectionError: no route"):
        await store.append_entries("s", head("a"), [entry("a")], expected=0)
    assert await store.load_session("s") is None
    shelf.broken = False
    await store.append_entries("s", head("a"), [entry("a")], expected=0)
    assert ids(await store.load_session("s")) == ["a"]


async def test_a_session_saved_by_a_newer_version_is_refused(shelf: Shelf, store: PersistStore) -> None:
    shelf.sessions["s"] = {"version": 4, "entries": []}
    with pytest.raises(DurabilityError, match="format 4; this version of Flue reads formats up to 3") as caught:
        await store.load_session("s")
    assert caught.value.code == "store_newer_format"
    assert await outcome(store, "s", 0, entry("a")) == "store_newer_format"
    assert shelf.saves == 0


@pytest.mark.parametrize("data", ["text", [], {}, {"version": 2, "entries": []}, {"version": 3}, {"version": "3"}])
async def test_what_is_no_session_is_refused_and_not_overwritten(
    shelf: Shelf, store: PersistStore, data: object
) -> None:
    shelf.sessions["s"] = data
    with pytest.raises(DurabilityError, match="Shelf returned no session in format 3 for s") as caught:
        await store.load_session("s")
    assert caught.value.code == "store_invalid_session"
    assert await outcome(store, "s", 0, entry("a")) == "store_invalid_session"
    assert shelf.sessions["s"] == data


async def test_listing_without_a_list_method_says_what_to_add(store: PersistStore) -> None:
    assert not store.can_list
    with pytest.raises(DurabilityError, match=r"Give it a method list\(prefix\)") as caught:
        await store.list_sessions()
    assert caught.value.code == "store_cannot_list"


async def test_a_closed_store_says_so(shelf: Shelf, store: PersistStore) -> None:
    await store.aclose()
    assert await outcome(store, "s", 0, entry("a")) == "store_closed"
    with pytest.raises(DurabilityError, match="Shelf is closed"):
        await store.load_session("s")
    with pytest.raises(DurabilityError, match="Shelf is closed"):
        await store.delete_sessions(["s"])


async def test_a_session_that_is_no_session_is_an_error_for_whoever_appends_to_it(
    shelf: Shelf, store: PersistStore
) -> None:
    shelf.sessions["s"] = {"version": 3, "entries": [{"type": "message"}]}
    async with asyncio.timeout(5):
        for _ in range(2):
            with pytest.raises(DurabilityError, match="returned no session") as raised:
                await store.append_entries("s", head("a"), [entry("a")], expected=1)
            assert raised.value.code == "store_invalid_session"


class Slow(Shelf):
    """A session store that can list, and whose saves end when `go_on` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.saving, self.go_on = asyncio.Event(), asyncio.Event()

    async def save(self, id: str, data: Json) -> None:  # type: ignore[override]  # async, which is accepted too
        self.saving.set()
        await self.go_on.wait()
        super().save(id, data)

    def list(self, prefix: str) -> list[str]:
        return [id for id in self.sessions if id.startswith(prefix)]


@pytest.mark.parametrize("call", ["load", "delete", "list", "close"])
async def test_whatever_comes_during_a_save_waits_for_it_and_cancelled_leaves_it_alone(call: str) -> None:
    shelf = Slow()
    store = PersistStore(shelf)  # type: ignore[arg-type]  # a plain load, which it accepts
    append = store.append_entries("s", head("a"), [entry("a")], expected=0)
    await shelf.saving.wait()

    def begin() -> asyncio.Task[Any]:
        calls: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
            "load": lambda: store.load_session("s"),
            "delete": lambda: store.delete_sessions(["s"]),
            "list": store.list_sessions,
            "close": store.aclose,
        }
        return asyncio.create_task(calls[call]())

    given_up = begin()
    await asyncio.sleep(0)
    given_up.cancel()
    waiting = begin()
    await asyncio.wait([given_up])
    assert not waiting.done()
    shelf.go_on.set()
    await append
    found = await waiting
    assert list(shelf.sessions) == ([] if call == "delete" else ["s"])
    assert call != "load" or ids(found) == ["a"]
    assert call != "list" or found == ["s"]


async def test_an_append_that_nobody_waits_for_any_more_is_saved_with_its_neighbours(shelf: Shelf) -> None:
    store = PersistStore(shelf)  # type: ignore[arg-type]  # as above
    one, two = (store.append_entries("s", head(x), [entry(x)], expected=n) for n, x in enumerate("ab"))
    asyncio.ensure_future(one).cancel()
    async with asyncio.timeout(5):
        await two
        assert ids(await store.load_session("s")) == ["a", "b"]
    failing = [store.append_entries("s", head(x), [entry(x)], expected=2 + n) for n, x in enumerate("cd")]
    shelf.broken = True
    asyncio.ensure_future(failing[0]).cancel()
    async with asyncio.timeout(5):
        with pytest.raises(DurabilityError, match="no route"):
            await failing[1]


async def test_a_closed_store_lists_nothing(shelf: Shelf) -> None:
    store = PersistStore(Slow())  # type: ignore[arg-type]  # as above
    await store.aclose()
    with pytest.raises(DurabilityError, match="Slow is closed"):
        await store.list_sessions()

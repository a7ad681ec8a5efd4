from __future__ import annotations

import asyncio

import pytest

from flue.durable.claimed_store import ClaimedStore
from flue.durable.outbox import Outbox
from flue.stores import MemoryStore
from flue.testing.store_contract import entry, head, ids
from flue.testing.work_contract import LEASE, admission, claim_one, code_of
from tests.engine.log_scene import SlowStore


async def test_what_a_harness_appends_is_written_while_the_claim_holds_and_never_after() -> None:
    store = MemoryStore()
    await store.admit(admission("s1"), now=0)
    claimed = ClaimedStore(store, Outbox(store, await claim_one(store, "a1")))
    await claimed.append_entries("s", head("a"), [entry("a")], expected=0)
    await store.take_over("two", now=LEASE)
    assert await code_of(claimed.append_entries("s", head("b"), [entry("b")], expected=1, after="a")) == "attempt_lost"
    assert await code_of(claimed.delete_sessions(["s"])) == "attempt_lost"
    assert ids(await claimed.load_session("s")) == ["a"]
    assert ids(await claimed.load_session("s", start=1)) == []
    assert await claimed.list_sessions() == ["s"]


async def test_a_stale_append_is_a_conflict_here_too() -> None:
    store = MemoryStore()
    await store.admit(admission("s1"), now=0)
    claimed = ClaimedStore(store, Outbox(store, await claim_one(store, "a1")))
    await claimed.append_entries("s", head("a"), [entry("a")], expected=0)
    conflict = claimed.append_entries("s", head("b"), [entry("b")], expected=1, after="x")
    assert await code_of(conflict) == "session_conflict"


async def test_a_write_whose_awaiter_is_gone_is_heard_of_all_the_same() -> None:
    """After one that failed nothing is written, or a session would have a gap."""
    store = SlowStore()
    await store.admit(admission("s1"), now=0)
    claimed = ClaimedStore(store, Outbox(store, await claim_one(store, "a1")))
    stale = claimed.append_entries("s", head("b"), [entry("b")], expected=1, after="x")
    waiting = asyncio.ensure_future(asyncio.gather(stale))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    store.commit()
    await asyncio.sleep(0)
    later = asyncio.ensure_future(claimed.append_entries("s", head("a"), [entry("a")], expected=0))
    await asyncio.sleep(0)
    store.commit()
    assert await code_of(later) == "session_conflict"
    assert await claimed.load_session("s") is None

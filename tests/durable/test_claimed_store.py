from __future__ import annotations

from flue.durable.claimed_store import ClaimedStore
from flue.durable.outbox import Outbox
from flue.stores import MemoryStore
from flue.testing.store_contract import entry, head, ids
from flue.testing.work_contract import LEASE, admission, claim_one, code_of


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

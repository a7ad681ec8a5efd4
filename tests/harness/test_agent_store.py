from __future__ import annotations

from flue.harness.agent_store import AgentStore
from flue.ports import EntryRow, SessionHead
from flue.stores import MemoryStore

HEAD = SessionHead(None, {}, "2026-01-01T00:00:00.000Z", "2026-01-01T00:00:00.000Z")


async def test_agents_that_share_a_store_see_only_their_own_sessions() -> None:
    shared = MemoryStore()
    support, sales = AgentStore(shared, "support"), AgentStore(shared, "sales")
    await support.append_entries("key", HEAD, [EntryRow("e1", "{}")], expected=0)
    assert await sales.load_session("key") is None
    await sales.append_entries("key", HEAD, [], expected=0)
    loaded = await support.load_session("key")
    assert loaded is not None
    assert loaded.entries == (EntryRow("e1", "{}"),)
    later = await support.load_session("key", start=1)
    assert later is not None
    assert (later.entries, later.count) == ((), 1)
    assert await support.list_sessions("k") == await sales.list_sessions() == ["key"]
    await sales.delete_sessions(["key"])
    assert (await sales.list_sessions(), await support.list_sessions()) == ([], ["key"])
    await support.aclose()

from __future__ import annotations

from collections.abc import Awaitable, Callable

from flue.durable.port import DurableStore
from flue.durable.records import (
    Admission,
    Claimant,
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
from flue.testing.store_contract import entry, head
from flue.testing.work_contract import LEASE, admission, claimant


async def everything(store: DurableStore) -> None:
    """Run every kind of statement of a store that owns work at home (SQLite), and every path through a transition."""
    await store.enlist("one", now=0, lease_until=LEASE)
    event = EventRow("s1", 0, 0, "e", "stream")
    first = admission("s1", key="k", home="one", events=(event,), reserve=5)
    await store.admit(first, now=0, claimant=Claimant("one", "a0", LEASE))
    await store.admit(first, now=0)
    for n in range(3):
        await store.admit(admission(f"t{n}"), now=0)
    await store.admit(
        Admission(id="r1", lane="r1", kind="workflow", target="w", payload="1", recorded="workflow"), now=0
    )
    await store.take_over("two", now=LEASE)
    claims = await store.claim([claimant("a1"), claimant("a2")], now=1)
    await store.deliver("s1", Message("m", "x"), now=1)
    writes = Writes(
        journal=(JournalRecord("request", "t"), JournalRecord("answer", "t")),
        sessions=(SessionAppend("s1", head("e1"), (entry("e1"), entry("e2")), 0),),
        events=(EventRow("s1", 1, 1, "e", "stream"),),
        steps=(StepResult("a", "1"),),
        consumed=("m",),
    )
    await store.checkpoint(claims[0], writes)
    await store.append_entries("s1", head("e3"), [entry("e3")], expected=2, after="e2")
    await store.append_entries("other", head("e1"), [entry("e1")], expected=0)
    await store.reserve_indices("s1", 10)
    await store.renew("one", claims, now=2, lease_until=LEASE)
    await store.park(claims[0], Wait("sleep", 5, ("x",)), now=2)
    await store.wake_due(now=5)
    (claim,) = await store.claim([claimant("a3")], now=6)
    await store.claim([claimant("a9")], now=6, lanes=["nobody's"])
    await store.release(claim, now=6, interrupted=True)
    (claim,) = await store.claim([claimant("a4")], now=6)
    await store.settle(claim, Outcome("completed"), now=7)
    again = Admission(id="r2", lane="r2", kind="workflow", target="w", payload="1", recorded="workflow")
    await store.restart(claims[1], again, error="{}", now=7)
    await store.cancel("t1", "enough", now=8)
    daily = await store.put_schedule(Schedule("daily", "{}", 1))
    await store.fire(daily, 2, admission("t9"), now=9)
    await store.delete_schedules(["daily"])
    await store.next_due("one")
    for query in (RunQuery(), RunQuery(status="active"), RunQuery(target="w"), RunQuery(status="errored", target="w")):
        await store.list_runs(query)
    by_id: list[Callable[[str], Awaitable[object]]] = [
        *(store.get_submission, store.get_receipt, store.get_run, store.list_lane, store.load_session),
        *(store.load_journal, store.load_steps, store.load_messages, store.read_events, store.read_stream),
    ]
    for read in by_id:
        await read("s1")
    await store.list_schedules(due=1)
    await store.list_schedules()
    await store.list_sessions("s")
    await store.delete_sessions(["other"])
    await store.prune(Retention(submissions=100, runs=100, deltas=100, receipts=100))
    await store.retire("one", now=10)

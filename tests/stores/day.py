"""A day in the life of a store: every kind of transition, in two processes, and what must be true wherever it ends."""

from __future__ import annotations

import asyncio

from flue.durable.port import DurableStore
from flue.durable.records import (
    EventRow,
    JournalRecord,
    Message,
    Outcome,
    Schedule,
    SessionAppend,
    StepResult,
    Wait,
    Writes,
)
from flue.testing.store_contract import entry, head, ids
from flue.testing.work_contract import LEASE, admission, claim_one, claimant

LATER = 10**12


def turn(number: int, expected: int) -> Writes:
    """Return all that a checkpoint may hold."""
    return Writes(
        journal=(JournalRecord("request", f"t{number}"), JournalRecord("answer", f"t{number}", '"' + "a" * 3000 + '"')),
        sessions=(
            SessionAppend("session", head(f"e{expected}"), (entry(f"e{expected}"), entry(f"f{expected}")), expected),
        ),
        events=(EventRow("s1", number, number, '"e"', "stream"),),
        steps=(StepResult(f"step{number}", "1"),),
    )


async def begin(store: DurableStore) -> None:
    """Admit, claim, checkpoint, park."""
    await store.enlist("one", now=0, lease_until=LEASE)
    first = admission("s1", "session", key="k", home="one", reserve=50, timeout_ms=LEASE)
    admitted = await store.admit(first, now=0, claimant=claimant("a1"))
    assert admitted.claim is not None
    await asyncio.gather(*(store.admit(admission(f"t{n}", f"lane{n % 3}"), now=0) for n in range(6)))
    for number in range(4):
        await store.checkpoint(admitted.claim, turn(number, 2 * number))
    await asyncio.gather(*(store.checkpoint(admitted.claim, turn(number, 2 * number)) for number in range(4, 8)))
    await store.park(admitted.claim, Wait("approval", names=("paid",)), now=2)
    await store.deliver("s1", Message("m1", "paid"), now=3)
    claim = await claim_one(store, "a2", now=3)
    await store.checkpoint(claim, Writes(consumed=("m1",)))
    await store.release(claim, now=4, not_before=5)


async def go_on(store: DurableStore) -> None:
    """Wake up, settle, restart, fire a schedule, abort."""
    await store.enlist("two", now=LEASE, lease_until=2 * LEASE)
    await store.take_over("two", now=LEASE)
    await store.wake_due(now=LEASE)
    claims = {claim.id: claim for claim in await store.claim([claimant(f"b{n}", "two") for n in range(3)], now=LEASE)}
    await store.settle(claims["s1"], Outcome("completed", result="1"), now=LEASE, writes=turn(8, 16))
    for id in ("t0", "t1"):
        await store.settle(claims[id], Outcome("failed", error="{}"), now=LEASE)
    run = admission("r1", "r1", kind="workflow", recorded="workflow")
    started = await store.admit(run, now=LEASE, claimant=claimant("b9", "two"))
    assert started.claim is not None
    await store.checkpoint(started.claim, Writes(steps=(StepResult("pay", "1"),)))
    await store.restart(
        started.claim, admission("r2", "r2", kind="workflow", recorded="workflow"), error="{}", now=LEASE
    )
    daily = await store.put_schedule(Schedule("daily", "{}", 1))
    await store.fire(daily, 2, admission("d1", "d1"), now=LEASE)
    await store.cancel("t2", "enough", now=LEASE)
    await store.cancel("r2", "enough", now=LEASE)
    await store.retire("two", now=LEASE)


async def finish(store: DurableStore) -> None:
    """Go on with everything that is not settled; each submission has then ended once."""
    await store.take_over("last", now=LATER)
    await store.wake_due(now=LATER)
    while claims := await store.claim([claimant(f"z{n}", "last") for n in range(9)], now=LATER):
        for claim in claims:
            await store.settle(claim, Outcome("completed"), now=LATER)
    for id in ("s1", "t0", "t1", "t2", "t3", "t4", "t5", "r1", "r2", "d1"):
        submission = await store.get_submission(id)
        journal = await store.load_journal(id)
        if submission is None:
            assert journal == []
            continue
        assert submission.state in ("settled", "parked")
        if submission.state == "settled":
            assert [record.kind for record in journal].count("settled") == 1
    turns = [record for record in await store.load_journal("s1") if record.kind == "answer"]
    session = await store.load_session("session")
    assert len(ids(session) if session else []) == 2 * len(turns) == 2 * len(await store.load_steps("s1"))
    assert len(await store.read_stream("stream")) == len(await store.read_events("s1")) == len(turns)

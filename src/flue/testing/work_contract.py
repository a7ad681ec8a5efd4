"""What every `DurableStore` must do with submissions, as a test class to subclass.

    class TestMyStore(WorkContract):
        def make_store(self, directory: Path) -> DurableStore:
            return MyStore(directory / "work.db")

Needs pytest and pytest-asyncio.
"""

# ruff: noqa: D102  (the names of the tests are sentences)

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flue.durable.port import DurableStore
from flue.durable.records import (
    Admission,
    Claim,
    Claimant,
    JournalRecord,
    Message,
    Outcome,
    SessionAppend,
    StepResult,
    Wait,
    Writes,
)
from flue.errors import FlueError
from flue.testing.store_contract import entry, head, ids

LEASE = 30_000


def admission(id: str, lane: str = "lane", **changes: Any) -> Admission:
    """Return an admission of a prompt."""
    return replace(Admission(id=id, lane=lane, kind="prompt", target="agent", payload=f'{{"text":"{id}"}}'), **changes)


def claimant(attempt_id: str, owner: str = "one", *, now: int = 0) -> Claimant:
    """Return a claimant whose lease lasts 30 seconds from `now`."""
    return Claimant(owner, attempt_id, now + LEASE)


def writing(session: str, id: str, expected: int, *journal: JournalRecord) -> Writes:
    """Return writes of one entry to a session, with journal records."""
    return Writes(journal=journal, sessions=(SessionAppend(session, head(id), (entry(id),), expected),))


async def code_of(transition: Awaitable[object]) -> str:
    """Return the code of the error that a transition raises, or `done`."""
    try:
        await transition
    except FlueError as error:
        return error.code
    return "done"


async def claim_one(store: DurableStore, attempt_id: str, owner: str = "one", *, now: int = 0) -> Claim:
    """Claim what is ready first; fails when nothing is."""
    (claim,) = await store.claim([claimant(attempt_id, owner, now=now)], now=now)
    return claim


class Opening:
    """How a contract opens the stores under test."""

    def make_store(self, directory: Path) -> DurableStore:
        """Return a store whose data lies in `directory`; two made for one directory share their data."""
        raise NotImplementedError

    @asynccontextmanager
    async def opened(self, directory: Path) -> AsyncIterator[DurableStore]:
        """Open a store for a block."""
        store = self.make_store(directory)
        try:
            yield store
        finally:
            await store.aclose()


@pytest.mark.asyncio
class WorkContract(Opening):
    """The contract of `flue.durable.port.DurableStore` for submissions."""

    # --------------------------------------------------------------------------------------------- admission

    # DUR-01
    async def test_an_admitted_submission_is_there_as_it_was_given(self, tmp_path: Path) -> None:
        given = admission("s1", instance="ann", payload='{"text":"héllo \\u0000"}', max_attempts=3, timeout_ms=5000)
        async with self.opened(tmp_path) as store:
            admitted = await store.admit(given, now=7)
            assert (admitted.id, admitted.accepted_at, admitted.created, admitted.ahead) == ("s1", 7, True, 0)
        async with self.opened(tmp_path) as store:
            found = await store.get_submission("s1")
            assert found is not None
            assert (found.lane, found.kind, found.target, found.instance) == ("lane", "prompt", "agent", "ann")
            assert (found.state, found.payload, found.accepted_at) == ("queued", given.payload, 7)
            assert (found.max_attempts, found.time_left_ms, found.address) == (3, 5000, "s1")
            assert await store.get_submission("s2") is None

    async def test_the_same_key_and_content_give_the_same_submission(self, tmp_path: Path) -> None:
        first = admission("s1", key="k")
        async with self.opened(tmp_path) as store:
            await store.admit(first, now=1)
            again = await store.admit(replace(first, id="s2"), now=2)
            assert (again.id, again.accepted_at, again.created) == ("s1", 1, False)
            assert await store.get_submission("s2") is None
            assert [row.id for row in await store.list_lane("lane")] == ["s1"]

    # DUR-02
    @pytest.mark.parametrize("changes", [{"payload": "2"}, {"lane": "b"}, {"target": "x"}, {"instance": "i"}])
    async def test_the_same_key_with_other_content_is_a_conflict(self, tmp_path: Path, changes: Any) -> None:
        async with self.opened(tmp_path) as store:
            await store.admit(admission("s1", key="k"), now=1)
            assert await code_of(store.admit(admission("s2", key="k", **changes), now=2)) == "idempotency_conflict"
            assert await code_of(store.admit(admission("s1", **changes), now=2)) == "idempotency_conflict"
            assert [row.id for row in await store.list_lane("lane")] == ["s1"]
            assert await store.list_lane("b") == []

    async def test_the_same_id_and_content_give_the_same_submission(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.admit(admission("s1"), now=1)
            assert not (await store.admit(admission("s1"), now=2)).created
            claim = await claim_one(store, "a1")
            await store.settle(claim, Outcome("completed"), now=3)
            assert not (await store.admit(admission("s1"), now=4)).created
            assert await store.list_lane("lane") == []

    # DUR-02
    @pytest.mark.parametrize("changes", [{"payload": "2"}, {"target": "x"}, {"key": "k"}])
    async def test_the_same_id_with_other_content_or_key_is_a_conflict(self, tmp_path: Path, changes: Any) -> None:
        async with self.opened(tmp_path) as store:
            await store.admit(admission("s1"), now=1)
            assert await code_of(store.admit(admission("s1", **changes), now=2)) == "idempotency_conflict"
            assert await store.get_receipt("k") is None
            await store.settle(await claim_one(store, "a1"), Outcome("completed"), now=3)
            assert await store.list_lane("lane") == []

    # DUR-02
    async def test_a_key_admitted_at_once_by_many_gives_one_submission(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as one, self.opened(tmp_path) as two:
            admissions = [admission(f"s{n}", key="k", payload="1") for n in range(10)]
            receipts = await asyncio.gather(*(store.admit(each, now=1) for each in admissions for store in (one, two)))
            assert sum(receipt.created for receipt in receipts) == 1
            assert len({receipt.id for receipt in receipts}) == 1
            assert len(await one.list_lane("lane")) == 1

    async def test_of_many_that_will_not_wait_one_is_accepted(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as one, self.opened(tmp_path) as two:
            admits = [store.admit(admission(f"s{n}", alone=True), now=1) for n in (0, 1) for store in (one, two)]
            assert sorted(await asyncio.gather(*map(code_of, admits))) == ["done", "done", *["session_busy"] * 2]

    async def test_an_admission_with_a_claimant_starts_when_its_lane_is_free(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            first = await store.admit(admission("s1"), now=5, claimant=claimant("a1"))
            assert first.claim is not None
            assert (first.claim.id, first.claim.attempt_id, first.claim.owner) == ("s1", "a1", "one")
            assert first.claim.submission == await store.get_submission("s1")
            second = await store.admit(admission("s2"), now=6, claimant=claimant("a2"))
            assert (second.claim, second.ahead) == (None, 1)
            assert await store.claim([claimant("a3")], now=7) == []

    # ------------------------------------------------------------------------------------- claims and order

    async def test_a_claim_says_whether_it_is_the_first(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            begun = await store.admit(admission("s1"), now=1, claimant=claimant("a1"))
            await store.admit(admission("s2", lane="b"), now=1)
            [later] = await store.claim([claimant("a2")], now=1)
            assert begun.claim is not None
            assert (begun.claim.first, later.first) == (True, True)
            await store.release(later, now=1)
            [again] = await store.claim([claimant("a3")], now=1)
            assert (again.id, again.first) == ("s2", False)

    # DUR-03
    async def test_a_lane_runs_one_after_the_other_in_order_of_admission(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await asyncio.gather(*(store.admit(admission(f"s{n}"), now=1) for n in range(5)))
            assert [row.id for row in await store.list_lane("lane")] == [f"s{n}" for n in range(5)]
            for n in range(5):
                found = await store.claim([claimant(f"a{n}-{k}") for k in range(3)], now=2)
                assert [claim.id for claim in found] == [f"s{n}"]
                await store.settle(found[0], Outcome("completed"), now=3)
            assert await store.claim([claimant("z")], now=4) == []

    async def test_lanes_run_beside_each_other_oldest_first(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            for n in range(6):
                await store.admit(admission(f"s{n}", f"lane{n % 3}"), now=n)
            assert [claim.id for claim in await store.claim([claimant("a"), claimant("b")], now=9)] == ["s0", "s1"]
            assert [claim.id for claim in await store.claim([claimant("c"), claimant("d")], now=9)] == ["s2"]

    # DUR-04
    async def test_two_owners_never_claim_the_same(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as one, self.opened(tmp_path) as two:
            await asyncio.gather(*(one.admit(admission(f"s{n}", f"l{n}"), now=1) for n in range(20)))
            batches = await asyncio.gather(
                *(
                    store.claim([claimant(f"{owner}{n}{k}", owner) for k in range(3)], now=2)
                    for n in range(5)
                    for owner, store in (("one", one), ("two", two))
                )
            )
            claimed = [claim.id for batch in batches for claim in batch]
            assert sorted(claimed) == sorted(f"s{n}" for n in range(20))

    async def test_a_claim_in_some_lanes_leaves_the_others_alone(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            for n, lane in enumerate(("l1", "l2", "l3", "l2")):
                await store.admit(admission(f"s{n}", lane), now=0)
            assert await store.claim([claimant("a1")], now=1, lanes=()) == []
            claims = await store.claim(
                [claimant("a2"), claimant("a3"), claimant("a4")], now=1, lanes={"l3", "l2", "no"}
            )
            assert [claim.id for claim in claims] == ["s1", "s2"]
            assert await store.claim([claimant("a5")], now=2, lanes=["l2"]) == [], "the lane is not free"
            assert [claim.id for claim in await store.claim([claimant("a6")], now=2)] == ["s0"]
            await store.settle(claims[0], Outcome("completed"), now=3)
            assert [claim.id for claim in await store.claim([claimant("a7")], now=4, lanes=["l2"])] == ["s3"]

    async def test_a_claim_starts_the_time_and_parking_stops_it(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.admit(admission("s1", timeout_ms=1000), now=1)
            claim = await claim_one(store, "a1", now=500)
            assert (claim.submission.started_at, claim.submission.deadline_at) == (500, 1500)
            await store.park(claim, Wait("sleep", wake_at=99_000), now=900)
            assert await store.wake_due(now=99_000) == 1
            claim = await claim_one(store, "a2", now=99_100)
            assert (claim.submission.started_at, claim.submission.deadline_at) == (500, 99_700)

    # DUR-35
    async def test_time_that_nobody_worked_does_not_count_beyond_the_dead_owners_lease(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.admit(admission("s1", timeout_ms=2 * LEASE + 7), now=0)
            left = 2 * LEASE + 7
            for day, owner in enumerate(("one", "two")):
                now = day * 86_400_000 + 1000
                claim = await claim_one(store, f"a{day}", owner, now=now)
                assert claim.submission.deadline_at == now + left
                assert await store.take_over("three", now=now + 86_000_000) == 1
                left -= LEASE
                found = await store.get_submission("s1")
                assert found is not None
                assert (found.time_left_ms, found.deadline_at, found.interruptions) == (left, None, day + 1)

    # DUR-35
    async def test_work_whose_time_ran_out_with_its_owner_has_none_left(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.admit(admission("s1", timeout_ms=LEASE // 2), now=0)
            await claim_one(store, "a1")
            assert await store.take_over("two", now=LEASE) == 1
            assert (await claim_one(store, "b1", "two", now=2 * LEASE)).submission.deadline_at == 2 * LEASE

    # ---------------------------------------------------------------------------------------------- progress

    # DUR-07
    async def test_a_checkpoint_writes_journal_and_session_together(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.admit(admission("s1"), now=1)
            claim = await claim_one(store, "a1")
            request, answer = JournalRecord("request", "t1", '{"n":1}'), JournalRecord("answer", "t1")
            both = (SessionAppend(key, head("e1"), (entry("e1"),), 0) for key in ("session", "task"))
            await store.checkpoint(claim, Writes(journal=(request,), sessions=tuple(both)))
            conflict = store.checkpoint(claim, writing("session", "e2", 0, answer))
            assert await code_of(conflict) == "session_conflict"
        async with self.opened(tmp_path) as store:
            assert await store.load_journal("s1") == [request]
            assert [ids(await store.load_session(key)) for key in ("session", "task")] == [["e1"], ["e1"]]

    # DUR-07
    async def test_checkpoints_queued_without_waiting_keep_their_order(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.admit(admission("s1"), now=1)
            claim = await claim_one(store, "a1")
            records = [JournalRecord("tool_result", f"call{n}", f'"{n}"') for n in range(30)]
            await asyncio.gather(*(store.checkpoint(claim, Writes(journal=(record,))) for record in records))
            assert await store.load_journal("s1") == records

    # DUR-08
    async def test_a_recorded_step_is_kept_by_address_and_never_replaced(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.admit(admission("run2", address="run1"), now=1)
            claim = await claim_one(store, "a1")
            await store.checkpoint(claim, Writes(steps=(StepResult("b", "1"), StepResult("a", "2"))))
            await store.checkpoint(claim, Writes(steps=(StepResult("b", "3"), StepResult("c", "4"))))
            assert await store.load_steps("run1") == [StepResult("b", "1"), StepResult("a", "2"), StepResult("c", "4")]
            assert await store.load_steps("run2") == []

    # DUR-06
    async def test_settling_ends_a_submission_once(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.admit(admission("s1", key="k"), now=1)
            claim = await claim_one(store, "a1")
            end = Outcome("failed", error='{"name":"E"}')
            await store.settle(claim, end, now=9, writes=writing("session", "e1", 0, JournalRecord("answer", "t")))
            assert await code_of(store.settle(claim, Outcome("completed"), now=10)) == "attempt_lost"
            found = await store.get_submission("s1")
            assert found is not None
            assert (found.state, found.outcome, found.error, found.settled_at) == ("settled", "failed", end.error, 9)
            assert found.owner is None
            assert ids(await store.load_session("session")) == ["e1"]
            assert [record.kind for record in await store.load_journal("s1")] == ["answer", "settled"]
            receipt = await store.get_receipt("k")
            assert receipt is not None
            assert (receipt.submission_id, receipt.accepted_at, receipt.settled_at) == ("s1", 1, 9)

    # DUR-06
    async def test_a_settlement_that_cannot_be_written_settles_nothing(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.admit(admission("s1"), now=1)
            claim = await claim_one(store, "a1")
            refused = store.settle(claim, Outcome("completed"), now=2, writes=writing("session", "e", 3))
            assert await code_of(refused) == "session_conflict"
            assert await code_of(store.settle(claim, Outcome("completed"), now=3)) == "done"

    # ------------------------------------------------------------------------------------- parking and waking

    async def test_a_released_submission_is_claimed_again_at_once_or_later(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.admit(admission("s1"), now=0)
            await store.release(await claim_one(store, "a1"), now=1, writes=writing("s", "e", 0))
            assert ids(await store.load_session("s")) == ["e"]
            claim = await claim_one(store, "a2", now=2)
            assert claim.submission.interruptions == 0
            await store.release(claim, now=3, not_before=50, interrupted=True)
            assert await store.claim([claimant("a3")], now=4) == []
            assert await store.next_due("one") == 50
            assert (await store.wake_due(now=49), await store.wake_due(now=50)) == (0, 1)
            assert (await claim_one(store, "a4", now=51)).submission.interruptions == 1

    async def test_a_sleeping_submission_blocks_its_lane_and_wakes_in_time(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.admit(admission("s1"), now=0)
            await store.admit(admission("s2"), now=0)
            claim = await claim_one(store, "a1")
            assert await store.park(claim, Wait("sleep", wake_at=1000), now=1, writes=writing("s", "e", 0))
            assert ids(await store.load_session("s")) == ["e"]
            found = await store.get_submission("s1")
            assert found is not None
            assert (found.state, found.park_reason, found.wake_at) == ("parked", "sleep", 1000)
            assert (found.owner, found.attempt_id, found.deadline_at) == (None, None, None)
            assert await store.claim([claimant("a2")], now=2) == []
            assert await store.next_due("one") == 1000
            assert await store.wake_due(now=999) == 0
            assert await store.wake_due(now=1000) == 1
            assert await store.next_due("one") is None
            found = await store.get_submission("s1")
            assert found is not None
            assert (found.state, found.park_reason, found.wake_at) == ("queued", None, None)
            assert (await claim_one(store, "a3", now=1001)).id == "s1"

    # DUR-09
    async def test_a_message_wakes_what_waits_for_its_name_and_is_consumed_once(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.admit(admission("s1", address="first"), now=0)
            claim = await claim_one(store, "a1")
            await store.park(claim, Wait("event", names=("paid", "refused")), now=1)
            assert await store.deliver("first", Message("z1", "other"), now=2)
            assert await store.claim([claimant("a2")], now=2) == []
            assert await store.deliver("first", Message("m2", "paid", '{"sum":3}'), now=3)
            assert await store.deliver("first", Message("m2", "paid", '{"sum":4}'), now=3)
            claim = await claim_one(store, "a3", now=4)
            assert claim.submission.waiting_for == ()
            assert await store.load_messages("first") == [Message("z1", "other"), Message("m2", "paid", '{"sum":3}')]
            await store.checkpoint(claim, Writes(steps=(StepResult("wait", "3"),), consumed=("m2",)))
            assert await store.load_messages("first") == [Message("z1", "other")]
            assert await store.park(claim, Wait("event", names=("paid",)), now=5)
            assert await store.deliver("first", Message("m2", "paid"), now=6)
            assert await store.load_messages("first") == [Message("z1", "other")]
            assert await store.claim([claimant("a4")], now=6) == []

    # DUR-09
    async def test_a_message_that_came_before_the_wait_is_not_missed(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.admit(admission("s1"), now=0)
            claim = await claim_one(store, "a1")
            await store.deliver("s1", Message("m1", "paid"), now=1)
            assert not await store.park(claim, Wait("event", names=("paid",)), now=2, writes=writing("s", "e", 0))
            assert ids(await store.load_session("s")) == ["e"]
            await store.checkpoint(claim, Writes(consumed=("m1",)))
            assert await store.park(claim, Wait("event", names=("paid",)), now=3)

    async def test_a_message_to_nobody_is_refused(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            assert not await store.deliver("nobody", Message("m", "x"), now=1)
            await store.admit(admission("s1"), now=0)
            await store.settle(await claim_one(store, "a1"), Outcome("completed"), now=1)
            assert not await store.deliver("s1", Message("m", "x"), now=2)
            assert await store.load_messages("s1") == []

    # DUR-10
    async def test_a_parked_submission_survives_the_death_of_its_owner(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.admit(admission("s1", home="one"), now=0)
            await store.park(await claim_one(store, "a1"), Wait("approval", names=("approve:c1",)), now=1)
        async with self.opened(tmp_path) as store:
            await store.take_over("two", now=LEASE)
            assert await store.claim([claimant("b1", "two")], now=LEASE) == []
            assert await store.deliver("s1", Message("m", "approve:c1"), now=LEASE)
            claim = await claim_one(store, "b2", "two", now=LEASE)
            assert claim.submission.interruptions == 0

    # ------------------------------------------------------------------------------------------------ aborts

    # DUR-03
    async def test_cancelling_what_waits_leaves_what_runs_before_it_alone(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            for n in range(3):
                await store.admit(admission(f"s{n}"), now=0)
            claim = await claim_one(store, "a1")
            await store.cancel("s1", "not needed", now=1)
            assert await store.claim([claimant("a2")], now=2) == []
            await store.settle(claim, Outcome("completed"), now=3)
            assert (await claim_one(store, "a3", now=4)).id == "s2"

    async def test_what_began_is_aborted_by_whoever_goes_on_with_it(self, tmp_path: Path) -> None:
        """Its conversation may have to be put in order."""
        async with self.opened(tmp_path) as store:
            await store.admit(admission("s1"), now=0)
            await store.release(await claim_one(store, "a1"), now=1)
            found = await store.cancel("s1", "enough", now=2)
            assert found is not None
            assert (found.state, found.outcome) == ("queued", None)
            assert (await claim_one(store, "a2", now=3)).submission.cancel_reason == "enough"

    async def test_what_has_ended_stays_as_it_is(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.admit(admission("s1"), now=0)
            await store.settle(await claim_one(store, "a1"), Outcome("completed"), now=1)
            found = await store.cancel("s1", "enough", now=2)
            assert found is not None
            assert found == await store.get_submission("s1")
            assert (found.outcome, found.cancel_reason, found.settled_at) == ("completed", None, 1)
            assert [record.kind for record in await store.load_journal("s1")] == ["settled"]

    async def test_what_is_to_be_aborted_is_claimed_at_once_though_it_was_released_for_later(
        self, tmp_path: Path
    ) -> None:
        async with self.opened(tmp_path) as store:
            await store.admit(admission("s1"), now=0)
            claim = await claim_one(store, "a1")
            await store.cancel("s1", "enough", now=1)
            await store.release(claim, now=2, not_before=LEASE)
            assert (await claim_one(store, "a2", now=3)).submission.cancel_reason == "enough"

    async def test_cancelling_what_never_began_settles_it_and_frees_the_lane(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            for n in range(3):
                await store.admit(admission(f"s{n}"), now=0)
            for n in (1, 0):
                found = await store.cancel(f"s{n}", "not needed", now=5)
                assert found is not None
                assert (found.state, found.outcome, found.settled_at) == ("settled", "aborted", 5)
            assert (await claim_one(store, "a1")).id == "s2"
            assert await store.cancel("nobody", "x", now=6) is None

    async def test_cancelling_a_running_submission_tells_its_holder(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.admit(admission("s1"), now=0)
            claim = await claim_one(store, "a1")
            found = await store.cancel("s1", "enough", now=1)
            assert found is not None
            assert (found.state, found.cancel_reason) == ("running", "enough")
            await store.cancel("s1", "more than enough", now=1)
            assert (await store.renew("one", [claim], now=2, lease_until=LEASE)).cancelled == (("s1", "enough"),)
            assert not await store.park(claim, Wait("sleep", wake_at=9), now=3)
            await store.settle(claim, Outcome("aborted"), now=4)
            again = await store.cancel("s1", "twice", now=5)
            assert again is not None
            assert (again.state, again.outcome, again.cancel_reason) == ("settled", "aborted", "enough")

    async def test_cancelling_a_parked_submission_wakes_it_to_be_ended_in_good_order(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.admit(admission("s1"), now=0)
            await store.park(await claim_one(store, "a1"), Wait("approval", names=("x",)), now=1)
            await store.cancel("s1", "enough", now=2)
            claim = await claim_one(store, "a2", now=3)
            assert claim.submission.cancel_reason == "enough"

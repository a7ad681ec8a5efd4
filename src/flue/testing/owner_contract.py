"""What every `DurableStore` must do with owners, their leases and what they lose, as a test class to subclass.

See `flue.testing.work_contract` for how. Needs pytest and pytest-asyncio.
"""

# ruff: noqa: D102  (the names of the tests are sentences)

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from flue.durable.records import EventRow, JournalRecord, Message, Outcome, Wait, Writes
from flue.testing.store_contract import ids
from flue.testing.work_contract import LEASE, Opening, admission, claim_one, claimant, code_of, writing


@pytest.mark.asyncio
class OwnerContract(Opening):
    """The contract of `flue.durable.port.DurableStore` for owners, whose claims end when their leases do."""

    async def test_an_owner_that_renews_keeps_its_work(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.enlist("one", now=0, lease_until=LEASE)
            await store.admit(admission("s1"), now=0)
            claim = await claim_one(store, "a1")
            assert await store.take_over("two", now=LEASE - 1) == 0
            renewal = await store.renew("one", [claim], now=LEASE - 1, lease_until=2 * LEASE)
            assert (renewal.lost, renewal.cancelled) == ((), ())
            assert await store.take_over("two", now=2 * LEASE - 1) == 0
            assert await code_of(store.checkpoint(claim, Writes())) == "done"

    # DUR-05
    @pytest.mark.parametrize("at_admission", [True, False])
    async def test_whoever_begins_work_has_a_lease_for_it(self, tmp_path: Path, *, at_admission: bool) -> None:
        """An owner without claims renews nothing: its lease may be nearly over when the next work comes."""
        began = LEASE - 1
        async with self.opened(tmp_path) as store:
            await store.enlist("one", now=0, lease_until=LEASE)
            if at_admission:
                await store.admit(admission("s1"), now=began, claimant=claimant("a1", now=began))
            else:
                await store.admit(admission("s1"), now=began)
                await claim_one(store, "a1", now=began)
            assert await store.next_due("two") == began + LEASE
            assert await store.take_over("two", now=began + LEASE - 1) == 0
            assert await store.take_over("two", now=began + LEASE) == 1

    async def test_an_owner_whose_lease_is_over_does_not_take_over_from_itself(self, tmp_path: Path) -> None:
        """A machine that slept goes on where it was, unless another was faster."""
        async with self.opened(tmp_path) as store:
            await store.enlist("one", now=0, lease_until=LEASE)
            admitted = await store.admit(admission("s1"), now=0, claimant=claimant("a1"))
            assert admitted.claim is not None
            assert await store.take_over("one", now=2 * LEASE) == 0
            assert await code_of(store.checkpoint(admitted.claim, Writes())) == "done"

    # DUR-05
    async def test_after_an_expired_lease_another_owner_goes_on_and_the_old_one_writes_nothing(
        self, tmp_path: Path
    ) -> None:
        async with self.opened(tmp_path) as one, self.opened(tmp_path) as two:
            await one.admit(admission("s1", timeout_ms=100_000), now=0)
            old = await claim_one(one, "a1")
            await one.checkpoint(old, writing("session", "e1", 0, JournalRecord("request", "t1")))
            assert await two.take_over("two", now=LEASE) == 1
            new = await claim_one(two, "b1", "two", now=LEASE)
            assert new.submission.interruptions == 1
            late = JournalRecord("answer", "t1")
            for refused in (
                one.checkpoint(old, writing("session", "late", 1, late)),
                one.settle(old, Outcome("completed"), now=LEASE, writes=writing("session", "late", 1, late)),
                one.park(old, Wait("sleep", wake_at=1), now=LEASE, writes=writing("session", "late", 1, late)),
                one.release(old, now=LEASE, writes=writing("session", "late", 1, late)),
                one.restart(old, admission("r"), error="{}", now=LEASE, writes=writing("session", "late", 1, late)),
            ):
                assert await code_of(refused) == "attempt_lost"
            assert (await one.renew("one", [old], now=LEASE, lease_until=2 * LEASE)).lost == ("s1",)
            assert ids(await two.load_session("session")) == ["e1"]
            assert [record.kind for record in await two.load_journal("s1")] == ["request"]
            assert await one.get_submission("r") is None
            await two.settle(new, Outcome("completed"), now=LEASE + 1)

    # DUR-13
    async def test_many_are_claimed_at_once_each_with_an_attempt_and_indices_of_its_own(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            for n in range(40):
                await store.admit(admission(f"s{n}", f"l{n}", reserve=n), now=0)
            await store.claim([claimant(f"a{n}") for n in range(20)], now=0)
            await store.take_over("two", now=LEASE)
            claimants = [replace(claimant(f"b{n}", "two", now=LEASE), reserve=100 + n) for n in range(40)]
            claims = await store.claim(claimants, now=LEASE)
            assert [(claim.id, claim.first) for claim in claims] == [(f"s{n}", n >= 20) for n in range(40)]
            assert [claim.index for claim in claims] == [n if n < 20 else 0 for n in range(40)]
            assert [claim.attempt_id for claim in claims] == [each.attempt_id for each in claimants]
            assert [claim.submission for claim in claims] == [await store.get_submission(claim.id) for claim in claims]
            for claim in claims[:20]:
                last = EventRow(claim.id, claim.index, claim.index + 99 + int(claim.id[1:]), "x")
                await store.checkpoint(claim, Writes(events=(last,)))

    async def test_of_many_that_are_taken_up_at_once_each_finds_its_own(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as one, self.opened(tmp_path) as two:
            for n in range(40):
                await one.admit(admission(f"s{n}", f"l{n}", events=(EventRow(f"s{n}", 0, 0, f"{n}"),)), now=0)
            for claim in await one.claim([claimant(f"a{n}") for n in range(20)], now=0):
                request = JournalRecord("request", claim.id)
                await one.checkpoint(claim, writing(f"session-{claim.id}", claim.id, 0, request))
                await one.deliver(claim.id, Message(f"m-{claim.id}", "name", claim.id), now=0)
            work = [f"s{n}" for n in range(41)]  # and one that nobody knows
            journals, messages, sessions, events = await asyncio.gather(
                asyncio.gather(*map(two.load_journal, work)),
                asyncio.gather(*map(two.load_messages, work)),
                asyncio.gather(*(two.load_session(f"session-{id}") for id in work)),
                asyncio.gather(*map(two.read_events, work)),
            )
            began = [[id] for id in work[:20]] + [[]] * 21
            assert [[record.key for record in journal] for journal in journals] == began
            assert [[message.body for message in sent] for sent in messages] == began
            assert [[] if session is None else ids(session) for session in sessions] == began
            logged = [[f"{n}"] for n in range(40)] + [[]]
            assert [[stored.row.body for stored in found] for found in events] == logged

    async def test_a_takeover_frees_at_most_what_was_asked_and_goes_on_the_next_time(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            for n in range(5):
                await store.admit(admission(f"s{n}", f"l{n}"), now=0)
            await store.claim([claimant(f"a{n}") for n in range(5)], now=0)
            freed = [await store.take_over("two", now=LEASE, limit=2) for _ in range(4)]
            assert freed == [2, 2, 1, 0]
            assert len(await store.claim([claimant(f"b{n}", "two") for n in range(9)], now=LEASE)) == 5

    async def test_a_retired_owners_work_is_free_at_once_and_not_interrupted(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.enlist("one", now=0, lease_until=LEASE)
            await store.admit(admission("s1", home="one"), now=0)
            await store.admit(admission("s2", "other", home="one"), now=0)
            await store.admit(admission("s3", home="one"), now=0)
            old = await claim_one(store, "a1")
            await store.retire("one", now=1)
            assert await code_of(store.checkpoint(old, Writes())) == "attempt_lost"
            new = await store.claim([claimant("b1", "two"), claimant("b2", "two")], now=2)
            assert [(claim.id, claim.submission.interruptions) for claim in new] == [("s1", 0), ("s2", 0)]
            await store.settle(new[0], Outcome("completed"), now=3)
            assert (await claim_one(store, "b3", "two", now=4)).id == "s3"

    # DUR-40
    async def test_whoever_finds_nothing_to_claim_is_no_owner_for_that(self, tmp_path: Path) -> None:
        """Each would wake the others, to find nothing either."""
        async with self.opened(tmp_path) as store:
            assert await store.claim([claimant("a1")], now=0) == []
            assert await store.next_due("two") is None

    async def test_an_owner_claims_what_it_admitted_and_what_is_nobodys(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.enlist("one", now=0, lease_until=LEASE)
            await store.enlist("two", now=0, lease_until=LEASE)
            await store.admit(admission("s1", "l1", home="one"), now=0)
            await store.admit(admission("s2", "l2"), now=0)
            claims = await store.claim([claimant("a1"), claimant("a2")], now=1)
            assert [claim.id for claim in claims] == ["s1", "s2"]

    async def test_a_dead_owners_queue_is_taken_over(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.enlist("one", now=0, lease_until=LEASE)
            for n in range(3):
                await store.admit(admission(f"s{n}", home="one"), now=0)
            while await store.take_over("two", now=LEASE):
                pass
            for n in range(3):
                claim = await claim_one(store, f"b{n}", "two", now=LEASE)
                assert claim.submission.interruptions == 0
                await store.settle(claim, Outcome("completed"), now=LEASE)

    # DUR-38
    async def test_no_more_is_taken_over_at_once_than_was_asked_and_an_owner_is_known_until_all_is(
        self, tmp_path: Path
    ) -> None:
        async with self.opened(tmp_path) as store:
            for owner in ("one", "two"):
                for n in range(2):
                    await store.admit(
                        admission(f"{owner}{n}", f"{owner}{n}"), now=0, claimant=claimant(f"a-{owner}{n}", owner)
                    )
            assert [await store.take_over("three", now=LEASE, limit=3) for _ in range(3)] == [3, 1, 0]
            assert await store.next_due("three") is None
            claims = await store.claim([claimant(f"b{n}", "three") for n in range(9)], now=LEASE)
            assert sorted((claim.id, claim.submission.interruptions) for claim in claims) == [
                (f"{owner}{n}", 1) for owner in ("one", "two") for n in range(2)
            ]

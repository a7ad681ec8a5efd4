"""What every `DurableStore` must do with events, runs, schedules and retention, as a test class to subclass.

See `flue.testing.work_contract` for how. Needs pytest and pytest-asyncio.
"""

# ruff: noqa: D102  (the names of the tests are sentences)

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flue.durable.port import DurableStore
from flue.durable.records import (
    EventRow,
    JournalRecord,
    Message,
    Outcome,
    Retention,
    RunQuery,
    RunStatus,
    Schedule,
    StepResult,
    StoredEvents,
    Submission,
    Wait,
    Wake,
    Writes,
)
from flue.testing.work_contract import LEASE, Opening, admission, claim_one, claimant, code_of


def run(id: str, **changes: Any) -> Any:
    """Return an admission of a recorded workflow run, a lane of its own."""
    return admission(id, f"run:{id}", kind="workflow", target="report", recorded="workflow", **changes)


def rows(found: list[StoredEvents]) -> list[tuple[int, int, str]]:
    """Return first index, last index and body of each row."""
    return [(stored.row.first, stored.row.last, stored.row.body) for stored in found]


async def settle_all(store: DurableStore, *ids: str, at: int) -> None:
    """Claim and settle what is ready, which must be these."""
    claims = await store.claim([claimant(f"{id}-{at}") for id in ids], now=at)
    assert {claim.id for claim in claims} == set(ids)
    for claim in claims:
        await store.settle(claim, Outcome("completed", result='"done"'), now=at)


async def all_runs(store: DurableStore, **query: Any) -> list[str]:
    """Return the ids of all pages, two runs a page."""
    found: list[str] = []
    page = await store.list_runs(RunQuery(limit=2, **query))
    while page:
        found += [item.run_id for item in page]
        page = await store.list_runs(RunQuery(limit=2, before=(page[-1].started_at, page[-1].run_id), **query))
    return found


@pytest.mark.asyncio
class HistoryContract(Opening):
    """The contract of `flue.durable.port.DurableStore` for events, runs, schedules and retention."""

    # ------------------------------------------------------------------------------------------------ events

    async def test_no_index_is_given_twice(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as one, self.opened(tmp_path) as two:
            firsts = await asyncio.gather(*(store.reserve_indices("log", 10) for store in (one, two) for _ in range(5)))
            assert sorted(firsts) == list(range(0, 100, 10))
            assert await one.reserve_indices("other", 1) == 0

    # DUR-13
    async def test_a_later_claim_brings_indices_of_the_log_that_nobody_had(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.admit(admission("s1", reserve=5), now=0)
            claims = []
            for attempt in ("a1", "a2", "a3"):
                claims += await store.claim([replace(claimant(attempt), reserve=10)], now=0)
                if attempt != "a3":
                    await store.release(claims[-1], now=0)
                    await store.reserve_indices("s1", 1)
            assert [claim.index for claim in claims] == [0, 6, 17]
            await store.checkpoint(claims[-1], Writes(events=(EventRow("s1", 17, 26, "x"),)))
            beyond = Writes(events=(EventRow("s1", 27, 27, "y"),))
            assert await code_of(store.checkpoint(claims[-1], beyond)) == "event_index"

    # DUR-13
    async def test_a_log_is_read_from_any_index(self, tmp_path: Path) -> None:
        written = [EventRow("s1", 0, 0, "a"), EventRow("s1", 1, 4, "bcde", deltas=True), EventRow("s1", 7, 7, "f")]
        async with self.opened(tmp_path) as store:
            await store.admit(admission("s1", events=(written[0],), reserve=9), now=0)
            claim = await claim_one(store, "a1")
            await store.checkpoint(claim, Writes(events=tuple(written[1:])))
            for start, expected in ((0, "abcdef"), (1, "bcdef"), (3, "bcdef"), (5, "f"), (7, "f"), (8, "")):
                found = await store.read_events("s1", start=start)
                assert "".join(stored.row.body for stored in found) == expected
            assert [stored.row for stored in await store.read_events("s1", limit=2)] == written[:2]
            assert await store.read_events("nothing") == []

    # DUR-13
    @pytest.mark.parametrize(("first", "last"), [(0, 0), (1, 1), (2, 5), (4, 3), (5, 5)])
    async def test_an_index_that_was_used_or_not_reserved_is_refused(
        self, tmp_path: Path, first: int, last: int
    ) -> None:
        async with self.opened(tmp_path) as store:
            await store.admit(admission("s1", events=(EventRow("s1", 0, 1, "ab"),), reserve=3), now=0)
            claim = await claim_one(store, "a1")
            record = JournalRecord("note", "n")
            writes = Writes(journal=(record,), events=(EventRow("s1", first, last, "x"),))
            assert await code_of(store.checkpoint(claim, writes)) == "event_index"
            assert await store.load_journal("s1") == []
            assert rows(await store.read_events("s1")) == [(0, 1, "ab")]
            await store.checkpoint(claim, Writes(events=(EventRow("s1", 2, 4, "cde"),)))

    # DUR-13
    async def test_rows_of_one_write_share_no_index_either(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.admit(admission("s1", reserve=9), now=0)
            claim = await claim_one(store, "a1")
            twice = Writes(events=(EventRow("s1", 0, 2, "abc"), EventRow("s1", 2, 3, "cd")))
            assert await code_of(store.checkpoint(claim, twice)) == "event_index"
            await store.checkpoint(claim, Writes(events=(EventRow("s1", 0, 2, "abc"), EventRow("s1", 3, 3, "d"))))
            assert rows(await store.read_events("s1")) == [(0, 2, "abc"), (3, 3, "d")]

    async def test_an_instances_stream_holds_the_events_of_all_its_work_in_order(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            claims = []
            for id in ("s1", "s2"):
                await store.admit(admission(id, id, reserve=100), now=0)
                claims.append(await claim_one(store, f"a-{id}"))
            for n in range(3):
                for claim in claims:
                    pair = [EventRow(claim.id, 2 * n + k, 2 * n + k, f"{claim.id}:{n}{k}", "agent:a") for k in (0, 1)]
                    await store.checkpoint(claim, Writes(events=tuple(pair)))
            found = await store.read_stream("agent:a")
            assert [stored.row.body for stored in found] == [
                f"{id}:{n}{k}" for n in range(3) for id in ("s1", "s2") for k in (0, 1)
            ]
            offsets = [stored.offset for stored in found]
            assert offsets == sorted(set(offsets))
            assert await store.read_stream("agent:a", after=offsets[4], limit=3) == found[5:8]
            assert await store.read_stream("agent:b") == []

    # DUR-36
    async def test_what_never_began_has_the_log_that_came_with_its_end_and_what_began_its_own(
        self, tmp_path: Path
    ) -> None:
        async with self.opened(tmp_path) as store:
            for id in ("s1", "s2", "s3"):
                await store.admit(admission(id, reserve=2), now=0)
            claim = await claim_one(store, "a1")
            await store.cancel("s1", "enough", now=1, events=(EventRow("s1", 0, 0, "wrong", "agent:a"),))
            await store.cancel("s2", "enough", now=1, events=(EventRow("s2", 0, 1, "the end", "agent:a"),))
            await store.cancel("s2", "twice", now=2, events=(EventRow("s2", 0, 1, "again", "agent:a"),))
            assert rows(await store.read_events("s2")) == [(0, 1, "the end")]
            assert rows(await store.read_stream("agent:a")) == [(0, 1, "the end")]
            await store.settle(claim, Outcome("aborted"), now=3, writes=Writes(events=(EventRow("s1", 0, 0, "right"),)))
            assert rows(await store.read_events("s1")) == [(0, 0, "right")]

    # DUR-06
    async def test_an_abort_whose_log_cannot_be_written_ends_nothing(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.admit(admission("s1", reserve=2), now=0)
            refused = store.cancel("s1", "enough", now=1, events=(EventRow("s1", 0, 2, "too long"),))
            assert await code_of(refused) == "event_index"
            found = await store.get_submission("s1")
            assert found is not None
            assert (found.state, found.cancel_reason) == ("queued", None)
            assert await store.read_events("s1") == []

    async def test_next_due_names_the_lease_of_another_owner(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.enlist("one", now=0, lease_until=700)
            await store.enlist("two", now=0, lease_until=500)
            await store.enlist("three", now=0, lease_until=900)
            assert (await store.next_due("one"), await store.next_due("two")) == (500, 700)
            for owner in ("two", "three"):
                await store.retire(owner, now=1)
            assert await store.next_due("one") is None

    async def test_next_due_is_nothing_for_what_waits_without_a_time(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            for id in ("s1", "s2"):
                await store.admit(admission(id, id), now=0)
            one, two = await store.claim([claimant("a1"), claimant("a2")], now=0)
            await store.park(one, Wait("approval", names=("yes",)), now=1)
            assert await store.next_due("one") is None
            await store.park(two, Wait("sleep", wake_at=9), now=1)
            assert await store.next_due("one") == 9
            assert await store.wake_due(now=9) == 1
            assert await store.next_due("one") is None

    # DUR-06
    async def test_a_restart_takes_along_what_is_written_with_it_or_is_none(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.admit(run("r1", reserve=1), now=0)
            claim = await claim_one(store, "a1")
            note = JournalRecord("note", "n")
            bad = Writes(journal=(note,), events=(EventRow("r1", 0, 1, "x"),))
            assert await code_of(store.restart(claim, run("r2"), error="{}", now=1, writes=bad)) == "event_index"
            found = await store.get_submission("r1")
            assert found is not None
            assert (found.state, await store.get_submission("r2")) == ("running", None)
            assert await store.load_journal("r1") == []
            good = Writes(journal=(note,), events=(EventRow("r1", 0, 0, "the end"),))
            await store.restart(claim, run("r2"), error="{}", now=1, writes=good)
            assert rows(await store.read_events("r1")) == [(0, 0, "the end")]
            assert (await store.load_journal("r1"))[0] == note
            assert (await claim_one(store, "a2", now=2)).id == "r2"

    async def test_next_due_is_the_earliest_of_what_is_due_by_itself(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            for wake_at in (40, 30, 20):
                await store.admit(admission(f"s{wake_at}", f"l{wake_at}"), now=0)
                await store.park(await claim_one(store, f"a{wake_at}"), Wait("sleep", wake_at=wake_at), now=0)
                await store.put_schedule(Schedule(f"d{wake_at}", "{}", wake_at - 5))
            due = [await store.next_due("one")]
            while due[-1] is not None:
                await store.wake_due(now=due[-1])
                await store.delete_schedules([schedule.id for schedule in await store.list_schedules(due=due[-1])])
                due.append(await store.next_due("one"))
            assert due == [15, 20, 25, 30, 35, 40, None]

    async def test_listeners_hear_of_work_and_of_aborts(self, tmp_path: Path) -> None:
        heard: asyncio.Queue[Wake] = asyncio.Queue()
        async with self.opened(tmp_path) as store:
            await store.enlist("one", now=0, lease_until=LEASE)
            stop = store.listen(heard.put_nowait)
            await store.admit(admission("s1", home="one"), now=0)
            assert (await heard.get()).kind == "work"
            await claim_one(store, "a1")
            await store.cancel("s1", "enough", now=1)
            while (await heard.get()) != Wake("cancel", "one"):
                pass
            stop()

    # DUR-38
    @pytest.mark.parametrize("retires", [True, False])
    async def test_listeners_hear_that_an_owner_has_left_its_work(self, tmp_path: Path, *, retires: bool) -> None:
        heard: asyncio.Queue[Wake] = asyncio.Queue()
        async with self.opened(tmp_path) as store:
            await store.enlist("one", now=0, lease_until=LEASE)
            await store.admit(admission("s1"), now=0, claimant=claimant("a1"))
            store.listen(heard.put_nowait, events=False)
            await (store.retire("one", now=1) if retires else store.take_over("two", now=LEASE))
            while (await heard.get()).kind != "work":
                pass

    # DUR-38
    async def test_listeners_hear_of_a_new_owner(self, tmp_path: Path) -> None:
        heard: asyncio.Queue[Wake] = asyncio.Queue()
        async with self.opened(tmp_path) as store:
            store.listen(heard.put_nowait, events=False)
            await store.enlist("one", now=0, lease_until=LEASE)
            while (await heard.get()).kind != "work":
                pass

    async def test_listeners_hear_of_events(self, tmp_path: Path) -> None:
        heard: asyncio.Queue[Wake] = asyncio.Queue()
        async with self.opened(tmp_path) as store:
            await store.admit(admission("s1", reserve=5), now=0)
            claim = await claim_one(store, "a1")
            store.listen(heard.put_nowait)
            await store.checkpoint(claim, Writes(events=(EventRow("s1", 0, 0, "x"),)))
            # One without a key may come first: it says that something may have changed in any log.
            while (await heard.get()) != Wake("events", key="s1"):
                pass

    async def test_listeners_hear_that_work_ends_or_waits_though_its_log_does_not_grow(self, tmp_path: Path) -> None:
        heard: asyncio.Queue[Wake] = asyncio.Queue()
        async with self.opened(tmp_path) as store:
            for id in ("s1", "s2", "s3"):
                await store.admit(admission(id, id), now=0)
            one, two = await store.claim([claimant("a1"), claimant("a2")], now=0)
            store.listen(heard.put_nowait)
            await store.settle(one, Outcome("completed"), now=1)
            await store.park(two, Wait("approval", names=("yes",)), now=1)
            await store.cancel("s3", "enough", now=1)
            told: set[str] = set()
            while len(told) < 3:
                wake = await heard.get()
                told |= {wake.key} if wake.kind == "events" and wake.key else set()
            assert told == {"s1", "s2", "s3"}

    async def test_a_listener_that_does_not_follow_logs_hears_nothing_of_them(self, tmp_path: Path) -> None:
        heard: asyncio.Queue[Wake] = asyncio.Queue()
        async with self.opened(tmp_path) as store:
            await store.admit(admission("s1", reserve=5), now=0)
            claim = await claim_one(store, "a1")
            store.listen(heard.put_nowait, events=False)
            await store.checkpoint(claim, Writes(events=(EventRow("s1", 0, 0, "x"),)))
            await store.release(claim, now=1)
            assert (await heard.get()).kind == "work"

    # -------------------------------------------------------------------------------------------------- runs

    async def test_a_run_is_recorded_from_its_admission_to_its_end(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.admit(run("r1", payload='{"n":1}'), now=10)
            found = await store.get_run("r1")
            assert found is not None
            assert (found.status, found.payload, found.started_at, found.ended_at) == ("active", '{"n":1}', 10, None)
            assert (found.kind, found.target, found.lineage_id, found.generation) == ("workflow", "report", "r1", 0)
            await settle_all(store, "r1", at=25)
            found = await store.get_run("r1")
            assert found is not None
            assert (found.status, found.result, found.ended_at) == ("completed", '"done"', 25)
            await store.admit(admission("s1"), now=30)
            assert await store.get_run("s1") is None
            assert await all_runs(store) == ["r1"]

    async def test_runs_are_listed_newest_first_by_status_and_target(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            for n in range(6):
                await store.admit(replace(run(f"r{n}"), target="ab"[n % 2]), now=10 * (n // 3))
            claims = await store.claim([claimant(f"c{n}") for n in range(3)], now=50)
            for claim, kind in zip(claims, ("completed", "failed", "aborted"), strict=True):
                await store.settle(claim, Outcome(kind), now=60)  # type: ignore[arg-type]
            assert await all_runs(store) == ["r5", "r4", "r3", "r2", "r1", "r0"]
            statuses: list[tuple[RunStatus, list[str]]] = [
                ("active", ["r5", "r4", "r3"]),
                ("completed", ["r0"]),
                ("errored", ["r2", "r1"]),
            ]
            for status, expected in statuses:
                assert await all_runs(store, status=status) == expected
            assert await all_runs(store, target="a") == ["r4", "r2", "r0"]
            assert await all_runs(store, target="b", status="active") == ["r5", "r3"]
            assert await all_runs(store, target="c") == []

    # DUR-08, DUR-11
    async def test_a_restarted_run_is_linked_and_finds_its_steps_and_messages(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.admit(run("r1", key="k", payload="1"), now=0)
            claim = await claim_one(store, "a1")
            await store.deliver("r1", Message("m1", "paid"), now=1)
            await store.checkpoint(claim, Writes(steps=(StepResult("fetch", "7"),)))
            admitted = await store.restart(claim, run("r2", payload="1"), error='{"name":"E"}', now=2)
            assert (admitted.id, admitted.created) == ("r2", True)
            again = store.restart(claim, run("r3", payload="1"), error="{}", now=2)
            assert await code_of(again) == "attempt_lost"
            old, new = await store.get_run("r1"), await store.get_run("r2")
            assert old is not None
            assert new is not None
            assert (old.status, old.error, old.restarted_as, old.restarted_from) == (
                "errored",
                '{"name":"E"}',
                "r2",
                None,
            )
            assert (new.status, new.restarted_from, new.lineage_id, new.generation) == ("active", "r1", "r1", 1)
            claim = await claim_one(store, "a2")
            assert (claim.id, claim.submission.address) == ("r2", "r1")
            assert await store.load_steps("r1") == [StepResult("fetch", "7")]
            assert not await store.park(claim, Wait("event", names=("paid",)), now=3)
            await store.restart(claim, run("r3", payload="1"), error="{}", now=4)
            third = await store.get_run("r3")
            assert third is not None
            assert (third.restarted_from, third.lineage_id, third.generation) == ("r2", "r1", 2)

    async def test_what_a_replaced_run_reads_holds_what_was_queued_before_it_asked(self, tmp_path: Path) -> None:
        """Steps and messages are kept under the first run's id, not its own."""
        async with self.opened(tmp_path) as store:
            await store.admit(run("r1"), now=0)
            await store.restart(await claim_one(store, "a1"), run("r2"), error="{}", now=0)
            claim, long = await claim_one(store, "a2"), '"' + 300_000 * "x" + '"'  # whose writing takes a while
            assert await store.load_messages("r1") == []
            queued: list[Any] = [store.checkpoint(claim, Writes(journal=(JournalRecord("note", "n", long),)))]
            assert [record.key for record in await store.load_journal("r2")] == ["n"]
            queued.append(store.checkpoint(claim, Writes(steps=(StepResult("s", long),))))
            assert [step.name for step in await store.load_steps("r1")] == ["s"]
            queued += [store.deliver("r1", Message(id, "paid", long), now=0) for id in ("m1", "m2")]
            assert [message.id for message in await store.load_messages("r1")] == ["m1", "m2"]
            queued.append(store.checkpoint(claim, Writes(consumed=("m1",))))
            assert [message.id for message in await store.load_messages("r1")] == ["m2"]
            await asyncio.gather(*queued)

    # --------------------------------------------------------------------------------------------- schedules

    async def test_a_schedule_keeps_its_time_until_its_spec_changes(self, tmp_path: Path) -> None:
        first = Schedule("daily", '"0 9 * * *"', 900)
        async with self.opened(tmp_path) as store:
            assert await store.put_schedule(first) == first
            assert await store.put_schedule(replace(first, next_at=1800)) == first
            changed = Schedule("daily", '"0 8 * * *"', 800)
            assert await store.put_schedule(changed) == changed
            await store.put_schedule(Schedule("a", "{}", None))
            assert await store.list_schedules() == [Schedule("a", "{}", None), changed]
            assert (await store.list_schedules(due=799), await store.list_schedules(due=800)) == ([], [changed])
            assert await store.next_due("one") == 800
            await store.delete_schedules(["daily", "nothing"])
            assert await store.next_due("one") is None

    # DUR-12
    async def test_a_schedule_fires_once_however_many_nodes_try(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as one, self.opened(tmp_path) as two:
            daily = await one.put_schedule(Schedule("daily", "{}", 100))
            fired = await asyncio.gather(
                *(
                    store.fire(daily, 200, admission(f"s{n}-{k}", "l"), now=100)
                    for n, store in enumerate((one, two))
                    for k in range(3)
                )
            )
            assert len([each for each in fired if each is not None]) == 1
            assert len(await one.list_lane("l")) == 1
            assert await two.list_schedules() == [Schedule("daily", "{}", 200)]
            assert await one.fire(Schedule("daily", "[]", 200), 300, admission("s9", "l9"), now=200) is None
            assert await two.list_schedules() == [Schedule("daily", "{}", 200)], "it has another timing by now"
            assert await one.get_submission("s9") is None
            assert await one.fire(Schedule("daily", "{}", 200), None, None, now=200) is None
            assert await two.list_schedules() == [Schedule("daily", "{}", None)]

    # --------------------------------------------------------------------------------------------- retention

    # DUR-17
    async def test_retention_deletes_what_is_old_in_bounded_steps_and_nothing_else(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            for n in range(5):
                event = EventRow(f"s{n}", 0, 0, "e", "agent:a")
                await store.admit(admission(f"s{n}", f"l{n}", key=f"k{n}", events=(event,)), now=n)
            await store.admit(run("r1", events=(EventRow("r1", 0, 0, "e"),)), now=9)
            await store.admit(admission("open", "lo"), now=9)
            for n in range(5):
                await settle_all(store, f"s{n}", at=100 + n)
            await settle_all(store, "r1", at=105)
            old = Retention(submissions=103)
            assert [await store.prune(old, limit=2) for _ in range(3)] == [2, 1, 0]
            assert [bool(await store.get_submission(f"s{n}")) for n in range(5)] == [False] * 3 + [True] * 2
            assert await store.read_events("s0") == []
            assert await store.load_journal("s0") == []
            assert [stored.row.log for stored in await store.read_stream("agent:a")] == ["s3", "s4"]
            # The key outlives its submission: the work is not done a second time.
            again = await store.admit(admission("new", "l0", key="k0", payload='{"text":"s0"}'), now=200)
            assert (again.id, again.created) == ("s0", False)
            assert await store.prune(Retention(receipts=103)) == 3
            assert (await store.admit(admission("s0", "l0", key="k0"), now=200)).created
            assert await store.prune(Retention(submissions=1000, receipts=1000)) == 4
            assert await all_runs(store) == ["r1"]
            assert await store.prune(Retention(runs=106)) == 1
            assert await all_runs(store) == []
            left: list[Submission | None] = [await store.get_submission(id) for id in ("open", "s0")]
            assert None not in left

    # DUR-17
    async def test_no_step_of_retention_deletes_more_than_was_asked(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            for n in range(3):
                await store.admit(admission(f"s{n}", f"l{n}", key=f"k{n}"), now=0)
            await settle_all(store, "s0", "s1", "s2", at=5)
            everything = Retention(submissions=9, runs=9, deltas=9, receipts=9)
            assert [await store.prune(everything, limit=2) for _ in range(4)] == [2, 2, 2, 0]

    async def test_steps_stay_as_long_as_a_run_of_their_chain_does(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.admit(run("r1"), now=0)
            claim = await claim_one(store, "a1")
            await store.checkpoint(claim, Writes(steps=(StepResult("fetch", "7"),)))
            await store.restart(claim, run("r2"), error="{}", now=10)
            assert await store.prune(Retention(runs=1000)) == 1
            assert await store.load_steps("r1") == [StepResult("fetch", "7")]
            await settle_all(store, "r2", at=20)
            assert await store.prune(Retention(runs=1000)) == 1
            assert await store.load_steps("r1") == []

    async def test_deltas_of_settled_work_can_go_alone(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            for id in ("s1", "s2"):
                events = (
                    EventRow(id, 0, 0, "start"),
                    EventRow(id, 1, 9, "d", deltas=True),
                    EventRow(id, 10, 10, "end"),
                )
                await store.admit(admission(id, id, events=events), now=0)
            await store.settle(await claim_one(store, "a1"), Outcome("completed"), now=5)
            while await store.prune(Retention(deltas=6)):
                pass
            assert rows(await store.read_events("s1", start=4)) == [(10, 10, "end")]
            assert len(await store.read_events("s2")) == 3

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import pytest

import flue
from flue.definitions.durability import Durability
from flue.durable.records import RunQuery
from flue.engine.catalog import AgentEntry, Catalog, WorkflowEntry
from flue.engine.engine import EngineSettings
from flue.engine.messages import event_message
from flue.engine.service import Service, Ticket
from flue.errors import DurabilityError
from flue.stores import MemoryStore
from flue.testing import ScriptedModel, VirtualClock, hang
from tests.engine.log_scene import SlowStore, settled_tasks
from tests.engine.scenes import MOMENTS, catalog, crash, serving, settled


async def test_a_run_has_a_record_with_payload_and_result() -> None:
    async def run(ctx: flue.FlueContext) -> Any:
        return {"doubled": ctx.payload["n"] * 2, "id": ctx.run_id}

    async with serving(catalog(workflows={"double": run}), MemoryStore()) as service:
        ticket = await service.start_workflow("double", {"n": 4})
        outcome = await ticket.outcome()
        assert json.loads(outcome.result or "") == {"doubled": 8, "id": ticket.id}
        record = await service.get_run(ticket.id)
        assert record is not None
        assert (record.status, record.payload, json.loads(record.result or "")["doubled"]) == (
            "completed",
            '{"n":4}',
            8,
        )
        assert ticket.id.startswith("workflow:double:")
        assert [run.run_id for run in await service.list_runs(RunQuery())] == [ticket.id]


@pytest.mark.parametrize(
    ("raised", "name"), [(ValueError("No."), "ValueError"), (SystemExit(3), "OperationError"), (object, "UsageError")]
)
async def test_a_run_that_fails_ends_as_errored(raised: Any, name: str) -> None:
    def run(ctx: flue.FlueContext) -> Any:
        if raised is object:
            return object()
        raise raised

    async with serving(catalog(workflows={"bad": run}), MemoryStore()) as service:
        ticket = await service.start_workflow("bad")
        outcome = await ticket.outcome()
        record = await service.get_run(ticket.id)
    assert outcome.kind == "failed"
    assert json.loads(outcome.error or "")["name"] == name
    assert record is not None
    assert record.status == "errored"


# DUR-34
async def test_a_store_that_fails_to_reserve_indices_now_and_then_costs_a_log_nothing() -> None:
    class FlakyStore(MemoryStore):
        asked = 0

        async def reserve_indices(self, log: str, count: int) -> int:
            self.asked += 1
            if self.asked in (1, 2):
                raise DurabilityError("The disk is full.", code="store_full")
            return await super().reserve_indices(log, count)

    async def chatty(ctx: flue.FlueContext) -> None:
        for line in range(700):
            ctx.log.info(str(line))
            await asyncio.sleep(0)

    async with serving(catalog(workflows={"chatty": chatty}), FlakyStore()) as service:
        ticket = await service.start_workflow("chatty")
        events = [json.loads(event.data) async for event in ticket.events()]
    assert [event["message"] for event in events[1:-2]] == [str(line) for line in range(700)]
    assert [event["type"] for event in events[-2:]] == ["idle", "run_end"]


class OddError(BaseException):
    """What is neither a mistake nor an end."""


# DUR-24
@pytest.mark.parametrize(
    ("raised", "name"), [(asyncio.CancelledError(), "OperationError"), (OddError("odd"), "OddError")]
)
async def test_a_run_that_lets_out_what_is_no_exception_ends_as_errored(raised: BaseException, name: str) -> None:
    async def run(ctx: flue.FlueContext) -> None:
        raise raised

    async with serving(catalog(workflows={"bad": run}), MemoryStore()) as service:
        ticket = await service.start_workflow("bad")
        outcome = await ticket.outcome()
        events = [json.loads(event.data) for event in await service.log.read(ticket.id)]
    assert (outcome.kind, json.loads(outcome.error or "")["name"]) == ("failed", name)
    assert (events[-1]["type"], events[-1]["error"]["name"]) == ("run_end", name)


async def test_an_aborted_run_ends_and_what_it_left_running_too() -> None:
    begun = asyncio.Event()
    agent = flue.create_agent(model=ScriptedModel([hang()]))

    async def run(ctx: flue.FlueContext) -> None:
        harness = await ctx.init(agent)
        session = await harness.session()
        begun.set()
        await session.prompt("Go.")

    async with serving(catalog(workflows={"long": run}), MemoryStore()) as service:
        ticket = await service.start_workflow("long")
        await begun.wait()
        await service.abort(ticket.id, "Enough.")
        outcome = await ticket.outcome()
    assert (outcome.kind, json.loads(outcome.error or "")["message"]) == ("aborted", "Enough.")


# DUR-35
async def test_the_log_of_a_run_that_cannot_be_cancelled_has_all_until_its_end_and_nothing_of_what_follows() -> None:
    free = asyncio.Event()

    async def stubborn(ctx: flue.FlueContext) -> None:
        while not free.is_set():
            try:
                await free.wait()
            except asyncio.CancelledError:
                ctx.log.info("I go on.")
        ctx.log.info("Done.")

    async with serving(catalog(workflows={"long": stubborn}), MemoryStore()) as service:
        ticket = await service.start_workflow("long")
        await asyncio.sleep(0)
        await service.abort(ticket.id, "Enough.")
        try:
            followed = [json.loads(event.data) async for event in ticket.events()]
        finally:
            free.set()
        await service.at_rest(service.deployment)
        read = [json.loads(event.data) for event in await service.log.read(ticket.id)]
    assert followed == read
    assert [event.get("message", event["type"]) for event in read] == ["run_start", "I go on.", "run_end"]
    assert (read[-1]["isError"], read[-1]["error"]["message"]) == (True, "Enough.")


class Paid:
    """A workflow whose steps cost something."""

    def __init__(self) -> None:
        self.charged: list[str] = []
        self.bodies = 0

    async def run(self, ctx: flue.FlueContext) -> Any:
        self.bodies += 1
        first = await ctx.step("first", self.charge, "a")
        await ctx.sleep(300)
        second = await ctx.step("second", self.charge, "b")
        return [first, second, ctx.lineage_id]

    def charge(self, what: str) -> str:
        self.charged.append(what)
        return what.upper()


# DUR-31
@pytest.mark.parametrize("done", MOMENTS)
async def test_a_run_survives_the_death_of_its_process_at_every_write(done: bool) -> None:
    for at in itertools.count(1):
        paid, store = Paid(), MemoryStore()
        offers = catalog(workflows={"paid": paid.run})
        accepted: list[str] = []

        async def script(service: Service, accepted: list[str] = accepted) -> None:
            ticket = await service.start_workflow("paid")
            accepted.append(ticket.id)
            await ticket.outcome()

        cut = await crash(offers, store, at, script, done=done)
        async with serving(offers, store) as service:
            await service.start()
            for id in accepted:
                await follow_to_the_end(service, id, cut_at=at)
        assert len(paid.charged) <= paid.bodies + 1, at
        if cut.at is None:
            assert paid.charged == ["a", "b"]
            assert paid.bodies == 2
            return


async def follow_to_the_end(service: Service, first: str, *, cut_at: int) -> None:
    """Every run of the chain but the last is errored and replaced; the last has the steps of the whole chain."""
    id: str | None = first
    before: str | None = None
    while id is not None:
        outcome = await settled(service, id)
        record = await service.get_run(id)
        assert record is not None
        assert (record.lineage_id, record.restarted_from) == (first, before), cut_at
        if record.restarted_as is None:
            assert json.loads(outcome.result or "null") == ["A", "B", first], (cut_at, outcome)
        else:
            assert outcome.kind == "failed"
            assert f'restarted as run "{record.restarted_as}"' in json.loads(outcome.error or "")["message"]
        before, id = id, record.restarted_as


# DUR-32
async def test_a_long_sleep_parks_the_run_and_it_goes_on_under_its_own_id() -> None:
    paid, clock = Paid(), VirtualClock()
    async with serving(catalog(workflows={"paid": paid.run}), MemoryStore(), clock) as service:
        ticket = await service.start_workflow("paid")
        await clock.advance(10)
        found = await service.get_submission(ticket.id)
        assert found is not None
        assert (found.state, found.park_reason, service.engine.running) == ("parked", "sleep", 0)
        await clock.advance(300)
        assert json.loads((await ticket.outcome()).result or "") == ["A", "B", ticket.id]
    assert (paid.charged, paid.bodies) == (["a", "b"], 2)


# DUR-32
@pytest.mark.parametrize("early", [True, False])
async def test_a_run_waits_for_an_event_and_takes_it_once(early: bool) -> None:
    gate = asyncio.Event()

    async def run(ctx: flue.FlueContext) -> Any:
        await gate.wait()
        return [await ctx.wait_for_event("paid"), await ctx.wait_for_event("sent")]

    async with serving(catalog(workflows={"order": run}), MemoryStore()) as service:
        ticket = await service.start_workflow("order")
        if early:
            await service.send_event(ticket.id, "paid", {"amount": 5}, id="e1")
            await service.send_event(ticket.id, "paid", {"amount": 5}, id="e1")
            gate.set()
        else:
            gate.set()
            await service.engine.outcome(ticket.id, until=lambda found: found.park_reason == "event")
            await service.send_event(ticket.id, "paid", {"amount": 5})
        await service.engine.outcome(ticket.id, until=lambda found: found.waiting_for == ("event:sent",))
        await service.send_event(ticket.id, "sent")
        assert json.loads((await ticket.outcome()).result or "") == [{"amount": 5}, None]
        with pytest.raises(flue.UsageError) as refused:
            await service.send_event(ticket.id, "paid")
    assert refused.value.code == "run_not_found"


class Busy:
    """A workflow that waits for an event beside a step that goes on until it is there."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.begun = asyncio.Event()

    async def run(self, ctx: flue.FlueContext) -> Any:
        heard = asyncio.Event()

        async def wait() -> Any:
            payload = await ctx.wait_for_event("paid")
            heard.set()
            return payload

        async def work() -> str:
            self.runs.append(ctx.id)
            self.begun.set()
            await heard.wait()
            return "done"

        return await asyncio.gather(wait(), ctx.step("work", work))


async def test_a_run_that_is_busy_elsewhere_takes_an_event_at_once() -> None:
    """Nothing has to end for it, and no time passes: the clock stands still."""
    busy, clock = Busy(), VirtualClock()
    async with serving(catalog(workflows={"order": busy.run}), MemoryStore(), clock) as service:
        began = clock.now_ms()
        ticket = await service.start_workflow("order")
        await busy.begun.wait()
        await service.send_event(ticket.id, "paid", 5)
        assert json.loads((await ticket.outcome()).result or "") == [5, "done"]
        assert clock.now_ms() == began


# DUR-09
async def test_a_run_that_is_busy_finds_an_event_that_another_process_took_when_its_lease_is_renewed() -> None:
    busy, store = Busy(), MemoryStore()
    async with serving(catalog(workflows={"order": busy.run}), store) as service:
        ticket = await service.start_workflow("order")
        await busy.begun.wait()
        assert await store.deliver(ticket.id, event_message("m1", "paid", 5), now=0)
        assert json.loads((await asyncio.wait_for(ticket.outcome(), 5)).result or "") == [5, "done"]


async def test_a_run_that_took_the_place_of_another_takes_an_event_for_that_at_once() -> None:
    """Whoever sends it knows the first one's id."""
    busy = Busy()

    async def order(service: Service) -> None:
        await service.start_workflow("order")
        await busy.begun.wait()

    offers, store = catalog(workflows={"order": busy.run}), MemoryStore()
    await crash(offers, store, 1_000_000, order)
    busy.begun.clear()
    clock = VirtualClock(start_ms=VirtualClock().now_ms() + 3_600_000)
    async with serving(offers, store, clock) as service:
        await service.start()
        began = clock.now_ms()
        await busy.begun.wait()
        await service.send_event(busy.runs[0], "paid", 5)
        assert json.loads((await settled(service, busy.runs[1])).result or "") == [5, "done"]
        assert clock.now_ms() == began


async def test_a_wait_for_an_event_times_out() -> None:
    async def run(ctx: flue.FlueContext) -> str:
        try:
            await ctx.wait_for_event("never", timeout=600)
        except flue.OperationTimeoutError:
            return "Gave up."
        return "It came."

    async with serving(catalog(workflows={"order": run}), MemoryStore()) as service:
        assert (await (await service.start_workflow("order")).outcome()).result == '"Gave up."'


async def test_a_workflow_may_ask_for_no_restart() -> None:
    begun = asyncio.Event()

    async def run(ctx: flue.FlueContext) -> None:
        begun.set()
        await asyncio.Event().wait()

    offers, store = catalog(workflows={"once": run}, on_interrupt="fail"), MemoryStore()
    ids: list[str] = []

    async def script(service: Service) -> None:
        ids.append((await service.start_workflow("once")).id)
        await begun.wait()

    await crash(offers, store, 10_000, script)
    async with serving(offers, store) as service:
        outcome = await settled(service, ids[0])
    assert (outcome.kind, json.loads(outcome.error or "")["code"]) == ("failed", "interrupted")


# DUR-31
async def test_a_run_that_always_crashes_is_restarted_so_often_and_no_more() -> None:
    begun = asyncio.Event()

    async def run(ctx: flue.FlueContext) -> None:
        begun.set()
        await asyncio.Event().wait()

    entry = Durability(max_attempts=3)
    offers, store = catalog(workflows={"crash": run}, durability=entry), MemoryStore()
    ids: list[str] = []

    async def script(service: Service) -> None:
        begun.clear()
        await service.start()
        ids.extend([] if ids else [(await service.start_workflow("crash")).id])
        await begun.wait()

    for _ in range(3):
        await crash(offers, store, 10_000, script)
    async with serving(offers, store) as service:
        await service.start()
        id: str | None = ids[0]
        chain: list[int] = []
        outcome = None
        while id is not None:
            outcome = await settled(service, id)
            record = await service.get_run(id)
            assert record is not None
            chain.append(record.generation)
            id = record.restarted_as
    assert chain == [0, 1, 2]
    assert outcome is not None
    assert json.loads(outcome.error or "")["code"] == "exhausted_attempts"


async def test_a_function_agents_runs_follow_each_other_in_one_instance() -> None:
    running, most = 0, 0

    async def run(ctx: flue.FlueContext) -> Any:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return {"id": ctx.id, "run": ctx.run_id, "payload": ctx.payload}

    async with serving(Catalog.of([AgentEntry("greet", run=run)]), MemoryStore()) as service:
        tickets = [await service.start_agent("greet", "ann", n) for n in range(3)]
        results = [json.loads((await ticket.outcome()).result or "") for ticket in tickets]
        record = await service.get_run(tickets[0].id)
    assert results == [{"id": "ann", "run": ticket.id, "payload": n} for n, ticket in enumerate(tickets)]
    assert all(ticket.id.startswith("run_") for ticket in tickets)
    assert most == 1
    assert record is not None
    assert (record.kind, record.instance) == ("agent", "ann")


async def test_a_key_starts_one_run_and_other_content_is_a_conflict() -> None:
    async def run(ctx: flue.FlueContext) -> Any:
        return ctx.payload

    async with serving(catalog(workflows={"echo": run}), MemoryStore()) as service:
        first, again = [await service.start_workflow("echo", {"n": 1}, key="k") for _ in range(2)]
        assert (again.id, first.created, again.created) == (first.id, True, False)
        with pytest.raises(flue.DurabilityError) as refused:
            await service.start_workflow("echo", {"n": 2}, key="k")
    assert refused.value.code == "idempotency_conflict"


# DUR-31
async def test_a_run_goes_on_when_the_result_of_its_step_is_on_disk() -> None:
    done: list[str] = []

    async def pay() -> str:
        done.append("paid")
        return "receipt"

    async def run(ctx: flue.FlueContext) -> None:
        await ctx.step("pay", pay)
        done.append("went on")

    store = SlowStore()
    async with serving(catalog({}, {"order": run}), store) as service:
        await service.start_workflow("order")
        for _ in range(3):
            await settled_tasks()
        assert done == ["paid"]
        for _ in range(10):
            store.commit()
            await settled_tasks()
        assert done == ["paid", "went on"]
        assert service.engine.running == 0


# DUR-36
async def test_a_run_that_waits_is_aborted_and_its_log_says_so() -> None:
    bodies = 0

    async def run(ctx: flue.FlueContext) -> None:
        nonlocal bodies
        bodies += 1
        await ctx.wait_for_event("never")

    async with serving(catalog({}, {"nightly": run}), MemoryStore()) as service:
        ticket = await service.start_workflow("nightly")
        await service.engine.outcome(ticket.id, until=lambda found: found.state == "parked")
        await service.abort(ticket.id, "Not needed.")
        assert (await asyncio.wait_for(ticket.outcome(), 5)).kind == "aborted"
        assert [event.type for event in await service.log.read(ticket.id)][-1] == "run_end"
    assert bodies == 1


# DUR-36
@pytest.mark.parametrize("followed", [True, False], ids=["followed", "read later"])
async def test_a_run_that_is_aborted_before_it_began_has_an_end_that_says_so(*, followed: bool) -> None:
    """Also for who follows its instance, and for a workflow that waits for a place."""

    async def run(ctx: flue.FlueContext) -> None:
        await asyncio.Event().wait()

    async def events(ticket: Ticket) -> list[Any]:
        return [json.loads(event.data) async for event in ticket.events()]

    offers = Catalog.of([AgentEntry("greet", run=run)], [WorkflowEntry("nightly", run)])
    async with serving(offers, MemoryStore(), settings=EngineSettings(concurrency=1)) as service:
        before = await service.start_agent("greet", "ann")
        tickets = [await service.start_agent("greet", "ann"), await service.start_workflow("nightly")]
        following = [asyncio.create_task(events(ticket)) for ticket in tickets] if followed else []
        await settled_tasks()
        for ticket in tickets:
            await service.abort(ticket.id, "Not needed.")
        logs = await asyncio.gather(*(following or map(events, tickets)))
        assert [[event["type"] for event in log] for log in logs] == [["run_end"]] * 2
        for (end,), ticket in zip(logs, tickets, strict=True):
            assert (end["runId"], end["eventIndex"], end["isError"]) == (ticket.id, 0, True)
            assert end["error"]["message"] == "Not needed."
            record = await service.get_run(ticket.id)
            assert record is not None
            assert record.status == "errored"
        await service.abort(before.id)
        await before.outcome()
        stream = await service.store.read_stream("greet/ann")
        assert [stored.row.log for stored in stream if "run_end" in stored.row.body] == [tickets[0].id, before.id]


# DUR-32
async def test_each_wait_takes_an_event_of_its_own() -> None:
    async def run(ctx: flue.FlueContext) -> list[Any]:
        return [await ctx.wait_for_event("paid"), await ctx.wait_for_event("paid")]

    async with serving(catalog({}, {"order": run}), MemoryStore()) as service:
        ticket = await service.start_workflow("order")
        for sum in (1, 2):
            await service.engine.outcome(ticket.id, until=lambda found: found.state == "parked")
            await service.send_event(ticket.id, "paid", sum)
            await settled_tasks()
        assert json.loads((await asyncio.wait_for(ticket.outcome(), 5)).result or "") == [1, 2]


# DUR-35
async def test_a_run_that_takes_the_place_of_another_has_the_time_and_the_attempts_that_are_left() -> None:
    begun = asyncio.Event()

    async def run(ctx: flue.FlueContext) -> None:
        begun.set()
        await asyncio.Event().wait()

    async def script(service: Service) -> None:
        await service.start_workflow("order")
        await begun.wait()

    store, clock = MemoryStore(), VirtualClock(auto=True)
    offers = catalog({}, {"order": run}, durability=Durability(max_attempts=3, timeout=100))
    await crash(offers, store, 10_000, script)
    async with serving(offers, store, clock) as service:
        await clock.sleep(60)
        await service.start()
        [first] = await service.list_runs(RunQuery(status="errored"))
        assert first.restarted_as is not None
        found = await service.get_submission(first.restarted_as)
        assert found is not None
        assert found.max_attempts == 3
        assert 0 < found.time_left_ms <= 100_000
        await service.abort(found.id)


# DUR-31
async def test_no_run_of_a_chain_repeats_a_step_that_one_before_it_recorded() -> None:
    charged, begun = list[str](), asyncio.Event()

    def charge(what: str) -> str:
        charged.append(what)
        return what.upper()

    async def run(ctx: flue.FlueContext) -> list[str]:
        first = await ctx.step("first", charge, "a")
        begun.set()
        await never.wait()
        return [first, await ctx.step("second", charge, "b")]

    async def start(service: Service) -> None:
        chain.append((await service.start_workflow("order")).id)
        await begun.wait()

    async def go_on(service: Service) -> None:
        begun.clear()
        await service.start()
        await settled(service, chain[-1])
        record = await service.get_run(chain[-1])
        assert record is not None
        assert record.restarted_as is not None
        chain.append(record.restarted_as)
        await begun.wait()

    chain, never = list[str](), asyncio.Event()
    store, offers = MemoryStore(), catalog({}, {"order": run})
    await crash(offers, store, 10_000, start)
    await crash(offers, store, 10_000, go_on)
    never.set()
    async with serving(offers, store) as service:
        await go_on(service)
        outcome = await settled(service, chain[-1])
    assert (json.loads(outcome.result or ""), charged) == (["A", "B"], ["a", "b"])
    assert len(chain) == 3

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import flue
from flue.definitions.agent import Agent
from flue.durable.records import Claim, Outcome, Submission, Writes
from flue.engine import engine
from flue.engine.admissions import session_lane
from flue.engine.service import Service, Ticket
from flue.harness.files_note import NEW_SANDBOX
from flue.messages import Usage
from flue.stores import MemoryStore
from flue.testing import RecordedRequest, ScriptedModel, call, hang
from tests.engine.scenes import MOMENTS, catalog, conversation, crash, serving, settled, texts


class Careful:
    """An agent with a tool that needs approval, beside one that does not."""

    def __init__(self) -> None:
        self.ran: list[str] = []

        @flue.tool(approval=True)
        async def deploy(place: str) -> str:
            """Deploy."""
            self.ran.append(place)
            return f"Deployed to {place}."

        @flue.tool
        async def note(text: str) -> str:
            """Note."""
            self.ran.append(text)
            return "Noted."

        self.tools, self.model = (deploy, note), ScriptedModel(itertools.repeat(self.answer))
        self.agent: Agent = flue.create_agent(model=self.model, tools=self.tools)

    def answer(self, request: RecordedRequest) -> Any:
        if texts(request.messages[-1:]) == ["user: Ship it."]:
            return [call("note", {"text": "begun"}), call("deploy", {"place": "prod"}, id="d1")]
        return "Over: " + texts(request.messages[-1:])[0]


async def parked(ticket: Ticket) -> Submission:
    rest = await ticket.rest()
    assert isinstance(rest, Submission), rest
    return rest


async def test_a_call_that_needs_approval_parks_the_prompt_and_a_decision_continues_it() -> None:
    careful, store = Careful(), MemoryStore()
    async with serving(catalog({"chat": careful.agent}), store) as service:
        ticket = await service.prompt("chat", "ann", "Ship it.")
        waiting = await parked(ticket)
        assert (waiting.park_reason, waiting.waiting_for, careful.ran) == ("approval", ("approve:d1",), ["begun"])
        assert service.engine.running == 0
        await service.decide("chat", "ann", "d1", approved=True)
        assert "Deployed to prod." in ((await ticket.outcome()).result or "")
    assert careful.ran == ["begun", "prod"]


async def test_a_denied_call_is_not_run_and_the_model_reads_why() -> None:
    careful, store = Careful(), MemoryStore()
    async with serving(catalog({"chat": careful.agent}), store) as service:
        ticket = await service.prompt("chat", "ann", "Ship it.")
        await parked(ticket)
        await service.decide("chat", "ann", "d1", approved=False, reason="It is Friday.")
        assert "It is Friday." in ((await ticket.outcome()).result or "")
    assert careful.ran == ["begun"]


@pytest.mark.parametrize(("approved", "told"), [(True, "Deployed to prod."), (False, "A person denied this call")])
async def test_a_call_that_is_decided_while_another_runs_goes_on_after_it(approved: bool, told: str) -> None:
    careful, going, gate = Careful(), asyncio.Event(), asyncio.Event()

    @flue.tool
    async def note(text: str) -> str:
        """Note."""
        going.set()
        await gate.wait()
        return "Noted."

    deploy, _ = careful.tools
    agent = flue.create_agent(model=careful.model, tools=[deploy, note])
    async with serving(catalog({"chat": agent}), MemoryStore()) as service:
        ticket = await service.prompt("chat", "ann", "Ship it.")
        await going.wait()
        await service.decide("chat", "ann", "d1", approved=approved)
        gate.set()
        async with asyncio.timeout(5):
            assert told in ((await ticket.outcome()).result or "")
    assert careful.ran == (["prod"] if approved else [])


class Meanwhile:
    """A store in which something is done, once, while a prompt that is about to be parked writes for the last time.

    That is when the heads it has written have had `sign` in their metadata so often.
    """

    def __init__(self, store: MemoryStore, sign: str, often: int, do: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self._sign = sign
        self._left = often
        self._do = do
        self._loaded = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def load_messages(self, address: str) -> Any:
        messages = await self._store.load_messages(address)
        if messages:
            asyncio.get_running_loop().call_soon(self._loaded.set)
        return messages

    async def checkpoint(self, claim: Claim, writes: Writes) -> None:
        await self._store.checkpoint(claim, writes)
        self._left -= any(self._sign in str(append.head.metadata) for append in writes.sessions)
        if self._left == 0:
            self._left = -1
            await self._do()
            await self._loaded.wait()
            await asyncio.sleep(0)


# DUR-33
async def test_a_decision_that_comes_in_the_moment_before_a_prompt_is_parked_lets_it_go_on() -> None:
    """It is used up then, so that the store would not see it any more: parked, the prompt would wait for ever."""
    careful = Careful()

    async def decide() -> None:
        await service.decide("chat", "ann", "d1", approved=True)

    # With the first head the call asks for its approval.
    store = Meanwhile(MemoryStore(), "'pending'", 2, decide)
    async with serving(catalog({"chat": careful.agent}), store) as service:
        ticket = await service.prompt("chat", "ann", "Ship it.")
        async with asyncio.timeout(5):
            assert "Deployed to prod." in ((await ticket.outcome()).result or "")
    assert careful.ran == ["begun", "prod"]


# DUR-33
async def test_a_decision_is_taken_by_another_process_and_the_call_runs_once() -> None:
    careful, store = Careful(), MemoryStore()
    offers = catalog({"chat": careful.agent})
    tickets: list[Ticket] = []

    async def ship(service: Service) -> None:
        tickets.append(await service.prompt("chat", "ann", "Ship it."))
        await parked(tickets[0])

    await crash(offers, store, 10_000, ship)
    async with serving(offers, store) as service:
        await service.start()
        await service.decide("chat", "ann", "d1", approved=True)
        assert "Deployed to prod." in ((await settled(service, tickets[0].id)).result or "")
    assert careful.ran == ["begun", "prod"]


# DUR-33
async def test_a_call_is_run_by_another_process_also_where_the_model_used_its_id_before() -> None:
    careful, store = Careful(), MemoryStore()
    deploys = [call("deploy", {"place": place}, id="d1") for place in ("test", "prod")]
    agent = flue.create_agent(model=ScriptedModel([*deploys, "Done."]), tools=careful.tools)
    offers, tickets = catalog({"chat": agent}), list[Ticket]()

    async def ship(service: Service) -> None:
        tickets.append(await service.prompt("chat", "ann", "Ship it."))
        await parked(tickets[0])
        await service.decide("chat", "ann", "d1", approved=True)
        await service.engine.outcome(tickets[0].id, until=lambda found: found.state == "parked" and careful.ran != [])

    await crash(offers, store, 10_000, ship)
    assert careful.ran == ["test"]
    async with serving(offers, store) as service:
        await service.start()
        await service.decide("chat", "ann", "d1", approved=True)
        assert (await settled(service, tickets[0].id)).kind == "completed"
    assert careful.ran == ["test", "prod"]


# DUR-33
@pytest.mark.parametrize("done", MOMENTS)
async def test_an_approval_survives_the_death_of_its_process_at_every_write(done: bool) -> None:
    for at in itertools.count(1):
        careful, store = Careful(), MemoryStore()
        offers = catalog({"chat": careful.agent})
        accepted: list[str] = []

        async def ship(service: Service, accepted: list[str] = accepted) -> None:
            ticket = await service.prompt("chat", "ann", "Ship it.")
            accepted.append(ticket.id)
            await parked(ticket)
            await service.decide("chat", "ann", "d1", approved=True)
            await ticket.outcome()

        cut = await crash(offers, store, at, ship, done=done)
        async with serving(offers, store) as service:
            await service.start()
            for id in accepted:
                ended = await service.engine.outcome(id, until=lambda found: found.state == "parked")
                if isinstance(ended, Submission) and ended.park_reason == "approval":
                    await service.decide("chat", "ann", "d1", approved=True)
                assert (await settled(service, id)).kind == "completed", at
        told = " ".join(texts(await conversation(store, "chat", "ann")))
        assert careful.ran.count("prod") <= 1, at
        assert careful.ran.count("prod") == 1 or not accepted or "unknown" in told, (at, told)
        if cut.at is None:
            return


class Away:
    """A store through which nothing is claimed for the time being."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.away = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    async def claim(self, *args: Any, **named: Any) -> list[Claim]:
        return [] if self.away else await self.store.claim(*args, **named)


# DUR-33
@pytest.mark.parametrize("done", MOMENTS)
async def test_what_a_process_kept_open_of_a_waiting_prompt_is_not_used_once_another_has_worked_on_it(
    done: bool,
) -> None:
    for at in itertools.count(1):
        careful, store = Careful(), MemoryStore()
        offers, own = catalog({"chat": careful.agent}), Away(store)
        async with serving(offers, own) as service:
            ticket = await service.prompt("chat", "ann", "Ship it.")
            await parked(ticket)
            own.away = True
            accepted: list[str] = []

            async def decide(other: Service, accepted: list[str] = accepted, id: str = ticket.id) -> None:
                await other.start()
                await other.decide("chat", "ann", "d1", approved=True)
                accepted.append(id)
                await other.engine.outcome(id)

            cut = await crash(offers, store, at, decide, done=done)
            own.away = False
            if not accepted:
                await service.decide("chat", "ann", "d1", approved=True)
            service.engine.look()
            async with asyncio.timeout(5):
                assert (await settled(service, ticket.id)).kind == "completed", at
        told = " ".join(texts(await conversation(store, "chat", "ann")))
        assert careful.ran.count("prod") == 1 or "unknown" in told, (at, told)
        if cut.at is None:
            return


async def test_files_in_the_sandbox_are_there_after_an_approval_in_the_same_process() -> None:
    @flue.tool(approval=True)
    async def publish(context: flue.ToolContext) -> str:
        """Publish the file."""
        return str(await context.sandbox.read_file("/workspace/page.txt"))

    steps: list[Any] = [
        call("write", {"path": "page.txt", "content": "Hello."}),
        call("publish", id="p1"),
        "Published.",
    ]
    agent = flue.create_agent(model=ScriptedModel(steps), tools=[publish])
    store = MemoryStore()
    async with serving(catalog({"chat": agent}), store) as service:
        ticket = await service.prompt("chat", "ann", "Write and publish.")
        await parked(ticket)
        await service.decide("chat", "ann", "p1", approved=True)
        await ticket.outcome()
    assert "toolResult: Hello." in texts(await conversation(store, "chat", "ann"))


# DUR-42
async def test_after_an_approval_in_another_process_the_model_is_told_that_its_files_are_gone() -> None:
    @flue.tool(approval=True)
    async def publish() -> str:
        """Publish the file."""
        return "It is out."

    steps: list[Any] = [
        call("write", {"path": "page.txt", "content": "Hello."}),
        call("publish", id="p1"),
        call("read", {"path": "page.txt"}),
        "It is gone.",
    ]
    agent = flue.create_agent(model=ScriptedModel(steps), tools=[publish])
    store, offers, tickets = MemoryStore(), catalog({"chat": agent}), list[Ticket]()

    async def write(service: Service) -> None:
        tickets.append(await service.prompt("chat", "ann", "Write and publish."))
        await parked(tickets[0])

    await crash(offers, store, 10_000, write)
    async with serving(offers, store) as service:
        await service.start()
        await service.decide("chat", "ann", "p1", approved=True)
        await settled(service, tickets[0].id)
    *_, published, note, _, missing, _ = texts(await conversation(store, "chat", "ann"))
    assert (published, note) == ("toolResult: It is out.", f"user: {NEW_SANDBOX}")
    assert "page.txt" in missing


# DUR-33
async def test_a_decision_counts_for_one_call_also_where_the_model_uses_its_id_again() -> None:
    ran: list[int] = []

    @flue.tool(approval=True)
    async def deploy(n: int) -> str:
        """Deploy."""
        ran.append(n)
        return "Deployed."

    steps: list[Any] = [call("deploy", {"n": 1}, id="c"), call("deploy", {"n": 2}, id="c"), "Done."]
    agent = flue.create_agent(model=ScriptedModel(steps), tools=[deploy])
    async with serving(catalog({"chat": agent}), MemoryStore()) as service:
        ticket = await service.prompt("chat", "ann", "Go.")
        await parked(ticket)
        await service.decide("chat", "ann", "c", approved=True)
        await service.decide("chat", "ann", "c", approved=True)
        await service.engine.outcome(ticket.id, until=lambda found: found.state == "parked" and ran == [1])
        assert ran == [1]
        await service.decide("chat", "ann", "c", approved=False)
        assert (await ticket.outcome()).kind == "completed"
    assert ran == [1]


# DUR-33
async def test_a_decision_is_for_the_prompt_that_waits_not_for_those_behind_it() -> None:
    careful = Careful()
    async with serving(catalog({"chat": careful.agent}), MemoryStore()) as service:
        first = await service.prompt("chat", "ann", "Ship it.")
        await parked(first)
        await service.prompt("chat", "ann", "Ship it.")
        await service.decide("chat", "ann", "d1", approved=True)
        assert (await asyncio.wait_for(first.outcome(), 5)).kind == "completed"
    assert careful.ran[:2] == ["begun", "prod"]


# DUR-36
async def test_a_prompt_that_waits_for_approval_can_be_aborted() -> None:
    careful = Careful()
    async with serving(catalog({"chat": careful.agent}), MemoryStore()) as service:
        ticket = await service.prompt("chat", "ann", "Ship it.")
        next = await service.prompt("chat", "ann", "Ship it.")
        await parked(ticket)
        await service.abort(ticket.id, "Changed my mind.")
        assert (await ticket.outcome()).kind == "aborted"
        await parked(next)  # the conversation goes on


async def test_a_decision_for_nothing_is_refused() -> None:
    async with serving(catalog({"chat": Careful().agent}), MemoryStore()) as service:
        with pytest.raises(flue.SessionError) as refused:
            await service.decide("chat", "ann", "d1", approved=True)
    assert refused.value.code == "approval_not_found"


async def test_a_used_up_budget_parks_the_prompt_and_a_larger_one_continues_it() -> None:
    agent = flue.create_agent(
        model=ScriptedModel([call("bash", {"command": "echo 1"}), call("bash", {"command": "echo 2"}), "Done."]),
        budget={"turns": 1},
    )
    store = MemoryStore()
    async with serving(catalog({"chat": agent}), store) as service:
        ticket = await service.prompt("chat", "ann", "Go.")
        assert (await parked(ticket)).park_reason == "budget"
        await service.raise_budget("chat", "ann", {"turns": 2})
        await asyncio.sleep(0)
        again = await service.engine.outcome(
            ticket.id, until=lambda found: found.interruptions == 0 and parked_twice(found)
        )
        assert isinstance(again, Submission)
        await service.raise_budget("chat", "ann", {"turns": 9})
        assert json.loads((await ticket.outcome()).result or "")["text"] == "Done."


# DUR-33
async def test_a_budget_that_is_raised_in_the_moment_before_a_prompt_is_parked_lets_it_go_on() -> None:
    agent = flue.create_agent(model=ScriptedModel([call("bash", {"command": "echo 1"}), "Done."]), budget={"turns": 1})

    async def allow() -> None:
        await service.raise_budget("chat", "ann", {"turns": 2})

    async with serving(catalog({"chat": agent}), Meanwhile(MemoryStore(), "'spent'", 1, allow)) as service:
        ticket = await service.prompt("chat", "ann", "Go.")
        async with asyncio.timeout(5):
            assert json.loads((await ticket.outcome()).result or "")["text"] == "Done."


# DUR-33
@pytest.mark.parametrize("done", MOMENTS)
async def test_a_raised_budget_survives_the_death_of_its_process_at_every_write(done: bool) -> None:
    """It is raised once more only when the process died before the first was accepted."""
    for at in itertools.count(1):
        model = ScriptedModel(itertools.repeat(two_notes))
        agent = flue.create_agent(model=model, tools=[Careful().tools[1]], budget={"turns": 1})
        offers, store = catalog({"chat": agent}), MemoryStore()
        accepted: list[str] = []
        raised: list[bool] = []

        async def spend(service: Service, accepted: list[str] = accepted, raised: list[bool] = raised) -> None:
            ticket = await service.prompt("chat", "ann", "Go.")
            accepted.append(ticket.id)
            await parked(ticket)
            await service.raise_budget("chat", "ann", {"turns": 3})
            raised.append(True)
            await ticket.outcome()

        cut = await crash(offers, store, at, spend, done=done)
        async with serving(offers, store) as service:
            await service.start()
            for id in accepted:
                ended = await service.engine.outcome(id, until=parked_twice)
                if isinstance(ended, Submission) and ended.park_reason == "budget":
                    assert not raised, at
                    await service.raise_budget("chat", "ann", {"turns": 3})
                assert (await settled(service, id)).kind == "completed", at
        if cut.at is None:
            return


def two_notes(request: RecordedRequest) -> Any:
    """Note something, and something else, and answer."""
    done = sum(text.startswith("toolResult") for text in texts(request.messages))
    return "Done." if done == 2 else call("note", {"text": str(done)})


def parked_twice(found: Submission) -> bool:
    return found.park_reason == "budget"


# DUR-33
async def test_a_budget_is_kept_by_another_process() -> None:
    steps: list[Any] = [call("bash", {"command": "echo 1"}), call("bash", {"command": "echo 2"}), "Done."]
    agent = flue.create_agent(model=ScriptedModel(steps), budget={"turns": 1})
    offers, store = catalog({"chat": agent}), MemoryStore()
    tickets: list[Ticket] = []

    async def spend(service: Service) -> None:
        tickets.append(await service.prompt("chat", "ann", "Go."))
        await parked(tickets[0])

    await crash(offers, store, 10_000, spend)
    async with serving(offers, store) as service:
        await service.start()
        await service.raise_budget("chat", "ann", {"turns": 3})
        assert (await settled(service, tickets[0].id)).kind == "completed"


# DUR-33
@pytest.mark.parametrize("budget", [{"turns": 2}, {"tokens": 150}], ids=["turns", "tokens"])
async def test_what_a_prompt_spent_before_its_process_died_counts_for_its_budget(budget: dict[str, float]) -> None:
    asked = asyncio.Event()

    def stall(_: RecordedRequest) -> Any:
        asked.set()
        return hang()

    note = call("note", {"text": "Again."})
    model = ScriptedModel([note, stall, note, note, note], usage=Usage(input=90, output=10))
    offers = catalog({"chat": flue.create_agent(model=model, tools=[Careful().tools[1]], budget=budget)})
    store, tickets = MemoryStore(), list[Ticket]()

    async def spend(service: Service) -> None:
        tickets.append(await service.prompt("chat", "ann", "Go."))
        await asked.wait()

    await crash(offers, store, 10_000, spend)
    async with serving(offers, store) as service:
        await service.start()
        await service.engine.outcome(tickets[0].id, until=parked_twice)
    said = texts(await conversation(store, "chat", "ann"))
    assert said == ["user: Go.", *["assistant: ", "toolResult: Noted."] * 2]


# DUR-26
async def test_draining_stops_at_a_turn_boundary_and_the_next_process_goes_on() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    @flue.tool
    async def work() -> str:
        """Work."""
        begun.set()
        await go_on.wait()
        return "Worked."

    agent = flue.create_agent(model=ScriptedModel([call("work"), "Done."]), tools=[work])
    offers, store = catalog({"chat": agent}), MemoryStore()
    async with serving(offers, store) as service:
        ticket = await service.prompt("chat", "ann", "Go.")
        await begun.wait()
        draining = asyncio.create_task(service.drain(60.0))
        await asyncio.sleep(0)
        with pytest.raises(flue.UsageError) as refused:
            await service.prompt("chat", "ann", "More.")
        assert refused.value.code == "shutting_down"
        go_on.set()
        await draining
    found = await store.get_submission(ticket.id)
    assert found is not None
    assert (found.state, found.interruptions) == ("queued", 0)
    async with serving(offers, store) as service:
        assert "Done." in ((await settled(service, ticket.id)).result or "")
    assert texts(await conversation(store, "chat", "ann"))[-2:] == ["toolResult: Worked.", "assistant: Done."]


# DUR-26
async def test_what_running_work_passes_on_while_its_process_ends_is_accepted_and_done_by_the_next() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    @flue.tool
    async def pass_on() -> str:
        """Pass on."""
        begun.set()
        await go_on.wait()
        await service.dispatch("chat", "bob", "Do it.")
        return "Passed on."

    def answer(request: RecordedRequest) -> Any:
        return call("pass_on") if texts(request.messages) == ["user: Go."] else "Done."

    agent = flue.create_agent(model=ScriptedModel(itertools.repeat(answer)), tools=[pass_on])
    offers, store = catalog({"chat": agent}), MemoryStore()
    async with serving(offers, store) as service:
        await service.prompt("chat", "ann", "Go.")
        await begun.wait()
        draining = asyncio.create_task(service.drain(60.0))
        await asyncio.sleep(0)
        go_on.set()
        await draining
        with pytest.raises(flue.UsageError, match="shutting down"):
            await service.dispatch("chat", "bob", "Do more.")
    assert texts(await conversation(store, "chat", "ann"))[-1] == "toolResult: Passed on."
    (passed_on,) = await store.list_lane(session_lane("chat", "bob", "default"))
    assert passed_on.state == "queued"
    async with serving(offers, store) as service:
        await service.start()
        assert (await settled(service, passed_on.id)).kind == "completed"


class Slow:
    """A store that accepts when it may."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.asked, self.may = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    async def admit(self, *args: Any, **named: Any) -> Any:
        self.asked.set()
        await self.may.wait()
        return await self.store.admit(*args, **named)


# DUR-26
@pytest.mark.parametrize("answers", [True, False])
async def test_who_is_being_accepted_while_the_process_ends_is_told_what_came_of_it(
    answers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_SOON", 5.0 if answers else 0.01)
    offers, store = catalog({"chat": flue.create_agent(model=ScriptedModel(["Done."]))}), Slow(MemoryStore())
    async with serving(offers, store) as service:
        accepting = asyncio.create_task(service.prompt("chat", "ann", "Go."))
        await store.asked.wait()
        draining = asyncio.create_task(service.drain(60.0))
        await asyncio.sleep(0)
        if answers:
            store.may.set()
            await draining
            ticket = await accepting
        else:
            with pytest.raises(flue.UsageError, match="shutting down"):
                await accepting
            await draining
            return
    async with serving(offers, store.store) as service:
        await service.start()
        assert "Done." in ((await settled(service, ticket.id)).result or "")


# DUR-26
async def test_draining_gives_back_what_does_not_stop_in_time(caplog: pytest.LogCaptureFixture) -> None:
    asked = asyncio.Event()

    async def answer(_: RecordedRequest) -> Any:
        if not asked.is_set():
            asked.set()
            await asyncio.Event().wait()
        return "Here."

    agent = flue.create_agent(model=ScriptedModel(itertools.repeat(answer)))
    offers, store = catalog({"chat": agent}), MemoryStore()
    async with serving(offers, store) as service:
        ticket = await service.prompt("chat", "ann", "Go.")
        await asked.wait()
    found = await store.get_submission(ticket.id)
    assert found is not None
    assert (found.state, found.interruptions) == ("queued", 1)
    assert caplog.messages == []
    async with serving(offers, store) as service:
        outcome: Outcome = await settled(service, ticket.id)
    assert "Here." in (outcome.result or "")
    assert texts(await conversation(store, "chat", "ann"))[-1] == "assistant: Here."
    assert session_lane("chat", "ann", "default") in await store.list_sessions()

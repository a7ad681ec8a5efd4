"""Runs of workflows and function agents, between `run_start` and `run_end`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import BaseModel

from flue import FlueContext, UsageError, create_agent, open_context
from flue.events import Event
from flue.harness.runs import run_agent, run_workflow
from flue.ports import Store
from flue.testing import MemoryStore, ScriptedModel, SequentialIds, VirtualClock, call, hang


class Translation(BaseModel):
    translation: str


@asynccontextmanager
async def opened(
    events: list[Event], store: Store | None = None, clock: VirtualClock | None = None, **options: Any
) -> AsyncIterator[FlueContext]:
    async with open_context(
        env={},
        store=store,
        clock=clock or VirtualClock(auto=True),
        ids=SequentialIds(),
        on_event=events.append,
        **options,
    ) as context:
        yield context


def as_json(events: list[Event]) -> list[dict[str, Any]]:
    return [event.to_json() for event in events]


async def test_a_workflow_run_is_announced_before_and_after_all_its_events() -> None:
    model = ScriptedModel([call("finish", {"translation": "Bonjour"})])

    async def run(ctx: FlueContext) -> Translation:
        harness = await ctx.init(create_agent(model=model))
        session = await harness.session()
        return (await session.prompt("Hello", result=Translation)).data

    events: list[Event] = []
    async with opened(events, workflow="translate", payload={"text": "Hello"}) as ctx:
        assert await run_workflow(ctx, run, name="translate") == {"translation": "Bonjour"}
        run_id = ctx.id
    assert [event.type for event in events if not event.type.endswith(("_update", "_delta"))] == [
        "run_start", "operation_start", "agent_start", "turn_start", "message_start", "message_end", "turn_request",
        "message_start", "message_end", "tool_execution_start", "tool_start", "tool_execution_end", "tool_call",
        "message_start", "message_end", "turn_end", "turn", "agent_end", "operation", "idle", "run_end",
    ]  # fmt: skip
    assert [event.index for event in events] == list(range(len(events)))
    start, *between, end = as_json(events)
    assert start == {
        "type": "run_start",
        "runId": run_id,
        "instanceId": run_id,
        "startedAt": start["timestamp"],
        "payload": {"text": "Hello"},
        "owner": {"kind": "workflow", "workflowName": "translate", "instanceId": run_id},
        "workflowName": "translate",
        "eventIndex": 0,
        "timestamp": start["timestamp"],
    }
    assert {event["runId"] for event in between} == {run_id}
    assert not any("instanceId" in event for event in between)
    assert {key: end[key] for key in end.keys() - {"timestamp", "eventIndex"}} == {
        "type": "run_end",
        "runId": run_id,
        "isError": False,
        "durationMs": 0,
        "result": {"translation": "Bonjour"},
    }


async def test_a_run_of_a_function_agent_carries_the_instance_and_an_id_of_its_own() -> None:
    events: list[Event] = []
    async with opened(events, agent="helper", id="ada", run_id="run_1", payload=None) as ctx:
        assert (ctx.id, ctx.run_id) == ("ada", "run_1")
        ctx.log.info("before")
        assert await run_agent(ctx, lambda ctx: ctx.run_id, name="helper") == "run_1"
    log, start, idle, end = as_json(events)
    assert (idle["type"], end["type"]) == ("idle", "run_end")
    assert start["owner"] == {"kind": "agent", "agentName": "helper", "instanceId": "ada"}
    assert (start["agentName"], start["payload"]) == ("helper", None)
    assert "workflowName" not in start
    assert {(event["runId"], event["instanceId"]) for event in (log, start, end)} == {("run_1", "ada")}


async def test_a_restarted_run_names_the_one_it_repeats() -> None:
    events: list[Event] = []
    async with opened(events, workflow="w") as ctx:
        await run_workflow(ctx, lambda ctx: None, name="w", restarted_from="workflow:w:old")
    start, _, end = as_json(events)
    assert start["restartedFromRunId"] == "workflow:w:old"
    assert "result" not in end


async def test_the_duration_is_that_of_the_function() -> None:
    clock = VirtualClock(auto=True)

    async def run(ctx: FlueContext) -> None:
        await clock.sleep(1.5)

    events: list[Event] = []
    async with opened(events, clock=clock, workflow="w") as ctx:
        await run_workflow(ctx, run, name="w")
    assert as_json(events)[-1]["durationMs"] == 1500


async def test_what_the_function_raises_is_announced_and_raised() -> None:
    async def run(ctx: FlueContext) -> None:
        raise KeyError("kaboom")

    events: list[Event] = []
    async with opened(events, workflow="w") as ctx:
        with pytest.raises(KeyError):
            await run_workflow(ctx, run, name="w")
    end = as_json(events)[-1]
    assert (end["type"], end["isError"], end["error"]) == ("run_end", True, {"name": "KeyError", "message": "'kaboom'"})


async def test_a_result_without_a_json_form_fails_the_run() -> None:
    events: list[Event] = []
    async with opened(events, workflow="w") as ctx:
        with pytest.raises(UsageError, match="cannot be written as JSON"):
            await run_workflow(ctx, lambda ctx: float("nan"), name="w")
    assert as_json(events)[-1]["isError"] is True


async def test_a_cancelled_run_ends_as_aborted() -> None:
    started = asyncio.Event()

    async def run(ctx: FlueContext) -> None:
        started.set()
        await asyncio.Event().wait()

    events: list[Event] = []
    async with opened(events, workflow="w") as ctx:
        task = asyncio.create_task(run_workflow(ctx, run, name="w"))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert as_json(events)[-1]["error"] == {"name": "AbortError", "message": "The run was aborted."}


async def test_calls_that_nobody_awaited_are_ended_before_the_run() -> None:
    model = ScriptedModel([["Once upon", hang()]])

    async def run(ctx: FlueContext) -> str:
        harness = await ctx.init(create_agent(model=model))
        session = await harness.session()
        session.prompt("Tell me a story.")
        await asyncio.sleep(0)
        return "done"

    events: list[Event] = []
    async with opened(events, workflow="w") as ctx:
        assert await run_workflow(ctx, run, name="w") == "done"
    types = [event.type for event in events]
    assert types.index("operation") < types.index("idle") < types.index("run_end") == len(types) - 1


async def test_agents_of_one_store_keep_their_instances_apart() -> None:
    store = MemoryStore()

    async def remembered(agent: str | None) -> tuple[int, list[str]]:
        """Prompt the instance `ada` once, with a task inside; return how much it knew before and the store's keys."""
        model = ScriptedModel(["Done.", "Noted."])
        async with open_context(agent=agent, id="ada", env={}, store=store) as ctx:
            session = await (await ctx.init(create_agent(model=model))).session()
            await session.task("Look.")
            await session.prompt("Remember me.")
        return len(model.requests[1].messages), await store.list_sessions()

    assert (await remembered("support"))[0] == 1
    assert (await remembered("sales"))[0] == 1
    known, keys = await remembered("support")
    assert known == 3
    assert (await remembered(None))[0] == 1
    assert {key.split("agent-session:")[0] for key in keys} == {"sales/", "support/"}

    async with open_context(agent="support", id="ada", env={}, store=store) as ctx:
        harness = await ctx.init(create_agent(model=ScriptedModel([])))
        await (await harness.session()).delete()
    left = await store.list_sessions()
    assert {key.split("agent-session:")[0] for key in left} == {"", "sales/"}


async def test_a_store_of_the_users_own_keeps_agents_apart_too() -> None:
    kept: dict[str, Any] = {}

    class Own:
        async def save(self, id: str, data: Any) -> None:
            kept[id] = data

        async def load(self, id: str) -> Any:
            return kept.get(id)

        async def delete(self, id: str) -> None:
            kept.pop(id, None)

    for agent in ("support", "sales"):
        async with open_context(agent=agent, id="ada", env={}) as ctx:
            harness = await ctx.init(model=ScriptedModel([]), persist=Own())
            await harness.session()
    assert sorted(kept) == [f'{agent}/agent-session:["ada","default","default"]' for agent in ("sales", "support")]


async def test_a_context_is_not_of_a_workflow_and_an_agent() -> None:
    with pytest.raises(UsageError, match="not to both"):
        async with open_context(workflow="w", agent="a"):
            pass

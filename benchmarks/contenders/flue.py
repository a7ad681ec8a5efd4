"""Flue, through its public API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

from benchmarks.scenarios import INSTRUCTIONS, KEY, MODEL, NewConversation, Say, Task, lookup
from flue import create_agent, observe, open_context, register_provider, tool


@asynccontextmanager
async def conversations(task: Task) -> AsyncIterator[NewConversation]:
    """Open sessions of one agent with the default virtual sandbox.

    Variant `listener` hands every event to an `on_event` function, `observe` to a subscriber of the process; `sqlite`
    keeps the sessions in a SQLite file in the task's folder.
    """
    base_url = task.url if task.api == "anthropic-messages" else f"{task.url}/v1"
    register_provider("bench", api=task.api, base_url=base_url, api_key=KEY, context_window=1_000_000)
    agent = create_agent(model=f"bench/{MODEL}", instructions=INSTRUCTIONS, tools=[tool(lookup)])
    store = Path(task.folder, "flue.db") if task.variant == "sqlite" else None
    heard: list[str] = []
    listener = (lambda event: heard.append(event.type)) if task.variant == "listener" else None
    if task.variant == "observe":
        observe(lambda event, context: heard.append(event.type))
    names = count()
    async with open_context(id=f"bench-{task.scenario}", store=store, on_event=listener) as ctx:
        harness = await ctx.init(agent)

        async def new() -> Say:
            session = await harness.session(f"conversation {next(names)}")

            async def say(text: str) -> str:
                return (await session.prompt(text)).text

            return say

        yield new

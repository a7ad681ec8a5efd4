"""A scene for harness tests: a scripted model, an open session, and everything that was announced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from flue import FlueContext, Harness, Session, create_agent, open_context
from flue.events import Event
from flue.messages import AssistantMessage, Message, ToolResultMessage
from flue.testing import MemoryStore, ScriptedModel, SequentialIds, VirtualClock


@dataclass
class Scene:
    """What a test sees."""

    context: FlueContext
    harness: Harness
    session: Session
    model: ScriptedModel
    clock: VirtualClock
    store: MemoryStore
    events: list[Event]

    @property
    def messages(self) -> list[Message]:
        return list(self.session.history.transcript)

    def types(self, *, without: tuple[str, ...] = ()) -> list[str]:
        return [event.type for event in self.events if event.type not in without]


@asynccontextmanager
async def scene(
    *steps: Any, store: MemoryStore | None = None, clock: VirtualClock | None = None, id: str = "i1", **config: Any
) -> AsyncIterator[Scene]:
    """Open a session of an agent whose model plays `steps`."""
    model = ScriptedModel(list(steps))
    events: list[Event] = []
    store = store or MemoryStore()
    clock = clock or VirtualClock(auto=True)
    async with open_context(
        id=id, env={"FROM_ENV": "yes"}, store=store, clock=clock, ids=SequentialIds(), on_event=events.append
    ) as context:
        harness = await context.init(create_agent(**{"model": model, **config}))
        session = await harness.session()
        yield Scene(context, harness, session, model, clock, store, events)


async def until(condition: Callable[[], object]) -> None:
    """Let other tasks run until the condition holds."""
    while not condition():  # noqa: ASYNC110 - the condition is anything a test can see
        await asyncio.sleep(0)


def assert_sound(messages: list[Message]) -> None:
    """Every tool call has exactly one result, right after the answer that made it, in call order."""
    waiting: list[str] = []
    for message in messages:
        if isinstance(message, ToolResultMessage):
            assert waiting
            assert waiting.pop(0) == message.tool_call_id
        else:
            assert not waiting, f"calls without results: {waiting}"
        if isinstance(message, AssistantMessage) and message.stop_reason not in ("error", "aborted"):
            waiting = [call.id for call in message.tool_calls]
    assert not waiting

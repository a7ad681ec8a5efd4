"""Work that a command has asked for: shown while it goes on, aborted when the command is interrupted."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Coroutine
from typing import Any

from flue.cli.render import Renderer
from flue.durable.records import Outcome, Submission
from flue.engine.messages import EVENT
from flue.engine.service import Service, Ticket
from flue.errors import FlueError
from flue.events import iso_time

INTERRUPTED = "The command was interrupted."


async def accepted(service: Service, asking: Coroutine[Any, Any, Ticket]) -> Ticket:
    """Have work accepted. When the command is interrupted meanwhile, it ends before this does."""
    task = asyncio.ensure_future(asking)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with contextlib.suppress(FlueError):  # then there is nothing to end
            await end(service, (await task).id)
        raise


async def end(service: Service, id: str) -> None:
    """Abort work and wait until it has ended."""
    await service.abort(id, INTERRUPTED)
    await service.engine.outcome(id)


class Shown:
    """The events of some work on their way to whoever shows them, each once."""

    def __init__(self, service: Service, id: str, show_event: Callable[[dict[str, Any]], None]) -> None:
        self._service = service
        self._id = id
        self._show_event = show_event
        self._last = -1

    async def to_the_end(self) -> None:
        """Pass on what was not shown yet, until the work has ended."""
        async for event in self._service.log.follow(self._id, after=self._last):
            self._last = event.index
            self._show_event(json.loads(event.data))


async def follow_run(service: Service, run_id: str, renderer: Renderer) -> tuple[str, Outcome]:
    """Show a run until it has ended, with the runs that take its place; return the id and the end of the last.

    When the command is interrupted the run is aborted, and has ended and been shown to its end when this raises.
    """
    while True:
        shown = Shown(service, run_id, renderer)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(shown.to_the_end())
                watching = group.create_task(_watch(service, run_id, renderer))
        except asyncio.CancelledError:
            await asyncio.gather(end(service, run_id), shown.to_the_end())
            raise
        run = await service.get_run(run_id)
        if run is None or run.restarted_as is None:
            return run_id, watching.result()
        renderer.say(f"Interrupted; run {run.restarted_as} takes its place.")
        run_id = run.restarted_as


async def _watch(service: Service, run_id: str, renderer: Renderer) -> Outcome:
    """Say what the run waits for, and return how it ended."""
    told: str | None = None

    def changed(submission: Submission) -> bool:
        return _wait_of(submission) != told

    while True:
        found = await service.engine.outcome(run_id, until=changed)
        if isinstance(found, Outcome):
            return found
        told = _wait_of(found)
        if told is not None:
            renderer.say(told)


def _wait_of(submission: Submission) -> str | None:
    """Return what a parked run waits for, in one line."""
    if submission.state != "parked":
        return None
    until = None if submission.wake_at is None else iso_time(submission.wake_at)
    events = ", ".join(name.removeprefix(EVENT) for name in submission.waiting_for)
    if submission.park_reason == "event":
        return f"wait:event  {events}" + (f"  until {until}" if until else "")
    return f"wait:{submission.park_reason}" + (f"  until {until}" if until else "")

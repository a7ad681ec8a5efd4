"""A service that the test plays: what is asked of it is listed, and each piece of work ends when the test says so."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

from flue.durable.records import Outcome
from flue.engine.logged import LoggedEvent
from flue.errors import SessionError, UsageError


class Work:
    """Accepted work, as its ticket; the test writes its events and its end. `read` counts the events taken of it."""

    def __init__(self, id: str, lane: str) -> None:
        self.id = id
        self.lane = lane
        self.accepted_at = 0
        self.created = True
        self.ahead = 0
        self.read = 0
        self._events: list[LoggedEvent] = []
        self._outcome: Outcome | None = None
        self._changed = asyncio.Condition()

    @property
    def settled(self) -> bool:
        """Say whether it has ended."""
        return self._outcome is not None

    async def emit(self, **event: Any) -> None:
        """Add an event to the log."""
        index = len(self._events)
        async with self._changed:
            self._events.append(LoggedEvent(index, event["type"], json.dumps({**event, "eventIndex": index})))
            self._changed.notify_all()

    async def complete(self, result: Any = None) -> None:
        """End in a result."""
        await self._end(Outcome("completed", result=json.dumps(result)))

    async def fail(self, message: str = "It broke.") -> None:
        """End in an error."""
        await self._end(Outcome("failed", error=json.dumps({"name": "Error", "message": message})))

    async def abort(self) -> None:
        """End by an abort."""
        await self._end(Outcome.aborted("Enough."))

    async def outcome(self) -> Outcome:
        """Wait for the end."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._outcome is not None)
        assert self._outcome is not None
        return self._outcome

    async def events(self, after: int = -1) -> AsyncGenerator[LoggedEvent, None]:
        """Follow the log to its end."""
        position = after + 1

        def is_news() -> bool:
            return len(self._events) > position or self.settled

        while True:
            async with self._changed:
                await self._changed.wait_for(is_news)
            if len(self._events) <= position:
                return
            self.read += 1
            position += 1
            yield self._events[position - 1]

    async def _end(self, outcome: Outcome) -> None:
        async with self._changed:
            self._outcome = outcome
            self._changed.notify_all()


class SocketService:
    """Accepts what is asked and lists it in `asked`; `work` are the tickets. `failure` is raised in place of one."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.work: list[Work] = []
        self.failure: Exception | None = None
        self._changed = asyncio.Condition()

    async def prompt(
        self, agent: str, instance: str, message: str, *, session: str = "default", busy: str = "queue"
    ) -> Work:
        """Accept a prompt."""
        lane = f"{agent}/{instance}/{session}"
        if busy == "reject" and any(work.lane == lane and not work.settled for work in self.work):
            raise SessionError("The session is busy.", code="session_busy")
        return await self._accept(lane, agent=agent, instance=instance, message=message, session=session)

    async def start_workflow(self, name: str, payload: Any, *, request: Any = None, run_id: Any = None) -> Work:
        """Accept a run."""
        return await self._accept(f"workflow:{name}:{len(self.work)}", name=name, payload=payload)

    async def ticket(self, submission_id: str) -> Work:
        """Return work that was accepted."""
        for work in self.work:
            if work.id == submission_id:
                return work
        raise UsageError(f"There is no submission {submission_id}.", code="submission_not_found")

    async def nth(self, number: int) -> Work:
        """Wait until so much work was accepted, and return the last of it."""
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(lambda: len(self.work) >= number)
        return self.work[number - 1]

    async def _accept(self, lane: str, **asked: Any) -> Work:
        if self.failure is not None:
            raise self.failure
        work = Work(f"work-{len(self.work) + 1}", lane)
        async with self._changed:
            self.asked.append(asked)
            self.work.append(work)
            self._changed.notify_all()
        return work

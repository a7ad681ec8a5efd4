"""A service without an engine: work is done by functions that the test gives, events are what the test writes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from flue.durable.records import Outcome, Run, RunQuery, Submission
from flue.engine.log_settings import LogSettings
from flue.engine.logged import LoggedEvent
from flue.server.application import Application

STARTED = 1_767_225_600_000
Doing = Callable[["FakeTicket", Any], Awaitable[Any]]


@dataclass(eq=False)
class FakeTicket:
    """Accepted work, whose events and end the test or the work writes."""

    id: str
    accepted_at: int = STARTED
    created: bool = True
    ahead: int = 0
    logged: list[LoggedEvent] = field(default_factory=list)
    ended: Outcome | None = None
    submission: Submission | None = None
    read: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def log(self, type: str, **fields: Any) -> None:
        index = len(self.logged)
        data = {"type": type, **fields, "eventIndex": index, "timestamp": "2026-01-01T00:00:00.000Z"}
        async with self.changed:
            self.logged.append(LoggedEvent(index, type, json.dumps(data), index + 1))
            self.changed.notify_all()

    async def end(self, outcome: Outcome) -> None:
        async with self.changed:
            self.ended = outcome
            self.changed.notify_all()

    async def park(self, submission: Submission) -> None:
        async with self.changed:
            self.submission = submission
            self.changed.notify_all()

    async def outcome(self) -> Outcome:
        async with self.changed:
            await self.changed.wait_for(lambda: self.ended is not None)
        assert self.ended is not None
        return self.ended

    async def rest(self) -> Outcome | Submission:
        async with self.changed:
            await self.changed.wait_for(lambda: self.ended is not None or self._parked() is not None)
        found = self.ended or self._parked()
        assert found is not None
        return found

    def _parked(self) -> Submission | None:
        return self.submission if self.submission is not None and self.submission.state == "parked" else None

    async def events(self, after: int = -1) -> AsyncGenerator[LoggedEvent, None]:
        while True:
            async with self.changed:
                await self.changed.wait_for(lambda: len(self.logged) > after + 1 or self.ended is not None)  # noqa: B023
            if len(self.logged) <= after + 1:
                return
            after += 1
            self.read += 1
            yield self.logged[after]


class FakeLogReader:
    def __init__(self, tickets: Mapping[str, FakeTicket]) -> None:
        self._tickets = tickets

    async def read(
        self, log: str, *, after: int = -1, types: frozenset[str] | None = None, limit: int = 100
    ) -> list[LoggedEvent]:
        events = self._tickets[log].logged if log in self._tickets else []
        return [event for event in events if event.index > after and (types is None or event.type in types)][:limit]

    def follow(self, log: str, *, after: int = -1) -> AsyncIterator[LoggedEvent]:
        return self._tickets[log].events(after)

    async def follow_stream(self, stream: str, *, after: int = 0) -> AsyncGenerator[LoggedEvent, None]:
        for ticket in self._tickets.values():
            async for event in ticket.events():
                if event.offset > after:
                    yield event
        await asyncio.Event().wait()


class FakeService:
    """Accepts everything that the catalogue of the test has; `asked` holds what was asked, in order."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.tickets: dict[str, FakeTicket] = {}
        self.runs: dict[str, Run] = {}
        self.submissions: dict[str, Submission] = {}
        self.doing: Doing = _nothing
        self.refusal: Exception | None = None
        self.log = FakeLogReader(self.tickets)
        self.log_settings = LogSettings()
        self._tasks: set[asyncio.Task[None]] = set()
        self._count = 0

    def opening(self, application: Application) -> Any:
        @asynccontextmanager
        async def opened() -> AsyncIterator[FakeService]:
            self.asked.append(("start",))
            try:
                yield self
            finally:
                self.asked.append(("drain",))

        return opened()

    async def prompt(
        self, agent: str, instance: str, message: str, *, session: str = "default", busy: str = "queue", key: Any = None
    ) -> FakeTicket:
        ticket = self._accept(("prompt", agent, instance, message, session, busy, key), "sub_", message)
        self.submissions[ticket.id] = submission(ticket.id, agent, instance)
        return ticket

    async def start_workflow(
        self, name: str, payload: Any, *, key: Any = None, request: Any = None, run_id: Any = None
    ) -> FakeTicket:
        ticket = self._accept(("start_workflow", name, payload, key), f"workflow:{name}:", payload)
        self.runs[ticket.id] = Run(ticket.id, "workflow", name, "", "active", STARTED, ticket.id, payload="{}")
        return ticket

    async def start_agent(
        self, name: str, instance: str, payload: Any, *, key: Any = None, request: Any = None
    ) -> FakeTicket:
        ticket = self._accept(("start_agent", name, instance, payload, key), "run_", payload)
        self.runs[ticket.id] = Run(ticket.id, "agent", name, instance, "active", STARTED, ticket.id, payload="{}")
        return ticket

    async def abort(self, submission_id: str, reason: str) -> Submission | None:
        self.asked.append(("abort", submission_id, reason))
        found = self.submissions.get(submission_id)
        if submission_id in self.runs:
            return submission(submission_id, "x", "")
        return found and replace(found, cancel_reason=reason)

    async def decide(self, *arguments: Any, **options: Any) -> None:
        self._ask(("decide", *arguments, options))

    async def raise_budget(self, *arguments: Any, **options: Any) -> None:
        self._ask(("raise_budget", *arguments, options))

    async def send_event(self, *arguments: Any, **options: Any) -> None:
        self._ask(("send_event", *arguments, options))

    async def get_run(self, run_id: str) -> Run | None:
        return self.runs.get(run_id)

    async def list_runs(self, query: RunQuery) -> list[Run]:
        self.asked.append(("list_runs", query))
        return list(self.runs.values())[: query.limit]

    async def get_submission(self, submission_id: str) -> Submission | None:
        return self.submissions.get(submission_id)

    def _ask(self, what: tuple[Any, ...]) -> None:
        self.asked.append(what)
        if self.refusal is not None:
            raise self.refusal

    def _accept(self, what: tuple[Any, ...], prefix: str, given: Any) -> FakeTicket:
        self._ask(what)
        self._count += 1
        ticket = self.tickets[f"{prefix}{self._count}"] = FakeTicket(f"{prefix}{self._count}")

        async def work() -> None:
            try:
                result = await self.doing(ticket, given)
            except Exception as error:  # noqa: BLE001 - how the work ended
                await ticket.end(Outcome("failed", error=json.dumps({"name": "Error", "message": str(error)})))
            else:
                await ticket.end(Outcome("completed", result=json.dumps(result)))

        task = asyncio.create_task(work())
        self._tasks.add(task)
        return ticket


async def _nothing(ticket: FakeTicket, given: Any) -> Any:
    return None


def submission(id: str, agent: str, instance: str, **changes: Any) -> Submission:
    made = Submission(
        sequence=1,
        id=id,
        lane="lane",
        kind="prompt",
        target=agent,
        instance=instance,
        address=id,
        state="running",
        payload="{}",
        accepted_at=STARTED,
        max_attempts=10,
        time_left_ms=1000,
    )
    return replace(made, **changes)

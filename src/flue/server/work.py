"""TEMPORARY: the interface of flue.engine.service."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, overload

from flue.definitions.budget import Budget
from flue.durable.records import Outcome, Run, RunQuery, Submission


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    index: int
    type: str
    data: str
    offset: int = 0


@dataclass(frozen=True, slots=True)
class DispatchReceipt:
    dispatch_id: str
    accepted_at: str


class LogReader(Protocol):
    async def read(
        self, log: str, *, after: int = -1, types: frozenset[str] | None = None, limit: int = 100
    ) -> list[LoggedEvent]: ...
    def follow(self, log: str, *, after: int = -1) -> AsyncGenerator[LoggedEvent, None]: ...
    def follow_stream(self, stream: str, *, after: int = 0) -> AsyncGenerator[LoggedEvent, None]: ...


class Ticket(Protocol):
    id: str
    accepted_at: int
    created: bool

    @overload
    async def outcome(self) -> Outcome: ...
    @overload
    async def outcome(self, *, until: Callable[[Submission], bool]) -> Outcome | Submission: ...
    def events(self, after: int = -1) -> AsyncGenerator[LoggedEvent, None]: ...


class Service(Protocol):
    @property
    def log(self) -> LogReader: ...

    async def prompt(
        self,
        agent: str,
        instance: str,
        message: str,
        *,
        session: str = "default",
        busy: Literal["queue", "reject"] = "queue",
        key: str | None = None,
    ) -> Ticket: ...
    async def dispatch(
        self, agent: str, instance: str, input: Any, *, session: str = "default", dispatch_id: str | None = None
    ) -> DispatchReceipt: ...
    async def start_workflow(
        self, name: str, payload: Any, *, key: str | None = None, request: Any = None
    ) -> Ticket: ...
    async def start_agent(
        self, name: str, instance: str, payload: Any, *, key: str | None = None, request: Any = None
    ) -> Ticket: ...
    async def abort(self, submission_id: str, reason: str) -> Submission | None: ...
    async def decide(
        self,
        agent: str,
        instance: str,
        tool_call_id: str,
        *,
        approved: bool,
        reason: str | None = None,
        session: str = "default",
    ) -> None: ...
    async def raise_budget(self, agent: str, instance: str, budget: Budget, *, session: str = "default") -> None: ...
    async def send_event(self, run_id: str, name: str, payload: Any = None, *, id: str | None = None) -> None: ...
    async def get_run(self, run_id: str) -> Run | None: ...
    async def list_runs(self, query: RunQuery) -> list[Run]: ...
    async def get_submission(self, id: str) -> Submission | None: ...

"""Approvals: tool calls that wait for a person.

What waits, and what was decided, stands in the session's metadata and is on disk before anybody is told of it, so that
a pause outlives the process: a later `session.resume()` finds the calls and goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from flue.errors import DurabilityError, SessionError
from flue.harness.history import History
from flue.messages import Json, ToolCall
from flue.ports import Clock

State = Literal["pending", "approved", "denied"]
KEY = "approvals"


@dataclass(frozen=True, slots=True)
class Approval:
    """A tool call that needs a person's word, and that word once it is there. `requested_at` is in ms."""

    tool_call_id: str
    tool_name: str
    arguments: Json
    requested_at: int
    state: State = "pending"
    reason: str | None = None

    def to_json(self) -> Json:
        """Return the form that metadata and events carry."""
        data: Json = {
            "toolCallId": self.tool_call_id,
            "toolName": self.tool_name,
            "args": self.arguments,
            "requestedAt": self.requested_at,
            "state": self.state,
        }
        if self.reason is not None:
            data["reason"] = self.reason
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Approval:
        """Read the form that metadata carries."""
        return cls(
            data["toolCallId"],
            data["toolName"],
            data["args"],
            data["requestedAt"],
            data["state"],
            data.get("reason"),
        )


class Approvals:
    """The approvals of one session, and of the tasks that it has under way."""

    def __init__(self, history: History, clock: Clock) -> None:
        self._history = history
        self._clock = clock
        self._all = {item["toolCallId"]: Approval.from_json(item) for item in history.metadata.get(KEY, [])}
        self._decided: dict[str, asyncio.Event] = {}
        self._tasks: list[Approvals] = []

    @property
    def pending(self) -> list[Approval]:
        """Return the calls that wait for a decision: the session's own, then those of its tasks, oldest first."""
        own = [approval for approval in self._all.values() if approval.state == "pending"]
        return [*own, *(approval for task in self._tasks for approval in task.pending)]

    @contextmanager
    def including(self, task: Approvals) -> Iterator[None]:
        """Take decisions for a task, too, while it runs."""
        self._tasks.append(task)
        try:
            yield
        finally:
            self._tasks.remove(task)

    def find(self, tool_call_id: str) -> Approval | None:
        """Return the approval of a call that is not finished yet."""
        return self._all.get(tool_call_id)

    async def request(self, call: ToolCall) -> Approval:
        """Put a call on the list, durably; one that is there already stays as it is."""
        known = self._all.get(call.id)
        if known is not None:
            return known
        approval = self._all[call.id] = Approval(call.id, call.name, call.arguments, self._clock.now_ms())
        await self._save()
        return approval

    async def decision(self, tool_call_id: str) -> Approval:
        """Wait until the call is decided, and that is on disk, and return the decision."""
        event = self._decided.setdefault(tool_call_id, asyncio.Event())
        while True:
            if self._all[tool_call_id].state == "pending":
                await event.wait()
            # Whoever decided may still wait for that, or have been cancelled.
            await self._history.durable()
            if (approval := self._all[tool_call_id]).state != "pending":
                return approval

    async def decide(self, tool_call_id: str, state: Literal["approved", "denied"], reason: str | None) -> Approval:
        """Record a decision, durably, and let the call go on.

        Raises `SessionError` when nothing waits under that id (`approval_not_found`) or it is decided already
        (`approval_decided`).
        """
        approval = self._all.get(tool_call_id)
        if approval is None or approval.state != "pending":
            for task in self._tasks:
                if any(item.tool_call_id == tool_call_id for item in task.pending):
                    return await task.decide(tool_call_id, state, reason)
        if approval is None:
            waiting = ", ".join(item.tool_call_id for item in self.pending) or "none"
            raise SessionError(
                f'No tool call "{tool_call_id}" waits for approval.',
                code="approval_not_found",
                hint=f"Waiting: {waiting}.",
            )
        if approval.state != "pending":
            raise SessionError(f'The tool call "{tool_call_id}" is already {approval.state}.', code="approval_decided")
        decided = Approval(
            approval.tool_call_id, approval.tool_name, approval.arguments, approval.requested_at, state, reason
        )
        self._all[tool_call_id] = decided
        try:
            await self._save()
        except DurabilityError:
            if self._all.get(tool_call_id) is decided:
                self._all[tool_call_id] = approval  # to be decided again
                self._history.set_metadata(**{KEY: self._to_json()})
            raise
        except asyncio.CancelledError:
            self._tell(tool_call_id)
            raise
        self._tell(tool_call_id)
        return decided

    def _tell(self, tool_call_id: str) -> None:
        """Let the call go on that waits for the decision."""
        self._decided.setdefault(tool_call_id, asyncio.Event()).set()

    def forget(self, call: ToolCall) -> None:
        """Take a call off the list when its result is recorded."""
        if self._all.pop(call.id, None) is not None:
            self._decided.pop(call.id, None)
            self._history.set_metadata(**{KEY: self._to_json()})

    async def _save(self) -> None:
        self._history.set_metadata(**{KEY: self._to_json()})
        await self._history.durable()

    def _to_json(self) -> list[Json]:
        return [approval.to_json() for approval in self._all.values()]

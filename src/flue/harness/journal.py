"""The journal of a prompt: what its turn loop has done, step by step, for whoever goes on after a crash.

The harness says what happens; an engine of accepted work (`flue.engine`) writes it down, in one transaction with the
entries of the session that it goes with. Without an engine nothing is written: the session alone is kept.
"""

from __future__ import annotations

from typing import Literal, Protocol

from flue.definitions.tool import ToolResult
from flue.messages import ToolCall, Usage

PauseReason = Literal["approval", "budget", "stop"]


class Paused(Exception):  # noqa: N818 - no error: the prompt is to be continued
    """A journaled prompt stopped where it can be taken up again: at a turn boundary, or before calls that wait.

    `names` are the ids of the tool calls that wait for approval.
    """

    def __init__(self, reason: PauseReason, names: tuple[str, ...] = (), error: Exception | None = None) -> None:
        super().__init__(reason)
        self.reason: PauseReason = reason
        self.names = names
        self.error = error


class Journal(Protocol):
    """What a turn loop tells of its steps, and what it is told of those before an interruption.

    Notes are in order with the entries of the session, and durable no later than those appended after them.
    """

    @property
    def parks(self) -> bool:
        """Say whether the prompt may give up its place (`Paused`) instead of waiting in this process."""
        ...

    def input_applied(self) -> None:
        """Note that the message that started the prompt is among the session's next entries."""
        ...

    def request_begun(self, turn_id: str) -> None:
        """Note that the model is asked."""
        ...

    def answer_recorded(self, turn_id: str, usage: Usage) -> None:
        """Note that an answer is among the session's next entries, and what it took."""
        ...

    def tool_started(self, call: ToolCall) -> None:
        """Note that a call is about to run; the loop awaits `durable` before it does."""
        ...

    def tool_ended(self, call: ToolCall, result: ToolResult) -> None:
        """Note a result that its session does not hold yet, and see to it that it is written soon."""
        ...

    async def durable(self) -> None:
        """Wait until all notes are on disk. Raises `DurabilityError`."""
        ...

    def was_started(self, call_id: str) -> bool | None:
        """Say whether a call was begun before an interruption; None when that is not known."""
        ...

    def result_of(self, call_id: str) -> ToolResult | None:
        """Return the noted result of a call."""
        ...

    def at_boundary(self) -> None:
        """Be told that the prompt is between two turns. Raises `Paused` to stop it there."""
        ...


class Unjournaled:
    """The journal of a prompt that nobody could take up."""

    parks = False

    def input_applied(self) -> None:
        """Do nothing."""

    def request_begun(self, turn_id: str) -> None:
        """Do nothing."""

    def answer_recorded(self, turn_id: str, usage: Usage) -> None:
        """Do nothing."""

    def tool_started(self, call: ToolCall) -> None:
        """Do nothing."""

    def tool_ended(self, call: ToolCall, result: ToolResult) -> None:
        """Do nothing."""

    async def durable(self) -> None:
        """Do nothing."""

    def was_started(self, call_id: str) -> bool | None:
        """Return None."""
        return None

    def result_of(self, call_id: str) -> ToolResult | None:
        """Return None."""
        return None

    def at_boundary(self) -> None:
        """Do nothing."""


UNJOURNALED = Unjournaled()

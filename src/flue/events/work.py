"""What happens around turns: runs, operations, tasks, compactions, lines of the log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from flue.events.event import ErrorInfo, Event
from flue.messages import Json, Usage

OperationKind = Literal["prompt", "skill", "task", "shell", "compact"]


@dataclass(frozen=True, slots=True)
class RunStart(Event):
    """A run of a workflow, or of a function agent, began. `owner` says whose it is."""

    type = "run_start"
    always = frozenset({"payload"})
    started_at: str
    payload: Any
    owner: Json
    workflow_name: str | None = None
    agent_name: str | None = None
    restarted_from_run_id: str | None = None


@dataclass(frozen=True, slots=True)
class RunResume(Event):
    """A run goes on: it begins again over its recorded steps, or is about to end because another takes its place."""

    type = "run_resume"
    started_at: str
    owner: Json
    workflow_name: str | None = None
    agent_name: str | None = None


@dataclass(frozen=True, slots=True)
class RunEnd(Event):
    """A run ended; the last event of its log. `result` as JSON values."""

    type = "run_end"
    is_error: bool
    duration_ms: int
    result: Any = None
    error: ErrorInfo | None = None


@dataclass(frozen=True, slots=True)
class OperationStart(Event):
    """A call on a session began."""

    type = "operation_start"
    operation_kind: OperationKind


@dataclass(frozen=True, slots=True)
class Operation(Event):
    """A call on a session ended."""

    type = "operation"
    operation_kind: OperationKind
    duration_ms: int
    is_error: bool
    error: ErrorInfo | None = None
    result: Any = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class TaskStart(Event):
    """A task was handed to a child session."""

    type = "task_start"
    prompt: str
    agent: str | None = None
    cwd: str | None = None


@dataclass(frozen=True, slots=True)
class TaskEnd(Event):
    """A task came back from its child session."""

    type = "task"
    is_error: bool
    duration_ms: int
    agent: str | None = None
    result: Any = None


@dataclass(frozen=True, slots=True)
class CompactionStart(Event):
    """The conversation is about to be compacted."""

    type = "compaction_start"
    reason: Literal["threshold", "overflow", "manual"]
    estimated_tokens: int


@dataclass(frozen=True, slots=True)
class Compaction(Event):
    """The conversation was compacted."""

    type = "compaction"
    messages_before: int
    messages_after: int
    duration_ms: int
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Log(Event):
    """A line of the application's or the harness's log."""

    type = "log"
    level: Literal["info", "warn", "error"]
    message: str
    attributes: Json | None = None


@dataclass(frozen=True, slots=True)
class Idle(Event):
    """The session has nothing to do."""

    type = "idle"

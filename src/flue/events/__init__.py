"""What happens while an agent works, in order, as frozen dataclasses with the wire's camelCase JSON.

Events hold references to messages and transcripts; JSON is made only when somebody asks for it, so that an event
nobody serialises costs nothing that grows with the conversation.
"""

from __future__ import annotations

from flue.events.emitter import Emitter, Sink
from flue.events.event import ErrorInfo, Event, Scope, iso_time
from flue.events.turns import (
    AgentEnd,
    AgentStart,
    ApprovalEnd,
    ApprovalRequest,
    MessageEnd,
    MessageStart,
    MessageUpdate,
    TextDelta,
    ThinkingDelta,
    ThinkingEnd,
    ThinkingStart,
    ToolCallEnd,
    ToolExecutionEnd,
    ToolExecutionStart,
    ToolStart,
    Turn,
    TurnEnd,
    TurnPurpose,
    TurnRequest,
    TurnStart,
)
from flue.events.work import (
    Compaction,
    CompactionStart,
    Idle,
    Log,
    Operation,
    OperationKind,
    OperationStart,
    RunEnd,
    RunResume,
    RunStart,
    TaskEnd,
    TaskStart,
)

__all__ = [
    "AgentEnd",
    "AgentStart",
    "ApprovalEnd",
    "ApprovalRequest",
    "Compaction",
    "CompactionStart",
    "Emitter",
    "ErrorInfo",
    "Event",
    "Idle",
    "Log",
    "MessageEnd",
    "MessageStart",
    "MessageUpdate",
    "Operation",
    "OperationKind",
    "OperationStart",
    "RunEnd",
    "RunResume",
    "RunStart",
    "Scope",
    "Sink",
    "TaskEnd",
    "TaskStart",
    "TextDelta",
    "ThinkingDelta",
    "ThinkingEnd",
    "ThinkingStart",
    "ToolCallEnd",
    "ToolExecutionEnd",
    "ToolExecutionStart",
    "ToolStart",
    "Turn",
    "TurnEnd",
    "TurnPurpose",
    "TurnRequest",
    "TurnStart",
    "iso_time",
]

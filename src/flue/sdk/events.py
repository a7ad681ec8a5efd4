"""Events as they come over the wire, by type: what type checkers need to know of `event["text"]`.

They are plain dictionaries. A server may be newer than this list: match on `event["type"]`, and ignore what you do not
know. The same events inside the server are the classes of `flue.events`.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

Json = dict[str, Any]
OperationKind = Literal["prompt", "skill", "task", "shell", "compact"]
TurnPurpose = Literal["agent", "compaction", "compaction_prefix"]


class _Common(TypedDict):
    """What every event may say of where it happened; `eventIndex` counts from 0 in a run, or in a prompt."""

    eventIndex: int
    timestamp: str
    runId: NotRequired[str]
    instanceId: NotRequired[str]
    dispatchId: NotRequired[str]
    harness: NotRequired[str]
    session: NotRequired[str]
    operationId: NotRequired[str]
    turnId: NotRequired[str]
    parentSession: NotRequired[str]
    taskId: NotRequired[str]


class ErrorInfo(TypedDict):
    """An error in an event."""

    name: str
    message: str


class RunStart(_Common):
    """A run of a workflow, or of a function agent, began."""

    type: Literal["run_start"]
    startedAt: str
    payload: Any
    owner: Json
    workflowName: NotRequired[str]
    agentName: NotRequired[str]
    restartedFromRunId: NotRequired[str]


class RunResume(_Common):
    """A run goes on: it was parked, or the server had gone."""

    type: Literal["run_resume"]
    startedAt: str
    owner: Json
    workflowName: NotRequired[str]
    agentName: NotRequired[str]


class RunEnd(_Common):
    """A run ended; the last event of its log."""

    type: Literal["run_end"]
    isError: bool
    durationMs: int
    result: NotRequired[Any]
    error: NotRequired[ErrorInfo]


class OperationStart(_Common):
    """A call on a session began."""

    type: Literal["operation_start"]
    operationKind: OperationKind


class Operation(_Common):
    """A call on a session ended."""

    type: Literal["operation"]
    operationKind: OperationKind
    durationMs: int
    isError: bool
    error: NotRequired[ErrorInfo]
    result: NotRequired[Any]
    usage: NotRequired[Json]


class AgentStart(_Common):
    """The turn loop began."""

    type: Literal["agent_start"]


class AgentEnd(_Common):
    """The turn loop ended."""

    type: Literal["agent_end"]
    messages: list[Json]


class TurnStart(_Common):
    """A turn began."""

    type: Literal["turn_start"]
    purpose: TurnPurpose


class TurnRequest(_Common):
    """What is sent to the model."""

    type: Literal["turn_request"]
    purpose: TurnPurpose
    model: str
    provider: str
    api: str
    input: Json
    reasoning: NotRequired[str]


class MessageStart(_Common):
    """A message began."""

    type: Literal["message_start"]
    message: Json


class MessageEnd(_Common):
    """A message is complete."""

    type: Literal["message_end"]
    message: Json


class MessageUpdate(_Common):
    """A piece of an assistant message arrived."""

    type: Literal["message_update"]
    message: Json
    assistantMessageEvent: Json


class TextDelta(_Common):
    """Text of the answer, as it arrives."""

    type: Literal["text_delta"]
    text: str


class ThinkingStart(_Common):
    """The model began to think."""

    type: Literal["thinking_start"]


class ThinkingDelta(_Common):
    """Text of the model's thinking, as it arrives."""

    type: Literal["thinking_delta"]
    delta: str


class ThinkingEnd(_Common):
    """The model stopped thinking."""

    type: Literal["thinking_end"]
    content: str


class ToolExecutionStart(_Common):
    """A tool call is about to run."""

    type: Literal["tool_execution_start"]
    toolName: str
    toolCallId: str
    args: Any


class ToolExecutionEnd(_Common):
    """A tool call has its result."""

    type: Literal["tool_execution_end"]
    toolName: str
    toolCallId: str
    result: Any
    isError: bool


class ToolStart(_Common):
    """A tool call is about to run (the pair for people: `tool_start`, `tool_call`)."""

    type: Literal["tool_start"]
    toolName: str
    toolCallId: str
    args: Any


class ToolCallEnd(_Common):
    """A tool call has its result, with the time it took."""

    type: Literal["tool_call"]
    toolName: str
    toolCallId: str
    isError: bool
    result: Any
    durationMs: int


class ApprovalRequest(_Common):
    """A tool call waits for a person: `client.agents.approve` or `deny`."""

    type: Literal["approval_request"]
    toolName: str
    toolCallId: str
    args: Any


class ApprovalEnd(_Common):
    """A person decided on a tool call."""

    type: Literal["approval"]
    toolName: str
    toolCallId: str
    approved: bool
    reason: NotRequired[str]


class TurnEnd(_Common):
    """A turn and its tool calls are done."""

    type: Literal["turn_end"]
    purpose: TurnPurpose
    message: Json
    toolResults: list[Json]


class Turn(_Common):
    """Summary of a turn."""

    type: Literal["turn"]
    purpose: TurnPurpose
    durationMs: int
    model: str
    provider: str
    api: str
    output: Json
    usage: Json
    stopReason: str
    isError: bool
    error: NotRequired[str]


class TaskStart(_Common):
    """A task was handed to a child session."""

    type: Literal["task_start"]
    prompt: str
    agent: NotRequired[str]
    cwd: NotRequired[str]


class TaskEnd(_Common):
    """A task came back from its child session."""

    type: Literal["task"]
    isError: bool
    durationMs: int
    agent: NotRequired[str]
    result: NotRequired[Any]


class CompactionStart(_Common):
    """The conversation is about to be compacted."""

    type: Literal["compaction_start"]
    reason: Literal["threshold", "overflow", "manual"]
    estimatedTokens: int


class Compaction(_Common):
    """The conversation was compacted."""

    type: Literal["compaction"]
    messagesBefore: int
    messagesAfter: int
    durationMs: int
    usage: NotRequired[Json]


class Log(_Common):
    """A line of the application's or the harness's log."""

    type: Literal["log"]
    level: Literal["info", "warn", "error"]
    message: str
    attributes: NotRequired[Json]


class Idle(_Common):
    """The session has nothing to do."""

    type: Literal["idle"]


Event = (
    RunStart
    | RunResume
    | RunEnd
    | OperationStart
    | Operation
    | AgentStart
    | AgentEnd
    | TurnStart
    | TurnRequest
    | MessageStart
    | MessageEnd
    | MessageUpdate
    | TextDelta
    | ThinkingStart
    | ThinkingDelta
    | ThinkingEnd
    | ToolExecutionStart
    | ToolExecutionEnd
    | ToolStart
    | ToolCallEnd
    | ApprovalRequest
    | ApprovalEnd
    | TurnEnd
    | Turn
    | TaskStart
    | TaskEnd
    | CompactionStart
    | Compaction
    | Log
    | Idle
)

"""What the server says of agents, runs and submissions, as it says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NotRequired, TypedDict

from flue.sdk.errors import not_the_protocol


class ErrorRecord(TypedDict):
    """Why something failed."""

    name: str
    message: str


class RunPointer(TypedDict):
    """A run in a list. `owner` is there for workflows, `agentName` for function agents."""

    runId: str
    status: Literal["active", "completed", "errored"]
    startedAt: str
    owner: NotRequired[dict[str, str]]
    agentName: NotRequired[str]
    endedAt: NotRequired[str]
    durationMs: NotRequired[int]
    isError: NotRequired[bool]


class RunRecord(RunPointer):
    """A run."""

    payload: NotRequired[Any]
    result: NotRequired[Any]
    error: NotRequired[ErrorRecord]
    restartedFromRunId: NotRequired[str]
    restartedAsRunId: NotRequired[str]


class SubmissionRecord(TypedDict):
    """What became of something that an agent was told."""

    submissionId: str
    agentName: str
    instanceId: str
    kind: Literal["prompt", "dispatch"]
    status: Literal["queued", "running", "waiting", "completed", "failed", "aborted"]
    acceptedAt: str
    startedAt: NotRequired[str]
    settledAt: NotRequired[str]
    waitingFor: NotRequired[dict[str, Any]]
    result: NotRequired[Any]
    error: NotRequired[ErrorRecord]


class AgentInfo(TypedDict):
    """An agent and how it is reached."""

    name: str
    transports: dict[str, bool]
    created: bool


@dataclass(frozen=True, slots=True)
class RunPage:
    """A page of runs, newest first. `next_cursor` gives the next page; None on the last."""

    items: list[RunPointer]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class DispatchReceipt:
    """What was accepted: the id by which it is known, and when (ISO 8601)."""

    dispatch_id: str
    accepted_at: str


@dataclass(frozen=True, slots=True)
class Invocation:
    """What came of asking an agent or a workflow.

    `result` is a workflow's result, or an agent's answer: `{text, usage, model}`. `run_id` is there for runs,
    `submission_id` for prompts over HTTP. `waiting_for` is there when the agent waits for a person: see
    `client.agents.approve`, and `client.agents.submission` for what follows.
    """

    result: Any = None
    run_id: str | None = None
    submission_id: str | None = None
    waiting_for: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        """Return the text of an agent's answer. Raises `FlueTransportError` when the result has none."""
        text = self.result.get("text") if isinstance(self.result, dict) else None
        if not isinstance(text, str):
            raise not_the_protocol("The result has no text.")
        return text

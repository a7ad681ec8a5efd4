"""Tool calls whose result was never recorded: what a crash leaves behind, in the middle of a turn."""

from __future__ import annotations

from collections.abc import Sequence

from flue.harness.approvals import Approvals
from flue.harness.history import History
from flue.messages import AssistantMessage, Message, TextContent, ToolCall, ToolResultMessage

UNKNOWN = (
    "The outcome of this call is unknown: the work was interrupted after the call had started and before its result "
    "was recorded. It was not repeated. Find out what it did before you call it again."
)
NOT_APPROVED = "This call was not run: it was waiting for a person's approval when the work was interrupted."


def settle_calls_left_open(history: History, approvals: Approvals, now_ms: int) -> None:
    """Give every open call an error result, so that a message may follow: no provider accepts a call without one."""
    for call in calls_left_open(history.transcript.messages):
        approval = approvals.find(call.id)
        text = NOT_APPROVED if approval is not None and approval.state == "pending" else UNKNOWN
        history.append(
            ToolResultMessage(call.id, call.name, (TextContent(text),), None, is_error=True, timestamp=now_ms)
        )
        approvals.forget(call)


def calls_left_open(messages: Sequence[Message]) -> tuple[ToolCall, ...]:
    """Return the calls of the last answer that have no result, in call order."""
    left = left_open(messages)
    return left[1] if left else ()


def left_open(messages: Sequence[Message]) -> tuple[AssistantMessage, tuple[ToolCall, ...]] | None:
    """Return the answer that a conversation ends with and its calls without a result; None when there are none."""
    settled = set()
    for message in reversed(messages):
        if isinstance(message, ToolResultMessage):
            settled.add(message.tool_call_id)
        elif isinstance(message, AssistantMessage) and message.stop_reason not in ("error", "aborted"):
            calls = tuple(call for call in message.tool_calls if call.id not in settled)
            return (message, calls) if calls else None
        else:
            break
    return None

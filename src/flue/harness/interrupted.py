"""What interruptions leave in a conversation: an answer that was cut off, a message that was given up."""

from __future__ import annotations

from flue.harness.approvals import Approvals
from flue.harness.history import History
from flue.harness.left_open import settle_calls_left_open
from flue.messages import AssistantMessage, TextContent, UserMessage
from flue.ports import ModelInfo

GO_ON = (
    '<signal type="stream_interrupted">\n'
    "The connection broke while you were writing; what had arrived of your answer stands above. Continue it exactly "
    "where it ends: repeat nothing, and do not mention the interruption.\n"
    "</signal>"
)
GIVEN_UP = """<signal type="submission_interrupted">
The work on the message above was given up before it was finished: {reason}
</signal>"""


async def note_interruption(history: History, approvals: Approvals, reason: str, now_ms: int) -> None:
    """Put a conversation in order whose prompt is given up, and tell the model of it; durable when this returns."""
    settle_calls_left_open(history, approvals, now_ms)
    history.append(UserMessage((TextContent(GIVEN_UP.format(reason=reason)),), now_ms), "signal")
    await history.durable()


def cut_off_answer(text: str, model: ModelInfo, now_ms: int) -> AssistantMessage:
    """Return what had arrived of an answer as a message that models are shown again (DUR-29)."""
    content = (TextContent(text),)
    return AssistantMessage(content, model.api, model.provider, model.id, stop_reason="length", timestamp=now_ms)

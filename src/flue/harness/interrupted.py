"""An answer that an interruption cut off: kept in the conversation, and the model asked to go on with it."""

from __future__ import annotations

from flue.messages import AssistantMessage, TextContent, UserMessage
from flue.ports import ModelInfo

GO_ON = (
    '<signal type="stream_interrupted">\n'
    "The connection broke while you were writing; what had arrived of your answer stands above. Continue it exactly "
    "where it ends: repeat nothing, and do not mention the interruption.\n"
    "</signal>"
)


def cut_off_answer(text: str, model: ModelInfo, now_ms: int) -> AssistantMessage:
    """Return what had arrived of an answer as a message that models are shown again."""
    content = (TextContent(text),)
    return AssistantMessage(content, model.api, model.provider, model.id, stop_reason="length", timestamp=now_ms)


def go_on_signal(now_ms: int) -> UserMessage:
    """Return the message that asks a model to go on with an answer that was cut off."""
    return UserMessage((TextContent(GO_ON),), now_ms)

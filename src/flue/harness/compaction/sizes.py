"""How many tokens a conversation takes, and how many it may take."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from flue.definitions.profile import CompactionSettings
from flue.messages import AssistantMessage, ImageContent, Message, TextContent, ThinkingContent
from flue.ports import ModelInfo

CHARS_PER_TOKEN = 4
IMAGE_CHARS = 4_800
DEFAULT_RESERVE = 20_000
DEFAULT_KEEP_RECENT = 8_000
LEAST_RESERVE = 1_024


@dataclass(frozen=True, slots=True)
class Limits:
    """In tokens: the model's `window` (0 = unknown), what is kept free for answers, what is kept of the newest part."""

    window: int
    reserve: int
    keep_recent: int
    automatic: bool

    def exceeded_by(self, tokens: int) -> bool:
        """Say whether a conversation of this size is to be compacted before it grows further."""
        return self.automatic and self.window > 0 and tokens > self.window - self.reserve


def limits_for(info: ModelInfo, settings: CompactionSettings | Literal[False] | None) -> Limits:
    """Return the limits for a model: those that are set, else defaults that fit its window."""
    given = settings or CompactionSettings()
    window = info.context_window
    reserve = given.reserve_tokens
    if reserve is None:
        reserve = min(DEFAULT_RESERVE, info.max_tokens or DEFAULT_RESERVE)
        if window and reserve * 2 >= window:
            reserve = max(LEAST_RESERVE, window // 3)
    keep = given.keep_recent_tokens
    if keep is None:
        keep = min(DEFAULT_KEEP_RECENT, window // 4) if window else DEFAULT_KEEP_RECENT
    return Limits(window, reserve, keep, settings is not False)


def estimate(message: Message) -> int:
    """Return about how many tokens a message takes: one for four characters."""
    characters = 0
    for block in message.content:
        if isinstance(block, TextContent):
            characters += len(block.text)
        elif isinstance(block, ThinkingContent):
            characters += len(block.thinking)
        elif isinstance(block, ImageContent):
            characters += IMAGE_CHARS
        else:
            characters += len(block.name) + len(json.dumps(block.arguments, ensure_ascii=False))
    return -(-characters // CHARS_PER_TOKEN)


def context_tokens(messages: Sequence[Message]) -> int:
    """Return the size of a conversation: what the provider last counted, and estimates for what came after."""
    newer = 0
    for message in reversed(messages):
        if isinstance(message, AssistantMessage) and message.stop_reason not in ("error", "aborted"):
            counted = message.usage.total_tokens
            if counted:
                return counted + newer
        newer += estimate(message)
    return newer

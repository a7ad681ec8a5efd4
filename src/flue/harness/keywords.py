"""The keyword arguments that calls on a session share, for type checkers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

from flue.definitions.budget import Budget
from flue.definitions.profile import ModelChoice
from flue.definitions.tool import Tool
from flue.messages import ImageContent, ThinkingLevel

Busy = Literal["queue", "reject"]


class PromptKeywords(TypedDict, total=False):
    """Keyword arguments of `prompt`."""

    model: ModelChoice | None
    thinking_level: ThinkingLevel | None
    role: str | None
    tools: Sequence[Tool]
    images: Sequence[ImageContent]
    budget: Budget | Mapping[str, float] | None
    timeout: float | None
    busy: Busy


class TaskKeywords(PromptKeywords, total=False):
    """Keyword arguments of `task`."""

    agent: str | None
    cwd: str | None
    name: str | None

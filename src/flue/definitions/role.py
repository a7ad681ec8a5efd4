"""Roles: instructions, and perhaps a model, that a harness, a session or a single call takes on."""

from __future__ import annotations

import re
from dataclasses import dataclass

from flue.definitions.checks import check_text
from flue.definitions.profile import ModelChoice, check_model
from flue.errors import DefinitionError
from flue.messages import THINKING_LEVELS, ThinkingLevel

_NAME = re.compile(r"[A-Za-z0-9]+(?:[-_][A-Za-z0-9]+)*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A role: `instructions` are added to the system prompt; `model` and `thinking_level` win over the agent's.

    Raises `DefinitionError` with the field's name when a value is wrong.
    """

    name: str
    instructions: str
    description: str | None = None
    model: ModelChoice | None = None
    thinking_level: ThinkingLevel | None = None

    def __post_init__(self) -> None:
        owner = f'role "{self.name}"'
        check_text(self.name, "role", "name")
        if not _NAME.match(self.name):
            raise DefinitionError(f"{owner}: name must be letters and digits, with single - or _ between them.")
        check_text(self.instructions, owner, "instructions")
        if self.description is not None:
            check_text(self.description, owner, "description")
        if self.model is not None:
            check_model(self.model, owner)
        if self.thinking_level is not None and self.thinking_level not in THINKING_LEVELS:
            levels = ", ".join(THINKING_LEVELS)
            raise DefinitionError(f"{owner}: thinking_level must be one of {levels}, got {self.thinking_level!r}.")

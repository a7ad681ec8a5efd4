"""Agent profiles: what an agent is, apart from where it runs. Profiles are shared by agents and name subagents."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from flue.definitions.budget import Budget, as_budget
from flue.definitions.checks import check_text
from flue.definitions.skill import SkillInfo, define_skill
from flue.definitions.tool import Tool
from flue.errors import DefinitionError
from flue.messages import THINKING_LEVELS, ThinkingLevel
from flue.ports import Model

PROFILE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*\Z")
ModelChoice = str | Model | Literal[False]
TaskTool = Literal["auto", "always", "never"]


@dataclass(frozen=True, slots=True)
class CompactionSettings:
    """When and how a long conversation is summarised. None means: chosen from the model's limits.

    `reserve_tokens` are kept free for the answer; about `keep_recent_tokens` of the newest messages are kept as they
    are; `model` writes the summary instead of the session's model.
    """

    reserve_tokens: int | None = None
    keep_recent_tokens: int | None = None
    model: ModelChoice | None = None

    def __post_init__(self) -> None:
        for name in ("reserve_tokens", "keep_recent_tokens"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
                raise DefinitionError(f"compaction: {name} must be a whole number of tokens, 0 or more, got {value!r}.")
        if self.model is not None:
            check_model(self.model, "compaction")


@dataclass(frozen=True, slots=True)
class AgentProfile:
    """What an agent is. A field left at None or empty is not set, and falls back to whatever the profile joins.

    `model` is `"provider/model-id"`, a `Model` object, or False: every call must then name one.
    Raises `DefinitionError`, with the field's name, when a value is wrong.
    """

    name: str | None = None
    description: str | None = None
    model: ModelChoice | None = None
    instructions: str | None = None
    tools: tuple[Tool, ...] = ()
    skills: tuple[SkillInfo, ...] = ()
    subagents: tuple[AgentProfile, ...] = ()
    thinking_level: ThinkingLevel | None = None
    compaction: CompactionSettings | Literal[False] | None = None
    task_tool: TaskTool | None = None
    budget: Budget | None = None
    _owner: str = field(default="profile", repr=False, compare=False)

    def __post_init__(self) -> None:
        owner = f'{self._owner} "{self.name}"' if isinstance(self.name, str) and self.name else self._owner
        if self.name is not None:
            check_text(self.name, owner, "name")
            if not PROFILE_NAME.match(self.name):
                raise DefinitionError(f"{owner}: name must be letters, digits, _ and -, beginning with a letter.")
        for name in ("description", "instructions"):
            if getattr(self, name) is not None and not isinstance(getattr(self, name), str):
                raise DefinitionError(f"{owner}: {name} must be text, got {type(getattr(self, name)).__name__}.")
        if self.description is not None:
            check_text(self.description, owner, "description")
        if self.model is not None:
            check_model(self.model, owner)
        _check_choice(self.thinking_level, THINKING_LEVELS, owner, "thinking_level")
        _check_choice(self.task_tool, ("auto", "always", "never"), owner, "task_tool")
        object.__setattr__(self, "tools", tuple(_each(self.tools, owner, "tools", Tool, _as_tool)))
        object.__setattr__(self, "skills", tuple(_each(self.skills, owner, "skills", SkillInfo, _as_skill)))
        object.__setattr__(
            self, "subagents", tuple(_each(self.subagents, owner, "subagents", AgentProfile, as_profile))
        )
        object.__setattr__(self, "compaction", _as_compaction(self.compaction, owner))
        object.__setattr__(self, "budget", as_budget(self.budget))
        for name in ("tools", "skills", "subagents"):
            check_unique(getattr(self, name), owner, name)
        for subagent in self.subagents:
            if subagent.name is None:
                raise DefinitionError(
                    f"{owner}: every subagent needs a name.", hint="The model and task(agent=…) choose by it."
                )


def define_agent_profile(
    *,
    name: str | None = None,
    description: str | None = None,
    model: ModelChoice | None = None,
    instructions: str | None = None,
    tools: Sequence[Tool] = (),
    skills: Sequence[SkillInfo | Mapping[str, Any]] = (),
    subagents: Sequence[AgentProfile] = (),
    thinking_level: ThinkingLevel | None = None,
    compaction: CompactionSettings | Mapping[str, Any] | Literal[False] | None = None,
    task_tool: TaskTool | None = None,
    budget: Budget | Mapping[str, float] | None = None,
) -> AgentProfile:
    """Return a checked profile: the same as `AgentProfile(...)`, also taking mappings where that takes objects.

    Raises `DefinitionError` with the field's name.
    """
    return as_profile({key: value for key, value in locals().items() if value is not None and value != ()})


_CAMEL = {"thinkingLevel": "thinking_level", "taskTool": "task_tool"}
PROFILE_FIELDS = (
    "name", "description", "model", "instructions", "tools", "skills", "subagents", "thinking_level", "compaction",
    "task_tool",
    "budget",
)  # fmt: skip


def known_fields(data: Mapping[str, Any], allowed: Iterable[str], owner: str) -> dict[str, Any]:
    """Return `data` with snake_case names (camelCase is accepted); unknown names are a `DefinitionError`."""
    renamed = {_CAMEL.get(key, key): value for key, value in data.items()}
    allowed = tuple(allowed)
    if unknown := sorted(str(key) for key in renamed if key not in allowed):
        raise DefinitionError(
            f"{owner}: unknown field{'s' if len(unknown) > 1 else ''} {', '.join(unknown)}.",
            hint=f"Known fields: {', '.join(allowed)}.",
        )
    return renamed


def as_profile(value: object) -> AgentProfile:
    """Return a profile from a profile or a mapping of its fields."""
    if isinstance(value, AgentProfile):
        return value
    if not isinstance(value, Mapping):
        raise DefinitionError(f"profile: expected an AgentProfile or a mapping, got {type(value).__name__}.")
    return AgentProfile(**known_fields(value, PROFILE_FIELDS, "profile"))


def check_model(value: object, owner: str) -> None:
    """Raise unless `value` looks like a model: `"provider/model-id"`, a `Model` or False."""
    if value is False or isinstance(value, Model):
        return
    if not isinstance(value, str):
        raise DefinitionError(
            f"{owner}: model must be text such as 'anthropic/claude-sonnet-4-6', a Model or False, "
            f"got {type(value).__name__}."
        )
    check_text(value, owner, "model")


def check_unique(items: Iterable[Any], owner: str, field_name: str) -> None:
    """Raise when two items have one name."""
    seen: set[str] = set()
    for item in items:
        if item.name in seen:
            raise DefinitionError(f'{owner}: two {field_name} are named "{item.name}".', hint="Rename one of them.")
        seen.add(item.name)


def _check_choice(value: object, choices: tuple[str, ...], owner: str, field_name: str) -> None:
    if value is not None and value not in choices:
        raise DefinitionError(f"{owner}: {field_name} must be one of {', '.join(choices)}, got {value!r}.")


def _each(values: Any, owner: str, field_name: str, kind: type, convert: Any) -> Iterable[Any]:
    if isinstance(values, str | Mapping) or not isinstance(values, Iterable):
        raise DefinitionError(f"{owner}: {field_name} must be a list, got {type(values).__name__}.")
    for position, value in enumerate(values):
        converted = convert(value)
        if not isinstance(converted, kind):
            raise DefinitionError(f"{owner}: {field_name}[{position}] must be a {kind.__name__}, got {value!r}.")
        yield converted


def _as_tool(value: object) -> object:
    if callable(value) and not isinstance(value, Tool):
        raise DefinitionError(
            f"tools: {getattr(value, '__name__', value)!r} is a plain function.", hint="Decorate it with @tool."
        )
    return value


def _as_skill(value: object) -> object:
    if isinstance(value, str) or hasattr(value, "__fspath__"):
        raise DefinitionError(f"skills: {str(value)!r} is a path.", hint=f"Write skill({str(value)!r}).")
    if isinstance(value, Mapping):
        given = known_fields(value, ("name", "description", "instructions", "resources"), "skill")
        return define_skill(**given) if "instructions" in given else SkillInfo(**given)
    return value


def _as_compaction(value: object, owner: str) -> object:
    if value is None or value is False or isinstance(value, CompactionSettings):
        return value
    if not isinstance(value, Mapping):
        raise DefinitionError(f"{owner}: compaction must be False or settings, got {type(value).__name__}.")
    camel = {"reserveTokens": "reserve_tokens", "keepRecentTokens": "keep_recent_tokens"}
    fields = {camel.get(str(key), str(key)): item for key, item in value.items()}
    return CompactionSettings(**known_fields(fields, ("reserve_tokens", "keep_recent_tokens", "model"), "compaction"))

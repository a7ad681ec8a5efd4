"""Agents: a profile plus where it runs. `create_agent` makes one, fixed or computed per harness."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, overload

from flue.definitions.budget import Budget
from flue.definitions.checks import check_text
from flue.definitions.durability import Durability, as_durability
from flue.definitions.profile import (
    PROFILE_FIELDS,
    AgentProfile,
    CompactionSettings,
    ModelChoice,
    TaskTool,
    as_profile,
    check_unique,
    known_fields,
)
from flue.definitions.skill import SkillInfo
from flue.definitions.tool import Tool
from flue.errors import DefinitionError
from flue.messages import ThinkingLevel


@dataclass(frozen=True, slots=True)
class AgentContext:
    """What a computed agent knows: `id` is the run id (workflow) or instance id (agent route).

    `payload` is the workflow's payload, None for addressable agents; `env` the application's environment.
    """

    id: str
    env: Mapping[str, Any]
    payload: Any = None


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """A checked configuration: the merged profile, and where the agent runs.

    `cwd` resolves against the sandbox's own; `sandbox` is a factory (None: the virtual sandbox); `persist` a store of
    the user's own for whole sessions (None: the host's store).
    """

    profile: AgentProfile
    cwd: str | None = None
    sandbox: Any = None
    persist: Any = None


_PLACE_FIELDS = ("cwd", "sandbox", "persist")
Initializer = Callable[[AgentContext], Any]


class Agent:
    """An agent, as made by `create_agent`. `initialize(context)` gives its configuration, anew for every harness."""

    __slots__ = ("_fixed", "_initializer", "durability")

    def __init__(
        self, fixed: AgentConfig | None, initializer: Initializer | None, durability: Durability | None = None
    ) -> None:
        self._fixed = fixed
        self._initializer = initializer
        self.durability = durability or Durability()

    @property
    def fixed(self) -> AgentConfig | None:
        """Return the configuration when it does not depend on the context."""
        return self._fixed

    async def initialize(self, context: AgentContext) -> AgentConfig:
        """Return the configuration for one harness. Raises `DefinitionError` when it is wrong."""
        if self._fixed is not None:
            return self._fixed
        assert self._initializer is not None
        value = self._initializer(context)
        if inspect.isawaitable(value):
            value = await value
        return as_config(value)

    def __repr__(self) -> str:
        name = self._fixed.profile.name if self._fixed else getattr(self._initializer, "__name__", None)
        return f"Agent({name or 'unnamed'})"


@overload
def create_agent(
    initializer: Callable[[AgentContext], Awaitable[Any] | Any],
    /,
    *,
    durability: Durability | Mapping[str, Any] | None = None,
) -> Agent: ...
@overload
def create_agent(
    *,
    model: ModelChoice | None = None,
    instructions: str | None = None,
    tools: Sequence[Tool] = (),
    sandbox: Any = None,
    cwd: str | None = None,
    subagents: Sequence[AgentProfile] = (),
    skills: Sequence[SkillInfo | Mapping[str, Any]] = (),
    thinking_level: ThinkingLevel | None = None,
    compaction: CompactionSettings | Mapping[str, Any] | Literal[False] | None = None,
    profile: AgentProfile | None = None,
    name: str | None = None,
    description: str | None = None,
    task_tool: TaskTool | None = None,
    budget: Budget | Mapping[str, float] | None = None,
    persist: Any = None,
    durability: Durability | Mapping[str, Any] | None = None,
) -> Agent: ...
def create_agent(
    initializer: Initializer | None = None,
    /,
    *,
    durability: Durability | Mapping[str, Any] | None = None,
    **config: Any,
) -> Agent:
    """Make an agent, of fixed keyword arguments or of a function that computes them.

    The function takes one `AgentContext`, may be async, returns a mapping of the same fields (or an `AgentConfig`, or
    an `AgentProfile`) and runs every time a harness is initialised. A model is needed in the fields or in `profile`;
    `model=False` leaves it to each call. `tools`, `skills` and `subagents` are added to those of `profile`; every other
    field replaces the profile's. `durability` bounds accepted work: `{"max_attempts": 10, "timeout": "1h"}`.

    Raises `DefinitionError` with the field's name; a computed agent's configuration is checked when it is computed.
    """
    bounds = as_durability(durability)
    if initializer is None:
        return Agent(as_config(config), None, bounds)
    if config:
        raise DefinitionError("create_agent takes a function or keyword arguments, not both.")
    if not callable(initializer):
        raise DefinitionError(
            f"create_agent takes a function or keyword arguments, got {type(initializer).__name__}.",
            hint="Write create_agent(model=…) for a fixed agent.",
        )
    return Agent(None, initializer, bounds)


def as_config(value: object) -> AgentConfig:
    """Return a checked configuration from a mapping of fields, a profile, or a configuration."""
    if isinstance(value, AgentConfig):
        return value
    if isinstance(value, AgentProfile):
        value = {"profile": value}
    if not isinstance(value, Mapping):
        raise DefinitionError(
            f"agent: expected a mapping of fields, got {type(value).__name__}.",
            hint="Return {'model': …} or an AgentConfig from the function given to create_agent.",
        )
    given = known_fields(value, (*PROFILE_FIELDS, "profile", *_PLACE_FIELDS), "agent")
    given = {key: item for key, item in given.items() if item is not None}
    base = as_profile(given.pop("profile", {}))
    place = {key: given.pop(key) for key in _PLACE_FIELDS if key in given}
    profile = merge(base, AgentProfile(**given, _owner="agent"))
    if profile.model is None:
        raise DefinitionError(
            "agent: no model.",
            hint="Pass model='provider/model-id', a profile with a model, or model=False to choose one in every call.",
        )
    if "cwd" in place:
        check_text(place["cwd"], "agent", "cwd")
    if place.get("sandbox") is False:
        del place["sandbox"]
    check_sandbox(place.get("sandbox"))
    return AgentConfig(profile, **place)


def merge(base: AgentProfile, over: AgentProfile) -> AgentProfile:
    """Lay one profile over another: lists are joined and checked again, other fields replaced where set."""
    changes: dict[str, Any] = {}
    for item in fields(AgentProfile):
        if item.name in ("tools", "skills", "subagents"):
            joined = (*getattr(base, item.name), *getattr(over, item.name))
            check_unique(joined, "agent", item.name)
            changes[item.name] = joined
        elif getattr(over, item.name) is not None:
            changes[item.name] = getattr(over, item.name)
    return replace(base, **changes)


def check_sandbox(value: object) -> None:
    """Raise unless `value` can become a sandbox: None, a factory, or a function that returns one."""
    if value is None or callable(value) or hasattr(value, "create_session_env"):
        return
    if isinstance(value, str):
        raise DefinitionError(
            f"agent: sandbox={value!r} is not a sandbox.",
            hint="Use virtual() or local() from flue.sandboxes, or leave it out for the virtual sandbox.",
        )
    if hasattr(value, "exec") and hasattr(value, "read_file"):
        raise DefinitionError(
            "agent: sandbox must be a factory, got a sandbox.",
            hint="Wrap it in a function: sandbox=lambda: my_sandbox.",
        )
    raise DefinitionError(f"agent: invalid sandbox, got {type(value).__name__}.", hint="Use virtual() or local().")

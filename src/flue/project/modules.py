"""What an agent's and a workflow's module must look like, and what is read from it."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from flue.definitions.agent import Agent
from flue.definitions.callables import is_async
from flue.definitions.durability import Durability, as_durability
from flue.definitions.profile import AgentProfile
from flue.errors import ConfigError, DefinitionError

Run = Callable[[Any], Any]
Middleware = Callable[..., Awaitable[Any]]
OnInterrupt = Literal["restart", "fail"]
AGENT_DURABILITY = Durability()
WORKFLOW_DURABILITY = Durability(timeout=None)
Exposure = Literal[True] | Middleware | None
"""How a module is reached from outside: True (openly), through the user's middleware, or None (not at all)."""


@dataclass(frozen=True, slots=True, eq=False)
class WorkflowModule:
    """A file in `workflows/`. `run` takes a context and is sync or async."""

    name: str
    path: Path
    module: ModuleType
    run: Run
    route: Exposure = None
    websocket: Exposure = None
    on_interrupt: OnInterrupt = "restart"
    durability: Durability = WORKFLOW_DURABILITY


@dataclass(frozen=True, slots=True, eq=False)
class AgentModule:
    """A file in `agents/`: either `agent` is set, or `run` of a function agent with its `webhook` trigger."""

    name: str
    path: Path
    module: ModuleType
    agent: Agent | None = None
    run: Run | None = None
    webhook: bool = False
    route: Exposure = None
    websocket: Exposure = None
    durability: Durability = AGENT_DURABILITY


def read_workflow(name: str, path: Path, shown: str, module: ModuleType) -> WorkflowModule:
    """Return what a workflow's module exports. Raises `ConfigError` (`invalid_module`)."""
    run = getattr(module, "run", None)
    if run is None:
        hint = "Add `async def run(ctx: FlueContext): …`; what it returns is the result."
        if isinstance(getattr(module, "agent", None), Agent):
            hint = "It defines an agent: move it to agents/, or add `async def run(ctx): …` that uses the agent."
        raise _invalid(shown, "a workflow must define `run`", hint)
    _check_run(run, shown)
    return WorkflowModule(
        name,
        path,
        module,
        run,
        _exposure(module, "route", shown),
        _websocket(module, shown),
        _on_interrupt(module, shown),
        _durability(module, shown, WORKFLOW_DURABILITY),
    )


def read_agent(name: str, path: Path, shown: str, module: ModuleType) -> AgentModule:
    """Return what an agent's module exports. Raises `ConfigError` (`invalid_module`)."""
    agent, run, triggers = (getattr(module, key, None) for key in ("agent", "run", "triggers"))
    route, websocket = _exposure(module, "route", shown), _websocket(module, shown)
    if agent is not None:
        if not isinstance(agent, Agent):
            raise _invalid(shown, f"`agent` must be made by create_agent, got {_kind(agent)}", _agent_hint(agent))
        if triggers is not None:
            raise _invalid(
                shown,
                "`agent` and `triggers` do not go together",
                "Export `agent` alone, or `async def run(ctx)` with `triggers`.",
            )
        return AgentModule(
            name, path, module, agent=agent, route=route, websocket=websocket, durability=agent.durability
        )
    if run is None:
        raise _invalid(shown, "an agent's module must define `agent`", _missing_agent_hint(module))
    _check_run(run, shown)
    return AgentModule(
        name,
        path,
        module,
        run=run,
        webhook=_webhook(triggers, shown),
        route=route,
        websocket=websocket,
        durability=_durability(module, shown, AGENT_DURABILITY),
    )


def check_distinct(agents: Mapping[str, AgentModule], shown: Callable[[Path], str]) -> None:
    """Raise when two files export one agent: its conversations would belong to both names."""
    owners: dict[int, AgentModule] = {}
    for module in agents.values():
        if module.agent is None:
            continue
        first = owners.setdefault(id(module.agent), module)
        if first is not module:
            raise ConfigError(
                f"{shown(first.path)} and {shown(module.path)} export the same agent.",
                code="duplicate_agent",
                hint="Call create_agent in each file; a shared AgentProfile goes in its `profile`.",
            )


def _invalid(shown: str, problem: str, hint: str) -> ConfigError:
    return ConfigError(f"{shown}: {problem}.", code="invalid_module", hint=hint)


def _kind(value: object) -> str:
    return f"the {value.__name__} class" if isinstance(value, type) else f"a value of type {type(value).__name__}"


def _agent_hint(value: object) -> str:
    if isinstance(value, AgentProfile):
        return "Write `agent = create_agent(profile=…)`."
    return "Write `agent = create_agent(model='provider/model-id')`."


def _missing_agent_hint(module: ModuleType) -> str:
    names = [name for name, value in vars(module).items() if isinstance(value, Agent)]
    if names:
        return f"Rename `{names[0]}` to `agent`."
    return "Add `agent = create_agent(model='provider/model-id')`."


def _check_run(run: object, shown: str) -> None:
    if not callable(run):
        raise _invalid(shown, f"`run` must be a function, got {_kind(run)}", "Write `async def run(ctx): …`.")
    if inspect.isasyncgenfunction(run) or inspect.isgeneratorfunction(run):
        raise _invalid(shown, "`run` must return its result, not yield", "Use `return`; progress goes to ctx.log.")
    try:
        inspect.signature(run).bind(None)
    except TypeError:
        hint = "Write `async def run(ctx): …`; the payload is ctx.payload."
        raise _invalid(shown, "`run` must take exactly one argument", hint) from None
    except ValueError:
        return  # a callable from C without a signature: the call itself will tell


def _websocket(module: ModuleType, shown: str) -> Exposure:
    return _exposure(module, "websocket", shown)


def _exposure(module: ModuleType, name: str, shown: str) -> Exposure:
    value = getattr(module, name, None)
    if value is None or value is False:
        return None
    if value is True or is_async(value):
        return value  # type: ignore[no-any-return]
    problem = f"`{name}` must be True or an async function, got {_kind(value)}"
    raise _invalid(shown, problem, f"Write `{name} = True` or `async def {name}(request, call_next): …`.")


def _on_interrupt(module: ModuleType, shown: str) -> OnInterrupt:
    value: Any = getattr(module, "on_interrupt", "restart")
    if value in ("restart", "fail"):
        return value  # type: ignore[no-any-return]
    problem = f'`on_interrupt` must be "restart" or "fail", got {value!r}'
    raise _invalid(shown, problem, "Leave it out to have an interrupted run restarted.")


def _durability(module: ModuleType, shown: str, default: Durability) -> Durability:
    try:
        return as_durability(getattr(module, "durability", None), default)
    except DefinitionError as error:
        raise _invalid(
            shown, error.message.removesuffix("."), 'Write `durability = {"max_attempts": 10, "timeout": "1h"}`.'
        ) from error


def _webhook(triggers: object, shown: str) -> bool:
    if triggers is None:
        return False
    if not isinstance(triggers, Mapping) or any(key != "webhook" for key in triggers):
        problem = "`triggers` knows only the key `webhook`"
        raise _invalid(shown, problem, 'Write `triggers = {"webhook": True}`, or leave it out.')
    value = triggers.get("webhook", False)
    if not isinstance(value, bool):
        problem = f"`triggers` must say True or False for `webhook`, got {_kind(value)}"
        raise _invalid(shown, problem, 'Write `triggers = {"webhook": True}`.')
    return value

"""The context of a workflow run or an agent instance: what `run(ctx)` receives."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, Literal, overload

from flue.definitions.agent import Agent, AgentContext, create_agent, merge
from flue.definitions.profile import AgentProfile, CompactionSettings, ModelChoice
from flue.definitions.skill import SkillInfo
from flue.definitions.tool import Tool
from flue.errors import DefinitionError, UsageError, error_message
from flue.events import Emitter, Log, Scope, Sink
from flue.harness.attempts import Duration
from flue.harness.call import CallHandle, on_loop
from flue.harness.harness import Harness
from flue.harness.roles import find_role
from flue.harness.runtime import Runtime
from flue.harness.step_log import MemorySteps, StepLog
from flue.harness.steps import Steps
from flue.messages import Json, ThinkingLevel
from flue.ports import Clock


class FlueContext:
    """One run or one instance.

    `id` is the run id (`workflow:<name>:<ULID>`) or the agent instance's id; `payload` the JSON the caller sent; `env`
    the environment (keys for models are looked up here); `req` the request that started it, None outside HTTP; `scope`
    says in events where they happened.

    `lineage_id` is the id of the first run of a chain: a run that was interrupted is replaced by another with an id of
    its own, and `lineage_id` stays. Outside a server it is the run's own id. `steps` is where steps are recorded; they
    are kept in memory without it.
    """

    def __init__(
        self,
        *,
        id: str,
        payload: Any,
        env: Mapping[str, Any],
        runtime: Runtime,
        scope: Scope,
        sinks: Sequence[Sink] = (),
        req: Any = None,
        steps: StepLog | None = None,
        lineage_id: str | None = None,
    ) -> None:
        self.id = id
        self.payload = payload
        self.env = env
        self.req = req
        self._runtime = runtime
        self.scope = scope
        self.emitter = Emitter(runtime.clock, sinks)
        for registrations in runtime.registrations.chain():
            for observer in registrations.observers:
                self.emitter.sinks.append(lambda event, observer=observer: observer(event, self))  # type: ignore[misc]
        self.log = ContextLog(self.emitter, scope)
        self.lineage_id = lineage_id or scope.run_id or id
        log = MemorySteps() if steps is None else steps
        self._steps = Steps(log, runtime.clock, calls=self._calls, warn=self.log.warn)
        self._harnesses: dict[str, Harness | None] = {}

    @property
    def run_id(self) -> str | None:
        """Return the id of the run: `id` in a workflow, `run_<ULID>` in a function agent, else None."""
        return self.scope.run_id

    @property
    def clock(self) -> Clock:
        """Return the clock of the host."""
        return self._runtime.clock

    @overload
    async def init(
        self,
        agent: Agent,
        *,
        name: str = "default",
        role: str | None = None,
        tools: Sequence[Tool] = (),
        skills: Sequence[SkillInfo] = (),
        subagents: Sequence[AgentProfile] = (),
    ) -> Harness: ...
    @overload
    async def init(
        self,
        *,
        model: ModelChoice,
        sandbox: Any = None,
        cwd: str | None = None,
        persist: Any = None,
        thinking_level: ThinkingLevel | None = None,
        compaction: CompactionSettings | Mapping[str, Any] | Literal[False] | None = None,
        name: str = "default",
        role: str | None = None,
        tools: Sequence[Tool] = (),
        skills: Sequence[SkillInfo] = (),
        subagents: Sequence[AgentProfile] = (),
    ) -> Harness: ...
    async def init(
        self,
        agent: Agent | None = None,
        *,
        name: str = "default",
        role: str | None = None,
        tools: Sequence[Tool] = (),
        skills: Sequence[SkillInfo] = (),
        subagents: Sequence[AgentProfile] = (),
        **config: Any,
    ) -> Harness:
        """Initialise an agent and return its harness; `tools`, `skills` and `subagents` are added to the agent's.

        Instead of an agent, the fields of one may be given here; `model` is needed. `sandbox` may then also be a
        sandbox itself, as this call is for one instance. `role` is what calls have that name none.

        Raises `DefinitionError` for a wrong configuration, `ModelSetupError` for a model that cannot be used,
        `SandboxError` when the sandbox cannot be created, `UsageError` when the name is taken in this context or the
        role is unknown.
        """
        agent = _as_agent(agent, config)
        chosen = find_role(self._runtime.roles, role)
        if name in self._harnesses:
            raise UsageError(
                f'init() has already been called with name "{name}" in this context.',
                code="harness_exists",
                hint="Use the harness it returned, or pass another name.",
            )
        self._harnesses[name] = None
        try:
            with self._steps.busy():
                made = await agent.initialize(AgentContext(self.id, self.env, self.payload))
                if tools or skills or subagents:
                    added = AgentProfile(tools=tuple(tools), skills=tuple(skills), subagents=tuple(subagents))
                    made = replace(made, profile=merge(made.profile, added))
                harness = await Harness.create(
                    id=self.id,
                    name=name,
                    config=made,
                    runtime=await self._runtime_of(made.persist),
                    variables=self.env,
                    emitter=self.emitter,
                    scope=self.scope,
                    role=chosen,
                )
        except BaseException:
            del self._harnesses[name]
            raise
        self._harnesses[name] = harness
        return harness

    async def step(
        self,
        name: str,
        fn: Callable[..., Any],
        *args: Any,
        retries: int = 0,
        delay: Duration = 1.0,
        backoff: float = 2.0,
        timeout: Duration | None = None,
    ) -> Any:
        """Run `fn(*args)`, sync or async, once in the life of the run, and return its result as JSON values.

        The result is on disk before this returns. When the run begins again, after a crash or a long wait, the recorded
        result is returned and `fn` is not called. The name finds it, so each step of a run needs one of its own; in a
        loop, `f"fetch-{i}"`. A step that was interrupted before its result was recorded is called again.

        `retries` is how many further attempts follow a failed one, after `delay`, then `backoff` times as long, an hour
        at most. `timeout` is for each attempt; it cannot end a function that is not async. Both are seconds, a
        timedelta or text like "90s". Usage errors, aborts and used-up budgets are not tried again. A failure after all
        attempts is raised, not recorded.

        Raises `UsageError`: `step_exists`, `invalid_step`, `invalid_timeout`, `invalid_result`.
        """
        return await self._steps.step(name, fn, args, retries=retries, delay=delay, backoff=backoff, timeout=timeout)

    async def sleep(
        self, duration: Duration | None = None, *, until: datetime | None = None, name: str | None = None
    ) -> None:
        """Wait for a duration (seconds, a timedelta, text like "90s"), or until a time with a time zone.

        The time is recorded, so that a run that begins again waits only for the rest. On a server a run that waits for
        more than a few seconds holds nothing but its place on disk: it is given up, with cleanup code run, and begins
        again over its recorded steps. Steps and calls on sessions that run beside it are let finish first; other code
        beside it is cancelled. Sleeps without a name are told apart by their order in the run.

        Raises `UsageError`: `step_exists`, `invalid_step`.
        """
        await self._steps.sleep(duration, until, name)

    async def wait_for_event(self, name: str, timeout: Duration | None = None) -> Any:
        """Wait until somebody sends the run an event of that name, and return its payload.

        Each event is taken once. It may come before it is waited for, and outlives the process; its payload is recorded
        like the result of a step. `timeout` (as a duration in `sleep`) counts from the first time the run got here. The
        run is given up while it waits, as in `sleep`.

        Raises `OperationTimeoutError`, every time the run gets here again; `UsageError`: `needs_server` where nobody
        can send events, `wait_in_step`, `invalid_step`, `invalid_timeout`.
        """
        return await self._steps.wait_for_event(name, timeout)

    async def close(self) -> None:
        """Abort what is still running and wait until every conversation is in order."""
        await self._steps.close()
        for harness in tuple(self._harnesses.values()):
            if harness is not None:
                await harness.close()

    def _calls(self) -> list[CallHandle[Any]]:
        return [call for harness in self._harnesses.values() if harness is not None for call in harness.calls]

    async def _runtime_of(self, persist: Any) -> Runtime:
        return self._runtime if persist is None else replace(self._runtime, store=self._runtime.persist(persist))


_CONFIG = ("model", "sandbox", "cwd", "persist", "thinking_level", "compaction")


def _as_agent(agent: object, config: Mapping[str, Any]) -> Agent:
    """Return the agent that `init` was given: itself, or as its fields."""
    if unknown := sorted(config.keys() - set(_CONFIG)):
        raise DefinitionError(
            f"init() does not take {', '.join(unknown)}.",
            hint=f"It takes an agent, or {', '.join(_CONFIG)}, and name, role, tools, skills, subagents.",
        )
    if isinstance(agent, Agent):
        if config:
            raise DefinitionError(
                f"init(agent) does not take {', '.join(sorted(config))}.",
                hint="Say that in create_agent, or give init() the fields and no agent.",
            )
        return agent
    if agent is not None:
        raise DefinitionError(
            f"init() takes an agent made by create_agent, got {type(agent).__name__}.",
            hint="Write agent = create_agent(model=…) and pass that, or init(model=…).",
        )
    if config.get("model") is None:
        raise DefinitionError(
            "init() requires a model, or an agent made by create_agent.",
            hint="Pass model='provider/model-id', or model=False to choose one in every call.",
        )
    sandbox = config.get("sandbox")
    if hasattr(sandbox, "exec") and hasattr(sandbox, "read_file"):
        config = {**config, "sandbox": lambda: sandbox}
    return create_agent(**config)


class ContextLog:
    """`ctx.log`: lines of the application's own in the event log, written from anywhere.

    A message that is no text is written as text. Raises `UsageError` when the attributes are no mapping.
    """

    def __init__(self, emitter: Emitter, scope: Scope) -> None:
        self._emitter = emitter
        self._scope = scope
        self._loop = asyncio.get_running_loop()

    def info(self, message: object, attributes: Json | None = None) -> None:
        """Log what happened."""
        self._write("info", message, attributes)

    def warn(self, message: object, attributes: Json | None = None) -> None:
        """Log what looks wrong."""
        self._write("warn", message, attributes)

    def warning(self, message: object, attributes: Json | None = None) -> None:
        """Log what looks wrong: `warn` by the name of Python's logging, which linters write in its place."""
        self.warn(message, attributes)

    def error(self, message: object, attributes: Json | None = None) -> None:
        """Log what went wrong; an exception under `error` is written as name, message and stack."""
        self._write("error", message, attributes)

    def _write(self, level: Literal["info", "warn", "error"], message: object, attributes: Json | None) -> None:
        if attributes is not None and not isinstance(attributes, Mapping):
            raise UsageError(
                f"ctx.log.{level}(): attributes must be a mapping, got {type(attributes).__name__}.",
                hint=f'Write ctx.log.{level}(f"… {{value}}"), or ctx.log.{level}("…", {{"name": value}}).',
            )
        line = partial(self._emitter.emit, self._scope, Log, level, str(message), _plain(attributes))
        if on_loop() or self._loop.is_closed():
            line()
        else:
            self._loop.call_soon_threadsafe(line)


def _plain(attributes: Json | None) -> Json | None:
    error = (attributes or {}).get("error")
    if not isinstance(error, BaseException):
        return attributes
    stack = "".join(traceback.format_exception(error))
    return {
        **(attributes or {}),
        "error": {"name": type(error).__name__, "message": error_message(error), "stack": stack},
    }

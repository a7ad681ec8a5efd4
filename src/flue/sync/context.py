"""A context, for code that blocks."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from os import PathLike
from types import TracebackType
from typing import Any, Literal, Self, overload

from flue.definitions.agent import Agent
from flue.definitions.profile import AgentProfile, CompactionSettings, ModelChoice
from flue.definitions.role import Role
from flue.definitions.skill import SkillInfo
from flue.definitions.tool import Tool
from flue.events import Event
from flue.harness.attempts import Duration
from flue.harness.context import ContextLog, FlueContext
from flue.harness.harness import Harness
from flue.harness.retry import Retry
from flue.harness.sandbox import SandboxFactory
from flue.host import open_context
from flue.messages import Json, ThinkingLevel
from flue.ports import Clock, Ids, ModelSource, Store
from flue.registrations import Registrations
from flue.sync.harness import SyncHarness
from flue.sync.portal import Portal


def open_context_sync(
    *,
    id: str | None = None,
    payload: Any = None,
    env: Mapping[str, Any] | None = None,
    store: Store | str | PathLike[str] | None = None,
    on_event: Callable[[Event], None] | None = None,
    workflow: str | None = None,
    agent: str | None = None,
    run_id: str | None = None,
    roles: Iterable[Role] = (),
    registrations: Registrations | None = None,
    models: ModelSource | None = None,
    sandbox: SandboxFactory | None = None,
    clock: Clock | None = None,
    ids: Ids | None = None,
    retry: Retry | None = None,
) -> SyncContext:
    """Do what `flue.open_context` does, for code without `await`: scripts, notebooks, sync web handlers.

    Use it in a `with` block, or keep it and call `close()`; forgotten, it closes itself. An event loop runs in a
    background thread until then, so it also works where a loop is running already, as in Jupyter. Tools and `on_event`
    run in that thread.
    """
    manager = open_context(
        id=id,
        payload=payload,
        env=env,
        store=store,
        on_event=on_event,
        workflow=workflow,
        agent=agent,
        run_id=run_id,
        roles=roles,
        registrations=registrations,
        models=models,
        sandbox=sandbox,
        clock=clock,
        ids=ids,
        retry=retry,
    )
    return SyncContext(Portal(manager))


class SyncContext:
    """One run or one instance; a context manager that closes itself.

    `id`, `lineage_id`, `payload`, `env` and `req` are those of `flue.FlueContext`. Methods may be called from several
    threads.
    """

    def __init__(self, portal: Portal[FlueContext]) -> None:
        context = portal.value
        self.id = context.id
        self.lineage_id = context.lineage_id
        self.payload = context.payload
        self.env = context.env
        self.req = context.req
        self.log = SyncLog(portal, context.log)
        self._portal = portal

    @overload
    def init(
        self,
        agent: Agent,
        *,
        name: str = "default",
        role: str | None = None,
        tools: Sequence[Tool] = (),
        skills: Sequence[SkillInfo] = (),
        subagents: Sequence[AgentProfile] = (),
    ) -> SyncHarness: ...
    @overload
    def init(
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
    ) -> SyncHarness: ...
    def init(
        self,
        agent: Agent | None = None,
        *,
        name: str = "default",
        role: str | None = None,
        tools: Sequence[Tool] = (),
        skills: Sequence[SkillInfo] = (),
        subagents: Sequence[AgentProfile] = (),
        **config: Any,
    ) -> SyncHarness:
        """Initialise an agent and return its harness; see `flue.FlueContext.init`."""
        # The overloads above hold callers to what the context takes; the context checks the rest.
        init: Callable[..., Awaitable[Harness]] = self._portal.value.init
        harness = self._portal.call(
            lambda: init(agent, name=name, role=role, tools=tools, skills=skills, subagents=subagents, **config)
        )
        return SyncHarness(self._portal, harness)

    def step(
        self,
        name: str,
        fn: Callable[..., Any],
        *args: Any,
        retries: int = 0,
        delay: Duration = 1.0,
        backoff: float = 2.0,
        timeout: Duration | None = None,
    ) -> Any:
        """Run a step and return its result as JSON values; see `flue.FlueContext.step`.

        `fn` runs in a thread, where it may block and use this context. A timeout does not end it there, but goes on
        without it.
        """
        work = _in_thread(fn)
        return self._portal.call(
            lambda: self._portal.value.step(
                name, work, *args, retries=retries, delay=delay, backoff=backoff, timeout=timeout
            )
        )

    def sleep(
        self, duration: Duration | None = None, *, until: datetime | None = None, name: str | None = None
    ) -> None:
        """Wait; see `flue.FlueContext.sleep`."""
        self._portal.call(lambda: self._portal.value.sleep(duration, until=until, name=name))

    def wait_for_event(self, name: str, timeout: Duration | None = None) -> Any:
        """Wait for an event; see `flue.FlueContext.wait_for_event`."""
        return self._portal.call(lambda: self._portal.value.wait_for_event(name, timeout))

    def close(self) -> None:
        """Abort what is still running, wait until every conversation is in order, and end the background thread."""
        self._portal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _in_thread(fn: Any) -> Any:
    """Return `fn` as a coroutine function: one that blocks may wait for the very loop that runs the step."""
    if not callable(fn):
        return fn

    async def work(*args: Any) -> Any:
        value = await asyncio.to_thread(fn, *args)
        return await value if inspect.isawaitable(value) else value

    return work


class SyncLog:
    """`ctx.log`: lines of the application's own in the event log."""

    def __init__(self, portal: Portal[Any], log: ContextLog) -> None:
        self._portal = portal
        self._log = log

    def info(self, message: object, attributes: Json | None = None) -> None:
        """Log what happened."""
        self._write(self._log.info, message, attributes)

    def warn(self, message: object, attributes: Json | None = None) -> None:
        """Log what looks wrong."""
        self._write(self._log.warn, message, attributes)

    def warning(self, message: object, attributes: Json | None = None) -> None:
        """Log what looks wrong: `warn` by the name of Python's logging, which linters write in its place."""
        self.warn(message, attributes)

    def error(self, message: object, attributes: Json | None = None) -> None:
        """Log what went wrong; an exception under `error` is written as name, message and stack."""
        self._write(self._log.error, message, attributes)

    def _write(self, write: Callable[[object, Json | None], None], message: object, attributes: Json | None) -> None:
        async def work() -> None:
            write(message, attributes)

        self._portal.call(work)

"""A context, for code that blocks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from os import PathLike
from types import TracebackType
from typing import Any, Literal, Self, overload

from flue.definitions.agent import Agent
from flue.definitions.profile import AgentProfile, CompactionSettings, ModelChoice
from flue.definitions.role import Role
from flue.definitions.skill import SkillInfo
from flue.definitions.tool import Tool
from flue.events import Event
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

    `id`, `payload`, `env` and `req` are those of `flue.FlueContext`. Methods may be called from several threads.
    """

    def __init__(self, portal: Portal[FlueContext]) -> None:
        context = portal.value
        self.id = context.id
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

    def close(self) -> None:
        """Abort what is still running, wait until every conversation is in order, and end the background thread."""
        self._portal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class SyncLog:
    """`ctx.log`: lines of the application's own in the event log."""

    def __init__(self, portal: Portal[Any], log: ContextLog) -> None:
        self._portal = portal
        self._log = log

    def info(self, message: str, attributes: Json | None = None) -> None:
        """Log what happened."""
        self._write(self._log.info, message, attributes)

    def warn(self, message: str, attributes: Json | None = None) -> None:
        """Log what looks wrong."""
        self._write(self._log.warn, message, attributes)

    def error(self, message: str, attributes: Json | None = None) -> None:
        """Log what went wrong; an exception under `error` is written as name, message and stack."""
        self._write(self._log.error, message, attributes)

    def _write(self, write: Callable[[str, Json | None], None], message: str, attributes: Json | None) -> None:
        async def work() -> None:
            write(message, attributes)

        self._portal.call(work)

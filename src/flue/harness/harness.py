"""A harness: an initialised agent, its sandbox and its sessions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flue.definitions.budget import Budget, as_budget
from flue.definitions.profile import AgentProfile
from flue.definitions.role import Role
from flue.definitions.tool import Tool
from flue.errors import DefinitionError, SessionError, UsageError
from flue.events import Emitter, Scope
from flue.harness.call import CallHandle
from flue.harness.env import FlueFs, SessionEnv
from flue.harness.files_note import FilesNote
from flue.harness.history import History
from flue.harness.meter import Meter
from flue.harness.roles import find_role
from flue.harness.runtime import Runtime
from flue.harness.sandbox import SandboxFactory
from flue.harness.session import Session, check_text_argument
from flue.harness.setup import SessionSetup, prepare
from flue.harness.shell import run_shell
from flue.harness.tasks import is_task_of
from flue.harness.tools import builtin_tools
from flue.messages import Json
from flue.ports import ExecResult

if TYPE_CHECKING:
    from flue.definitions.agent import AgentConfig

RESERVED_PREFIX = "task:"
KEY_PREFIX = "agent-session:"
DEFAULT_CWD = "/workspace"


class Harness:
    """An agent at work. Its sessions share one sandbox and may run at the same time.

    Get one from `ctx.init(agent)`.
    """

    def __init__(
        self,
        *,
        id: str,
        name: str,
        runtime: Runtime,
        variables: Mapping[str, Any],
        emitter: Emitter,
        scope: Scope,
        factory: SandboxFactory,
        setup: SessionSetup,
        role: Role | None = None,
    ) -> None:
        self.id = id
        self.name = name
        self.runtime = runtime
        self.variables = variables
        self.emitter = emitter
        self.scope = replace(scope, harness=name)
        self.meter = Meter("agent", setup.profile.budget)
        self.sessions = Sessions(self)
        self.files_note = FilesNote()
        self._factory = factory
        self._setup = setup
        self._role = role
        self._calls: set[CallHandle[Any]] = set()

    @classmethod
    async def create(
        cls,
        *,
        id: str,
        name: str,
        config: AgentConfig,
        runtime: Runtime,
        variables: Mapping[str, Any],
        emitter: Emitter,
        scope: Scope,
        role: Role | None = None,
    ) -> Harness:
        """Create the sandbox and set the agent up in it. Raises what `FlueContext.init` says."""
        factory = await resolve_factory(config.sandbox, runtime)
        env = await factory.create_session_env(id=id, cwd=config.cwd)
        try:
            if config.cwd is not None:
                env = env.scoped(config.cwd)
            tools = _base_tools(factory, env, config.profile)
            setup = await prepare(config.profile, env, runtime, variables, tools)
        except BaseException:
            await env.close()
            raise
        return cls(
            id=id,
            name=name,
            runtime=runtime,
            variables=variables,
            emitter=emitter,
            scope=scope,
            factory=factory,
            setup=setup,
            role=role,
        )

    async def session(
        self,
        name: str = "default",
        *,
        role: str | None = None,
        budget: Budget | Mapping[str, float] | None = None,
    ) -> Session:
        """Return the session of that name, a new one where there is none.

        It is the same object every time, unless somebody else has changed the conversation in the store (an error with
        code `session_conflict` has said so): then it is read anew.

        `budget` limits what the session spends in its whole life; `role` is what its calls have that name none. Given
        again, each takes the place of the earlier one. Raises `UsageError` (`unknown_role`).
        """
        chosen = find_role(self.runtime.roles, role)
        session = await self.sessions.open(name)
        if chosen is not None:
            session.role = chosen
        if budget is not None:
            session.meter.budget = as_budget(budget)
        return session

    @property
    def fs(self) -> FlueFs:
        """Return the sandbox's files."""
        return self._setup.env

    def shell(
        self,
        command: str,
        *,
        stdin: str | bytes | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: float | None = None,
    ) -> CallHandle[ExecResult]:
        """Run a command in the sandbox; no conversation knows of it. A non-zero exit code is a result."""
        check_text_argument(command, "shell")
        work = run_shell(
            self._setup.env,
            self,
            replace(self.scope, operation_id=f"op_{self.runtime.ids.ulid()}"),
            command,
            stdin=stdin,
            variables=env,
            cwd=cwd,
            timeout=timeout,
        )
        return CallHandle(work, label="shell()", clock=self.runtime.clock, running=self._calls)

    @property
    def calls(self) -> list[CallHandle[Any]]:
        """Return the calls under way, on the harness and on its sessions."""
        return [*self._calls, *(call for session in self.sessions._open.values() for call in session.operations._calls)]

    async def close(self) -> None:
        """Abort what is running, wait until every conversation is in order, and give the sandbox back."""
        for call in tuple(self._calls):
            call.abort("The harness was closed.")
            await call.settle()
        await self.sessions.close()
        await self._setup.env.close()

    def session_key(self, session: str) -> str:
        """Return the storage key of a session."""
        return session_key(self.id, self.name, session)

    def new_session(self, name: str, history: History) -> Session:
        """Return a session of the agent itself over a history."""
        return Session(name, self, self._setup, history, role=self._role)

    async def open_child(
        self,
        name: str,
        profile: AgentProfile,
        env: SessionEnv,
        history: History,
        *,
        depth: int,
        scope: Scope,
        role: Role | None,
    ) -> Session:
        """Return a session for a task: another profile, perhaps in another directory."""
        tools = _base_tools(self._factory, env, profile)
        setup = await prepare(profile, env, self.runtime, self.variables, tools)
        scope = replace(scope, harness=self.name)
        return Session(name, self, setup, history, depth=depth, scope=scope, role=role)


def session_key(instance: str, harness: str, session: str) -> str:
    """Return the storage key of a session."""
    return KEY_PREFIX + json.dumps([instance, harness, session], ensure_ascii=False, separators=(",", ":"))


def session_name(key: str) -> str:
    """Return the name of the session that has a storage key."""
    name: str = json.loads(key.removeprefix(KEY_PREFIX))[2]
    return name


class Sessions:
    """The sessions of a harness."""

    def __init__(self, harness: Harness) -> None:
        self._harness = harness
        self._open: dict[str, Session] = {}
        # Opening and deleting read the store in between; one at a time, or two callers get two sessions.
        self._lock = asyncio.Lock()

    async def open(self, name: str = "default") -> Session:
        """Return the session, creating it where there is none."""
        async with self._lock:
            return await self._find(name) or await self._create(name)

    async def get(self, name: str = "default") -> Session:
        """Return an existing session. Raises `SessionError` (code `session_not_found`)."""
        async with self._lock:
            session = await self._find(name)
        if session is None:
            raise SessionError(
                f'Session "{name}" does not exist in harness "{self._harness.name}".', code="session_not_found"
            )
        return session

    async def create(self, name: str = "default") -> Session:
        """Return a new session. Raises `SessionError` (code `session_exists`) when there is one of that name."""
        async with self._lock:
            if await self._find(name) is not None:
                raise SessionError(
                    f'Session "{name}" already exists in harness "{self._harness.name}".', code="session_exists"
                )
            return await self._create(name)

    async def delete(self, name: str = "default") -> None:
        """Delete a session and the sessions of its tasks, ending what runs there; a missing one is fine."""
        async with self._lock:
            session = await self._find(name)
            if session is None:
                return
            await session.close(deleted=True)
            del self._open[name]
            keys = [session.history.key, *await self._tasks_of(session)]
            await self._harness.runtime.store.delete_sessions(keys)

    async def close(self) -> None:
        """Abort what is running in every session and wait until it is in order."""
        for session in tuple(self._open.values()):
            await session.close()

    async def _find(self, name: str) -> Session | None:
        _check_name(name)
        session = self._open.get(name)
        if session is not None:
            if not session.history.stale:
                return session
            del self._open[name]
            await session.close()
        runtime = self._harness.runtime
        history = await History.load(self._harness.session_key(name), runtime.store, runtime.clock, runtime.ids)
        return None if history is None else self._keep(name, history)

    async def _create(self, name: str) -> Session:
        runtime = self._harness.runtime
        history = History(self._harness.session_key(name), runtime.store, runtime.clock, runtime.ids)
        await history.durable()
        return self._keep(name, history)

    def _keep(self, name: str, history: History) -> Session:
        session = self._open[name] = self._harness.new_session(name, history)
        return session

    async def _tasks_of(self, session: Session) -> list[str]:
        """Return the keys of the sessions of its tasks, and of theirs."""
        store = self._harness.runtime.store
        if not store.can_list:
            return await self._noted_tasks(session.history.metadata)
        beginning = self._harness.session_key(RESERVED_PREFIX).removesuffix('"]')
        return [key for key in await store.list_sessions(beginning) if is_task_of(session_name(key), session.name)]

    async def _noted_tasks(self, metadata: Json) -> list[str]:
        keys = []
        for task in metadata.get("taskSessions", []):
            child = await self._harness.runtime.store.load_session(task["storageKey"])
            keys += [task["storageKey"], *(await self._noted_tasks(child.head.metadata) if child else ())]
        return keys


async def resolve_factory(choice: Any, runtime: Runtime) -> SandboxFactory:
    """Return the factory for an agent's `sandbox`. Raises `DefinitionError` when a function returns something else."""
    if choice is None:
        return runtime.sandbox
    if found := runtime.adapt_sandbox(choice):
        return found
    if hasattr(choice, "create_session_env"):
        return choice  # type: ignore[no-any-return]
    return _FunctionFactory(choice, runtime)


class _FunctionFactory:
    """A function that returns a sandbox, or a session environment, in the place of a factory."""

    def __init__(self, function: Any, runtime: Runtime) -> None:
        self._function = function
        self._runtime = runtime

    async def create_session_env(self, *, id: str, cwd: str | None = None) -> SessionEnv:
        value: Any = self._function()
        if asyncio.iscoroutine(value) or asyncio.isfuture(value):
            value = await value
        value = self._runtime.adapt_sandbox(value) or value
        if isinstance(value, SessionEnv):
            return value.borrowed()
        if hasattr(value, "create_session_env"):
            env: SessionEnv = await value.create_session_env(id=id, cwd=cwd)
            return env
        if hasattr(value, "exec") and hasattr(value, "read_file"):
            return SessionEnv(value, cwd if cwd and cwd.startswith("/") else DEFAULT_CWD)
        raise DefinitionError(
            f"The agent's sandbox function returned {type(value).__name__}.",
            hint="Return a SessionEnv, a sandbox or a sandbox factory.",
        )


def _base_tools(factory: SandboxFactory, env: SessionEnv, profile: AgentProfile) -> Sequence[Tool]:
    make = getattr(factory, "tools", None)
    if make is None:
        return builtin_tools(env)
    tools: tuple[Tool, ...] = tuple(make(env, profile.subagents))
    names = [tool.name for tool in tools]
    if {"task", "activate_skill"} & set(names) or len(set(names)) < len(names):
        raise DefinitionError(
            f"The sandbox's tools are {', '.join(names)}: names must differ, and none may be task or activate_skill.",
            code="duplicate_tool",
        )
    return tools


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name.strip():
        raise UsageError(f"A session needs a name, got {name!r}.", code="invalid_session_name")
    if name.startswith(RESERVED_PREFIX):
        raise UsageError(f'The session name "{name}" is reserved for tasks.', code="invalid_session_name")

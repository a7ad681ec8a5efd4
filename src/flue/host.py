"""The host: the default ports of a Python process put together, and `open_context` to work with them."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from os import PathLike
from typing import TYPE_CHECKING, Any

from flue.definitions.profile import check_unique
from flue.definitions.role import Role
from flue.errors import UsageError
from flue.events import Event, Scope
from flue.harness.context import FlueContext
from flue.harness.observe import settle_subscribers
from flue.harness.retry import Retry
from flue.harness.runtime import Runtime
from flue.harness.sandbox import SandboxFactory
from flue.ports import Clock, Ids, ModelSource, SessionStore, Store
from flue.registrations import PROCESS, Registrations, using_registrations
from flue.threads import THREADS

if TYPE_CHECKING:
    from flue.durable.port import DurableStore
    from flue.engine.catalog import Catalog
    from flue.engine.engine import EngineSettings
    from flue.engine.event_log import LogSettings
    from flue.engine.service import Service

# How long the end of a context waits for what subscribers still do in the background.
_SETTLE_SECONDS = 5.0
logger = logging.getLogger("flue")
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [first + second for first in _CROCKFORD for second in _CROCKFORD]
_BLOCK = 64


class SystemClock:
    """The machine's time."""

    def now_ms(self) -> int:
        """Return milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


class SystemIds:
    """Random identifiers. ULIDs sort by the millisecond they were made in (github.com/ulid/spec)."""

    def __init__(self) -> None:
        # Asked for in blocks: each question to the operating system lets other threads go first.
        self._random: list[bytes] = []
        self._process = os.getpid()

    def ulid(self) -> str:
        """Return a 26-character ULID."""
        if self._process != os.getpid():  # two children of a process must not go on with the same block
            self._process, self._random = os.getpid(), []
        try:
            random = self._random.pop()
        except IndexError:
            block = secrets.token_bytes(10 * _BLOCK)
            self._random += [block[start : start + 10] for start in range(10, 10 * _BLOCK, 10)]
            random = block[:10]
        number = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(random)
        return "".join([_PAIRS[(number >> shift) & 1023] for shift in range(120, -1, -10)])

    def uuid(self) -> str:
        """Return a random UUID."""
        return str(uuid.uuid4())

    def entry(self) -> str:
        """Return 8 hexadecimal digits."""
        return secrets.token_hex(4)


@asynccontextmanager
async def open_context(
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
) -> AsyncIterator[FlueContext]:
    """Open a context in this process: what a workflow's `run(ctx)` receives, and the way to use agents in a script.

    `id` names the instance whose conversations continue (default: a new one); `store` keeps them: a path for a SQLite
    file, the URL of a database (`flue.stores.open_store`), or a `Store`; by default they are kept in memory and end
    with the block. `env` is where API keys are looked up (default: the process's environment). `on_event` is called
    with every event; `roles` are those that can be asked for by name.

    With `workflow` the context is that of a run of the workflow, and `id` defaults to a new run id. With `agent` it is
    that of an instance of the agent of that name: agents that share a store then have conversations of their own, also
    where their instances have one id. `run_id` makes it a run of that agent (one with `run(ctx)`).

    When the block ends, what still runs is aborted and every conversation is put in order. What this function opened
    (transport, store) is closed; what it was given stays open.
    """
    if workflow and (agent or run_id):
        raise UsageError("A context belongs to a workflow or to an agent, not to both.")
    ids = ids or SystemIds()
    registrations = registrations or PROCESS
    roles = tuple(roles)
    check_unique(roles, "context", "roles")
    async with AsyncExitStack() as stack:
        runtime = Runtime(
            models=models or await _default_models(stack),
            store=_share(await _open_store(store, stack), agent),
            clock=clock or SystemClock(),
            ids=ids,
            sandbox=sandbox or _default_sandbox(),
            persist=lambda own: _share(_persist(own), agent),
            registrations=registrations,
            retry=retry or Retry(),
            roles={role.name: role for role in roles},
            off_loop=THREADS.run,
        )
        if id is None:
            id = f"workflow:{workflow}:{ids.ulid()}" if workflow else ids.uuid()
        elif not id.strip():
            raise UsageError("A context's id must not be empty.", code="invalid_id")
        stack.enter_context(using_registrations(registrations))
        stack.push_async_callback(_settle_subscribers, registrations)
        context = FlueContext(
            id=id,
            payload=payload,
            env=os.environ if env is None else env,
            runtime=runtime,
            scope=Scope(run_id=id) if workflow else Scope(run_id=run_id, instance_id=id),
            sinks=() if on_event is None else (on_event,),
        )
        stack.push_async_callback(context.close)
        yield context


@asynccontextmanager
async def open_service(
    catalog: Catalog,
    *,
    store: DurableStore | str | PathLike[str] | None = None,
    env: Mapping[str, Any] | None = None,
    roles: Iterable[Role] = (),
    registrations: Registrations | None = None,
    models: ModelSource | None = None,
    sandbox: SandboxFactory | None = None,
    adapt_sandbox: Callable[[Any], SandboxFactory | None] = lambda value: None,
    clock: Clock | None = None,
    ids: Ids | None = None,
    retry: Retry | None = None,
    settings: EngineSettings | None = None,
    log: LogSettings | None = None,
    project: str = "",
    announced: bool = True,
    drain: float = 5.0,
    runs_changed: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> AsyncIterator[Service]:
    """Open a service: agents and workflows at work on a store, in this process and event loop.

    Arguments are those of `open_context` and `Runtime`; `project` names the project among those that share the store.
    With `announced`, `dispatch` finds the service, whoever calls it in the process. The service takes up what was
    accepted earlier as soon as it is started, or first asked for something. When the block ends, work stops where it
    can be continued, within `drain` seconds; what this function opened is closed. `runs_changed` is for who keeps a
    list of runs elsewhere, see `Engine`.
    """
    from flue.engine.catalog import Deployment
    from flue.engine.dispatching import announce
    from flue.engine.service import Service

    registrations = registrations or PROCESS
    async with AsyncExitStack() as stack:
        opened = await _open_store(store, stack)
        runtime = Runtime(
            models=models or await _default_models(stack),
            store=opened,
            clock=clock or SystemClock(),
            ids=ids or SystemIds(),
            sandbox=sandbox or _default_sandbox(),
            persist=_persist,
            registrations=registrations,
            retry=retry or Retry(),
            roles={role.name: role for role in roles},
            off_loop=THREADS.run,
            adapt_sandbox=adapt_sandbox,
        )
        deployment = Deployment(catalog, runtime, os.environ if env is None else env, _persist)
        stack.push_async_callback(_settle_subscribers, registrations)
        service = Service(
            opened,  # type: ignore[arg-type]  # all ours are durable
            deployment,
            settings=settings,
            log=log,
            project=project,
            runs_changed=runs_changed,
        )
        if announced:
            stack.callback(announce(service))
        stack.push_async_callback(service.drain, drain)
        yield service


async def _settle_subscribers(registrations: Registrations) -> None:
    try:
        async with asyncio.timeout(_SETTLE_SECONDS):
            await settle_subscribers(registrations)
    except TimeoutError:
        logger.warning("Event subscribers were still at work %g s after the end of the context.", _SETTLE_SECONDS)


async def _default_models(stack: AsyncExitStack) -> ModelSource:
    from flue.models.http import Httpx2Transport
    from flue.models.source import Models

    transport = Httpx2Transport()
    stack.push_async_callback(transport.aclose)
    return Models(transport)


async def _open_store(store: Store | str | PathLike[str] | None, stack: AsyncExitStack) -> Store:
    if store is not None and not isinstance(store, str | PathLike):
        return store
    from flue.stores import open_store

    opened = open_store(store)
    stack.push_async_callback(opened.aclose)
    return opened


def _share(store: Store, agent: str | None) -> Store:
    """Return the agent's part of a store: a session's key names the instance, and not whose it is."""
    if agent is None:
        return store
    from flue.harness.agent_store import AgentStore

    return AgentStore(store, agent)


def _default_sandbox() -> SandboxFactory:
    from flue.sandboxes import virtual

    return virtual()


def _persist(session_store: SessionStore) -> Store:
    from flue.stores.persist import PersistStore

    return PersistStore(session_store)

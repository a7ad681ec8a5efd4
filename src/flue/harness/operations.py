"""A session's operations: one at a time, in the order they were asked for, each ending with the history on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from flue.errors import DurabilityError, SessionError, UsageError
from flue.events import Emitter, ErrorInfo, Idle, Operation, OperationKind, OperationStart, Scope
from flue.harness.call import CallHandle
from flue.harness.history import History
from flue.harness.journal import Paused
from flue.harness.keywords import Busy
from flue.harness.meter import Meter
from flue.harness.runtime import Runtime
from flue.messages import Usage

T = TypeVar("T")


@dataclass(slots=True)
class _Running:
    """An operation under way, as code that runs inside it sees it."""

    owner: Operations
    active: bool = True


_inside: ContextVar[tuple[_Running, ...]] = ContextVar("flue_operations", default=())


def inside_operation() -> bool:
    """Say whether the caller's code runs inside an operation of a session: it is a tool, say."""
    return any(running.active for running in _inside.get())


class Operations:
    """Runs the operations of one session. `scope` is what the events of the next one carry."""

    def __init__(
        self, *, session: str, history: History, meter: Meter, runtime: Runtime, emitter: Emitter, scope: Scope
    ) -> None:
        self._session = session
        self._history = history
        self._meter = meter
        self._runtime = runtime
        self._emitter = emitter
        self.scope = scope
        self._lock = asyncio.Lock()
        self._calls: set[CallHandle[Any]] = set()
        self._deleted = False

    @property
    def busy(self) -> bool:
        """Say whether an operation runs or waits."""
        return bool(self._calls)

    @property
    def current(self) -> CallHandle[Any] | None:
        """Return the operation inside which the caller's code runs."""
        return next((call for call in self._calls if call.is_current()), None)

    def start(
        self,
        kind: OperationKind,
        body: Callable[[Scope], Awaitable[T]],
        *,
        timeout: float | None = None,
        busy: Busy = "queue",
        follow_up: bool = False,
    ) -> CallHandle[T]:
        """Queue an operation and return its handle; `body` gets the scope for its events.

        Raises `SessionError` for a deleted session, for a busy one with `busy="reject"`, and for an operation that is
        started inside another one of the same session: it would wait for itself, unless it is a `follow_up`, which
        nobody inside waits for. Raises `UsageError` for a wrong `timeout` or `busy`.
        """
        self._check_open()
        if busy not in ("queue", "reject"):
            raise UsageError(f'busy must be "queue" or "reject", got {busy!r}.', code="invalid_busy")
        inside = any(running.owner is self and running.active for running in _inside.get())
        waits_for_itself = inside and not follow_up
        if waits_for_itself or (busy == "reject" and self.busy):
            raise SessionError(
                f'Session "{self._session}" is already running an operation.',
                code="session_busy",
                hint="Await it first, or start another session for a parallel conversation.",
            )
        number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
        if timeout is not None and not (number and timeout > 0):
            raise UsageError(f"timeout must be a positive number of seconds, got {timeout!r}.", code="invalid_timeout")
        work = self._operate(kind, body)
        return CallHandle(work, label=f"{kind}()", clock=self._runtime.clock, running=self._calls, timeout=timeout)

    async def close(self, *, deleted: bool = False) -> None:
        """Abort what runs and waits, and return when the history is in order and on disk."""
        self._deleted = self._deleted or deleted
        while calls := tuple(self._calls):  # the end of one may start a follow-up
            for call in calls:
                call.abort("The session was closed.")
            for call in calls:
                await call.settle()
        await self._history.settle()

    async def _operate(self, kind: OperationKind, body: Callable[[Scope], Awaitable[T]]) -> T:
        async with self._lock:
            self._check_open()
            running = _Running(self)
            _inside.set((*_inside.get(), running))
            scope = replace(self.scope, operation_id=f"op_{self._runtime.ids.ulid()}")
            with self._history.tally() as tally:
                started = self._runtime.clock.monotonic()
                self._emitter.emit(scope, OperationStart, kind)
                error: BaseException | None = None
                value: T | None = None
                ended = True
                try:
                    value = await body(scope)
                    self._note_spent()
                    await self._history.durable()
                    return value
                except Paused:
                    ended = False
                    self._note_spent()
                    await self._history.durable()
                    raise
                except (Exception, asyncio.CancelledError) as raised:
                    error = raised
                    self._note_spent()
                    if not isinstance(raised, DurabilityError):
                        # The caller hears why the call failed; what was said until then is kept.
                        await self._history.settle()
                    raise
                finally:
                    running.active = False
                    if ended:
                        self._announce_end(scope, kind, started, value=value, error=error, usage=tally.total)

    def _announce_end(
        self,
        scope: Scope,
        kind: OperationKind,
        started: float,
        *,
        value: object,
        error: BaseException | None,
        usage: Usage,
    ) -> None:
        milliseconds = round((self._runtime.clock.monotonic() - started) * 1000)
        info = None if error is None else ErrorInfo.of(error)
        self._emitter.emit(scope, Operation, kind, milliseconds, error is not None, info, value, usage)
        self._emitter.emit(scope, Idle)

    def _note_spent(self) -> None:
        if self._meter.turns:
            self._history.set_metadata(spent=self._meter.to_json())

    def _check_open(self) -> None:
        if self._deleted:
            raise SessionError(f'Session "{self._session}" has been deleted.', code="session_deleted")

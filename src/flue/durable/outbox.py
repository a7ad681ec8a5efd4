"""What the holder of a claim has to write: gathered, and written with the next transition in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeVar

from flue.durable.failures import attempt_lost
from flue.durable.port import DurableStore
from flue.durable.records import (
    Admission,
    Admitted,
    Claim,
    EventRow,
    JournalRecord,
    Outcome,
    SessionAppend,
    StepResult,
    Wait,
    Writes,
)

T = TypeVar("T")


class RowSource(Protocol):
    """Where the rows of a claim's event log come from."""

    def take(self) -> tuple[EventRow, ...]:
        """Return the rows not written yet; they count as handed over."""
        ...

    def sent(self, written: Awaitable[object]) -> None:
        """Be told of the write that carries the rows just taken."""
        ...

    async def ready(self) -> None:
        """Wait until all there is can be taken; does not wait when it can."""
        ...

    def close(self) -> None:
        """Be done: nothing that was not taken will be."""
        ...


class Outbox:
    """Gathers a claim's writes. Each of them is a transition of the store, queued at the call and in call order.

    What was added goes with the next one, whichever it is, so that nothing of a step can be on disk without the rest.
    Awaiting a transition raises as the store's does. After one has failed all further ones fail with the same error:
    what it carried is not on disk, so nothing that came after may be.
    """

    def __init__(self, store: DurableStore, claim: Claim) -> None:
        self.claim = claim
        self.rows: RowSource | None = None
        self._store = store
        self._journal: list[JournalRecord] = []
        self._steps: list[StepResult] = []
        self._consumed: list[str] = []
        self._last: asyncio.Future[None] | None = None
        self._failure: BaseException | None = None

    def add(
        self,
        *,
        journal: Iterable[JournalRecord] = (),
        steps: Iterable[StepResult] = (),
        consumed: Iterable[str] = (),
    ) -> None:
        """Add to what goes with the next transition."""
        self._journal += journal
        self._steps += steps
        self._consumed += consumed

    def write(self, *sessions: SessionAppend) -> asyncio.Future[None]:
        """Queue a checkpoint of everything that was added; it is done when that is durable.

        Cancelling what this returns changes nothing: how the write went is to be heard here, and by the log.
        """
        writes, rows = self._take(sessions)
        self._last = self._begin(rows, lambda: self._store.checkpoint(self.claim, writes))
        written = asyncio.shield(self._last)
        written.add_done_callback(_seen)
        return written

    async def flush(self) -> None:
        """Wait until everything that was added is durable."""
        if self._journal or self._steps or self._consumed:
            self.write()
        if self._last is not None:
            await asyncio.shield(self._last)

    def close(self) -> None:
        """Be done with the rows: the claim has ended, or its work begins again."""
        if self.rows is not None:
            self.rows.close()
            self.rows = None

    def cut(self) -> None:
        """Be done with everything: further transitions fail as if somebody else had the claim."""
        self.close()
        if self._failure is None:
            self._failure = attempt_lost(self.claim.id, self.claim.attempt_id)

    async def settle(self, outcome: Outcome, *, now: int) -> None:
        """End the submission."""
        await self._ready()
        writes, rows = self._take()
        await asyncio.shield(self._begin(rows, lambda: self._store.settle(self.claim, outcome, now=now, writes=writes)))

    async def park(self, wait: Wait, *, now: int) -> bool:
        """Give the claim up until something comes; False when that is there already."""
        await self._ready()
        writes, rows = self._take()
        return await asyncio.shield(
            self._begin(rows, lambda: self._store.park(self.claim, wait, now=now, writes=writes))
        )

    async def release(self, *, now: int, not_before: int | None = None, interrupted: bool = False) -> None:
        """Give the claim back unfinished."""
        await self._ready()
        writes, rows = self._take()
        await asyncio.shield(
            self._begin(
                rows,
                lambda: self._store.release(
                    self.claim, now=now, not_before=not_before, interrupted=interrupted, writes=writes
                ),
            )
        )

    async def restart(self, admission: Admission, *, error: str, now: int) -> Admitted:
        """End a run as failed and admit its replacement."""
        await self._ready()
        writes, rows = self._take()
        return await asyncio.shield(
            self._begin(rows, lambda: self._store.restart(self.claim, admission, error=error, now=now, writes=writes))
        )

    async def _ready(self) -> None:
        """Wait for what the last transition must not leave behind: rows that have no place in the log yet."""
        if self.rows is not None:
            await self.rows.ready()

    def _take(self, sessions: tuple[SessionAppend, ...] = ()) -> tuple[Writes, tuple[EventRow, ...]]:
        rows = self.rows.take() if self.rows is not None else ()
        writes = Writes(
            journal=tuple(self._journal),
            sessions=sessions,
            events=rows,
            steps=tuple(self._steps),
            consumed=tuple(self._consumed),
        )
        self._journal, self._steps, self._consumed = [], [], []
        return writes, rows

    def _begin(self, rows: tuple[EventRow, ...], transition: Callable[[], Awaitable[T]]) -> asyncio.Future[T]:
        """Queue a transition. A cancelled await does not take it back."""
        written: asyncio.Future[T]
        if self._failure is None:
            written = asyncio.ensure_future(transition())
        else:
            written = asyncio.get_running_loop().create_future()
            written.set_exception(self._failure)
        written.add_done_callback(self._heard)
        if rows and self.rows is not None:
            self.rows.sent(written)
        return written

    def _heard(self, written: asyncio.Future[T]) -> None:
        _seen(written)
        if not written.cancelled() and self._failure is None:
            self._failure = written.exception()


def _seen(written: asyncio.Future[T]) -> None:
    """Look at how a write went, or asyncio would complain where nobody awaits it."""
    if not written.cancelled():
        written.exception()

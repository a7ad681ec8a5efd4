"""One thread that writes to a database, and commits together what was asked for while it was committing.

A durable commit costs an fsync, whatever it holds. Work submitted while a commit runs waits in a queue and becomes
the next transaction as a whole, so one fsync serves all of it; a lone write waits for exactly one (DUR-41). After a
commit that served several, the next one begins when those who waited for it have had their turn: what they write next
would otherwise be split over two, the first of them for whoever comes first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from flue.stores.connection import Connection

T = TypeVar("T")
logger = logging.getLogger("flue")


Work = Callable[[Connection], T]

Verdict = Literal["each_alone", "keep", "reopen", "retry", "retry_reopened"]
"""What to do after a transaction failed as a whole: try each piece of work in a transaction of its own (one may be
too large for a disk that is nearly full), fail it all and keep the connection, or also open a new connection. The
last two try the transaction again (two that waited for each other; a connection that was lost before the commit), on
the same or on a new connection, a few times; then they fail it all."""

_TRIES = 6
_TURNS = 8
"""Rounds of the event loop in which whoever waited goes on to what it writes next, or sends its answer."""
_PATIENCE = 0.005
"""Seconds to wait for those rounds at most, or as long as the commit took: anything may keep a loop busy. Within these
it would not let this thread go on either (`sys.getswitchinterval`)."""
_RETRIED = ("retry", "retry_reopened")


@dataclass(slots=True, eq=False)
class _Job:
    work: Work[Any] | None
    touches: Collection[str]
    after: Callable[[], None] | None
    order: str
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None


class GroupCommit:
    """The writer thread of one database.

    `connect` opens the connection, in the writer thread, when work first arrives and again after a failure that
    makes the old one doubtful; `judge` gives the verdict on a failed transaction; `explain` turns what went wrong
    into the error that awaiters get; `closed` makes the error for work submitted after `aclose()`. With `in_order`
    the work of a transaction is sorted by its `order`, work without one last: where several transactions run at once,
    that keeps them from locking the same rows in different orders.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        *,
        judge: Callable[[Exception], Verdict],
        explain: Callable[[Exception], Exception],
        closed: Callable[[], Exception],
        name: str,
        in_order: bool = False,
    ) -> None:
        self._connect = connect
        self._judge = judge
        self._explain = explain
        self._closed = closed
        self._name = name
        self._in_order = in_order
        self._connection: Connection | None = None
        self._wake = threading.Condition()
        self._queue: list[_Job] = []
        self._undone = 0
        self._touched: Counter[str] = Counter()
        self._closing = False
        self._thread: threading.Thread | None = None

    def submit(
        self,
        work: Work[T],
        *,
        touches: Collection[str] = (),
        after: Callable[[], None] | None = None,
        order: str = "",
    ) -> asyncio.Future[T]:
        """Queue `work`, to be called with the connection inside a transaction of the writer thread.

        The future gives what `work` returned once its transaction is durable, or raises what `work` raised (its
        own changes are then undone, its neighbours' are not) or why the transaction failed. Work runs in the order
        of submission and may run twice when a first transaction failed, so it must depend on the database alone.
        Cancelling the future does not take the work back. `touches` names what is written, for `pending`; `after` is
        called in the writer thread once the work is durable.
        """
        return self._enqueue(work, touches, after, order)

    def settled(self) -> asyncio.Future[None]:
        """Return a future that is done once all work submitted so far has been committed or has failed.

        It opens the database when that has not happened yet, and raises when it cannot be opened.
        """
        return self._enqueue(None, (), None, "")

    def pending(self, name: str | None = None) -> bool:
        """Say whether work that touches `name` (None: any work) is queued or not yet committed."""
        with self._wake:
            return self._undone > 0 if name is None else name in self._touched

    async def aclose(self) -> None:
        """Commit what is queued, close the connection and end the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def _enqueue(
        self, work: Work[Any] | None, touches: Collection[str], after: Callable[[], None] | None, order: str
    ) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        job = _Job(work, touches, after, order, loop, loop.create_future())
        with self._wake:
            if self._closing:
                job.future.set_exception(self._closed())
                return job.future
            try:
                self._start()
            except RuntimeError as error:  # a process may have all the threads that it may
                job.future.set_exception(self._explain(error))
                return job.future
            self._queue.append(job)
            self._undone += 1
            self._touched.update(touches)
            self._wake.notify()
        return job.future

    def _start(self) -> None:
        if self._thread is None:
            # A daemon, because a forgotten store must not keep the process alive: nobody has been told that what is
            # still queued is durable.
            thread = threading.Thread(target=self._write, name=self._name, daemon=True)
            thread.start()
            self._thread = thread

    # ------------------------------------------------------------------------------------ in the writer thread

    def _write(self) -> None:
        while batch := self._next_batch():
            began = time.monotonic()
            self._commit(batch)
            patience = max(time.monotonic() - began, _PATIENCE)
            with self._wake:
                self._done(batch)
            for had_turn in self._deliver(batch):
                had_turn.wait(patience)
        self._disconnect()

    def _next_batch(self) -> Sequence[_Job]:
        with self._wake:
            while not self._queue and not self._closing:
                self._wake.wait()
            batch, self._queue = self._queue, []
        if self._in_order:
            batch.sort(key=lambda job: (not job.order, job.order))
        return batch

    def _done(self, batch: Sequence[_Job]) -> None:
        self._undone -= len(batch)
        for job in batch:
            for name in job.touches:
                self._touched[name] -= 1
                if not self._touched[name]:
                    del self._touched[name]

    def _commit(self, batch: Sequence[_Job]) -> None:
        for tries_left in reversed(range(_TRIES)):
            try:
                if self._connection is None:
                    self._connection = self._connect()
                together = tries_left == _TRIES - 1
                if not any(job.work for job in batch) or self._transact(self._connection, batch, together=together):
                    return
            except Exception as error:  # noqa: BLE001  (the thread must outlive whatever work or a broken disk does)
                verdict = self._judge(error)
                if verdict in ("reopen", "retry_reopened"):
                    self._disconnect()
                if verdict in _RETRIED and tries_left:
                    continue
                if verdict == "each_alone" and len(batch) > 1:
                    for job in batch:
                        self._commit([job])
                    return
                for job in batch:
                    job.error = error
                return

    def _transact(self, connection: Connection, batch: Sequence[_Job], *, together: bool) -> bool:
        """Commit a batch; False when one of those that ran together failed, which undoes them all."""
        connection.execute("BEGIN IMMEDIATE")
        try:
            for job in batch:
                if not self._run(connection, job, together=together):
                    return False
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(Exception):  # some failures have rolled back already
                connection.execute("ROLLBACK")
            raise
        return True

    def _run(self, connection: Connection, job: _Job, *, together: bool) -> bool:
        """Run work. What fails is undone: with the whole transaction when it runs `together` with others, else alone.

        As a rule nothing fails, and a savepoint for each piece of work would cost as much as two more statements.
        """
        job.error = None
        if job.work is None:
            return True
        if not together:
            connection.execute("SAVEPOINT job")
        try:
            job.result = job.work(connection)
        except Exception as error:
            if self._judge(error) in _RETRIED:
                raise
            try:
                connection.execute("ROLLBACK" if together else "ROLLBACK TO job")
            except Exception:  # noqa: BLE001  (the whole transaction is gone, and `error` is why)
                raise error from None
            if together:
                return False
            job.error = error
        if not together:
            connection.execute("RELEASE job")
        return True

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):  # it is given up either way
                connection.close()

    def _deliver(self, batch: Sequence[_Job]) -> list[threading.Event]:
        """Tell who waits. Return what is set when they have had their turn, for each loop in which several waited."""
        by_loop: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
        for job in batch:
            if job.error is not None:
                job.error = self._explain(job.error)
            elif job.after is not None:
                try:
                    job.after()
                except Exception:  # it is durable, and whoever waits is to hear so
                    logger.exception("What follows a commit failed.")
            by_loop.setdefault(job.loop, []).append(job)
        turns = []
        for loop, jobs in by_loop.items():
            had_turn = threading.Event()
            # One wake-up a batch, not one a job. A loop that has been closed has nobody waiting.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle, jobs, had_turn)
                if len(jobs) > 1:
                    turns.append(had_turn)
        return turns


def _settle(jobs: Sequence[_Job], had_turn: threading.Event) -> None:
    for job in jobs:
        if job.future.done():  # its awaiter was cancelled
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.result)
    if len(jobs) > 1:
        _take_turns(jobs[0].loop, _TURNS, had_turn)


def _take_turns(loop: asyncio.AbstractEventLoop, left: int, had_turn: threading.Event) -> None:
    if left:
        loop.call_soon(_take_turns, loop, left - 1, had_turn)
    else:
        had_turn.set()

"""Threads that read a database, each what was asked for in one round of the event loop, in one transaction.

To hand a query to a thread and back takes longer than most queries do, above all while the event loop is busy: the
thread waits for the interpreter after each statement. Many who ask at once, as when a thousand sessions are taken up
again, share that, and those of them who ask the same share its statements; whoever asks alone waits no longer than for
a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from flue.stores.sql.transaction import Query, Transaction

T = TypeVar("T")
K = TypeVar("K")
C = TypeVar("C", bound="_Connection")

_TOGETHER = 64
"""Queries that one thread runs in one transaction: the rest is for other threads."""
_TRIES = 3


class _Connection(Protocol):
    def close(self) -> None: ...


@dataclass(slots=True, eq=False)
class _Read:
    query: Query[Any, Any]
    item: Any
    future: asyncio.Future[Any]
    alone: bool = False
    result: Any = None
    error: Exception | None = None


class Readers(Generic[C]):
    """Up to `threads` threads with a connection each.

    `connect` opens a connection, in a thread; `transaction` is one on it that sees the same commits throughout.
    `explain` turns what went wrong into the error that awaiters get. An error of which `is_lost` says that the
    connection is gone is met by reading again over another one, a few times.
    """

    def __init__(
        self,
        connect: Callable[[], C],
        transaction: Callable[[C], AbstractContextManager[Transaction]],
        *,
        threads: int,
        explain: Callable[[Exception], Exception],
        is_lost: Callable[[Exception], bool] = lambda _: False,
    ) -> None:
        self._connect = connect
        self._transaction = transaction
        self._explain = explain
        self._is_lost = is_lost
        self._idle: list[C] = []
        self._threads = ThreadPoolExecutor(threads, "flue-store-read")
        self._asked: dict[asyncio.AbstractEventLoop, dict[Query[Any, Any], list[_Read]]] = {}

    def read(self, query: Query[K, T], item: K) -> Awaitable[T]:
        """Run a query at the end of this round of the event loop, with others that ask the same.

        Raises what it raised, explained; what is wrong with another's item concerns nobody else.
        """
        loop = asyncio.get_running_loop()
        read = _Read(query, item, loop.create_future())
        if loop not in self._asked:
            self._asked[loop] = {}
            loop.call_soon(self._hand_over, loop)
        self._asked[loop].setdefault(query, []).append(read)
        return read.future

    async def aclose(self) -> None:
        """Finish what was asked for and close the connections. Nothing may be asked for any more."""
        for loop in tuple(self._asked):
            self._hand_over(loop)
        await asyncio.to_thread(self._threads.shutdown)
        while self._idle:
            _close(self._idle.pop())

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        reads = [read for same in self._asked.pop(loop, {}).values() for read in same]
        for at in range(0, len(reads), _TOGETHER):
            together = reads[at : at + _TOGETHER]
            try:
                self._threads.submit(self._serve, loop, together)
            except RuntimeError as error:  # a process may have all the threads that it may
                for read in together:
                    read.error = self._explain(error)
                _settle(together)

    # ------------------------------------------------------------------------------------------- in a thread

    def _serve(self, loop: asyncio.AbstractEventLoop, reads: Sequence[_Read]) -> None:
        left, tries = deque(reads), _TRIES
        while left:
            tries -= self._work_off(left, again=tries > 1)
        with contextlib.suppress(RuntimeError):  # the loop has been closed: nobody waits
            loop.call_soon_threadsafe(_settle, reads)

    def _work_off(self, left: deque[_Read], *, again: bool) -> bool:
        """Read until all is done or something fails; say whether that was a connection which another may replace."""
        connection, running = None, False
        try:
            connection = (self._take_idle() if again else None) or self._connect()
            with self._transaction(connection) as transaction:
                running = True
                while left:
                    same = _next(left)
                    results = same[0].query(transaction, [read.item for read in same])
                    for read, result in zip(same, results, strict=True):
                        read.result = result
                        left.popleft()
        except Exception as error:  # noqa: BLE001 - whoever asked raises it, explained
            if connection is not None:
                _close(connection)
            if again and self._is_lost(error):
                return True
            # What was read before is as good as ever; without a transaction nothing can be read.
            failed = _next(left) if running else tuple(left)
            if running and len(failed) > 1:
                for read in failed:
                    read.alone = True
                return False
            for read in failed:
                read.error = self._explain(error)
                left.popleft()
            return False
        self._idle.append(connection)
        return False

    def _take_idle(self) -> C | None:
        try:
            return self._idle.pop()
        except IndexError:  # not looked at before: another thread may come in between
            return None


def _next(left: Iterable[_Read]) -> list[_Read]:
    """Return the reads at the front that ask the same, or one that is to be asked alone."""
    same: list[_Read] = []
    for read in left:
        if same and (read.alone or read.query is not same[0].query):
            break
        same.append(read)
    return same


def _close(connection: _Connection) -> None:
    with contextlib.suppress(Exception):  # it is given up either way
        connection.close()


def _settle(reads: Sequence[_Read]) -> None:
    for read in reads:
        if read.future.done():  # its awaiter was cancelled
            continue
        if read.error is not None:
            read.future.set_exception(read.error)
        else:
            read.future.set_result(read.result)

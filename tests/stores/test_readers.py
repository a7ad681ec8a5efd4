"""Reads that are asked for at once share a thread and a transaction, and nothing else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, SupportsIndex, TypeVar, cast

import pytest

from flue.stores.readers import Readers
from flue.stores.sql.transaction import SQLITE, Transaction

T = TypeVar("T")


class LostError(Exception):
    """The connection is gone."""


class Connection:
    """Counts transactions."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def close(self) -> None:
        self.log.append("close")


class Database:
    """Opens connections, of which `broken` says which, counting from 1, can do nothing."""

    def __init__(self, broken: tuple[int, ...] = ()) -> None:
        self.log: list[str] = []
        self.opened = 0
        self._broken = broken

    def connect(self) -> Connection:
        self.opened += 1
        if self.opened in self._broken:
            raise ConnectionError("nobody there")
        return Connection(self.log)

    @contextmanager
    def transaction(self, connection: Connection) -> Iterator[Transaction]:
        self.log.append("begin")
        yield Transaction(cast("Any", connection), SQLITE)
        self.log.append("commit")


@asynccontextmanager
async def readers(database: Database, *, threads: int = 1) -> AsyncIterator[Readers[Connection]]:
    opened = Readers(
        database.connect,
        database.transaction,
        threads=threads,
        explain=lambda error: ValueError(str(error)),
        is_lost=lambda error: isinstance(error, LostError),
    )
    try:
        yield opened
    finally:
        await opened.aclose()


def ask(readers: Readers[Connection], query: Callable[[], T]) -> Awaitable[T]:
    """Ask for something that nobody else asks for."""
    return readers.read(lambda _, items: [query() for _ in items], None)


def giving(value: T) -> Callable[[], T]:
    return lambda: value


def raising(*errors: Exception) -> Callable[[], int]:
    """Return a query that fails so often, and then gives its number of attempts."""
    left = list(errors)

    def query() -> int:
        if left:
            raise left.pop(0)
        return len(errors) + 1

    return query


class Doubles:
    """A query for the double of each of several numbers, of which some make it fail; `asked` is what it was given."""

    def __init__(self, *failing: int) -> None:
        self.asked: list[list[int]] = []
        self._failing = failing

    def __call__(self, _: Transaction, numbers: Sequence[int]) -> list[int]:
        self.asked.append(list(numbers))
        for number in numbers:
            if number in self._failing:
                raise KeyError(number)
        return [2 * number for number in numbers]


async def test_what_is_asked_for_at_once_is_read_in_one_transaction() -> None:
    """And what is asked for later in another, on the same connection."""
    database = Database()
    async with readers(database) as opened:
        assert await asyncio.gather(*(ask(opened, giving(n)) for n in range(50))) == list(range(50))
        assert await ask(opened, giving("later")) == "later"
    assert (database.log, database.opened) == (["begin", "commit", "begin", "commit", "close"], 1)


async def test_who_ask_the_same_at_once_are_asked_for_together() -> None:
    """Each gets what it asked for, also when others ask something else in between; later ones are another question."""
    doubles, others = Doubles(), Doubles()
    async with readers(Database()) as opened:
        queries = [(others if n % 3 else doubles, n) for n in range(9)]
        assert await asyncio.gather(*(opened.read(*query) for query in queries)) == [2 * n for n in range(9)]
        assert await opened.read(doubles, 9) == 18
    assert doubles.asked == [[0, 3, 6], [9]]
    assert others.asked == [[1, 2, 4, 5, 7, 8]]


async def test_what_is_wrong_with_one_question_concerns_nobody_who_asks_the_same() -> None:
    """They are asked one by one then."""
    doubles = Doubles(3)
    async with readers(Database()) as opened:
        asked = [opened.read(doubles, n) for n in (1, 3, 5)]
        results = await asyncio.gather(*asked, ask(opened, giving(7)), return_exceptions=True)
    assert [results[0], repr(results[1]), *results[2:]] == [2, "ValueError('3')", 10, 7]
    assert doubles.asked == [[1, 3, 5], [1], [3], [5]]


async def test_who_ask_the_same_hear_of_a_lost_connection_only_when_all_are_lost() -> None:
    """Asking each alone would not help."""
    left = [LostError(), LostError()]

    def query(_: Transaction, items: Sequence[int]) -> Sequence[int]:
        if left:
            raise left.pop()
        return items

    database = Database()
    async with readers(database) as opened:
        assert await asyncio.gather(*(opened.read(query, n) for n in range(3))) == [0, 1, 2]
    assert database.opened == 3


async def test_a_read_that_fails_fails_alone() -> None:
    """The others are read over another connection, as this one may be in any state."""
    database = Database()
    async with readers(database) as opened:
        results = await asyncio.gather(
            ask(opened, giving(1)),
            ask(opened, raising(KeyError("x"))),
            ask(opened, giving(3)),
            return_exceptions=True,
        )
    assert (results[0], repr(results[1]), results[2]) == (1, "ValueError(\"'x'\")", 3)
    assert database.opened == 2


async def test_over_a_lost_connection_nothing_is_lost() -> None:
    """A few times; then whoever asked hears of it."""
    database = Database()
    async with readers(database) as opened:
        first, second = await asyncio.gather(ask(opened, giving(1)), ask(opened, raising(LostError())))
        assert (first, second) == (1, 2)
        with pytest.raises(ValueError, match="gone for good"):
            await ask(opened, raising(*[LostError("gone for good")] * 3))


async def test_without_a_connection_everything_that_was_asked_for_fails_at_once() -> None:
    """One attempt stands for all, and the next one is made when somebody asks again."""
    database = Database(broken=(1,))
    async with readers(database) as opened:
        results = await asyncio.gather(*(ask(opened, giving(1)) for _ in range(5)), return_exceptions=True)
        assert [str(result) for result in results] == ["nobody there"] * 5
        assert await ask(opened, giving(1)) == 1
    assert database.opened == 2


async def test_closing_waits_for_what_was_asked_for() -> None:
    """Also when it was asked for in the same breath."""
    async with readers(Database()) as opened:
        asked = ask(opened, giving(1))
    assert await asked == 1


async def test_two_threads_that_see_the_same_idle_connection_take_one_each() -> None:
    """And the other opens another."""
    both = threading.Barrier(2)

    class Idle(list[Connection]):
        """Both look whether there is one before either takes it, and both do that before it is back."""

        def __bool__(self) -> bool:
            some = len(self) > 0
            both.wait(5)
            return some

        def pop(self, at: SupportsIndex = -1) -> Connection:
            try:
                return super().pop(at)
            finally:
                both.wait(5)

    database = Database()
    async with readers(database, threads=2) as opened:
        assert await ask(opened, giving(1)) == 1
        opened._idle = Idle(opened._idle)
        queries = [giving(n) for n in range(65)]  # one more than one thread runs
        assert await asyncio.gather(*(ask(opened, query) for query in queries)) == list(range(65))
        opened._idle = list(opened._idle)


async def test_without_a_thread_a_read_fails_and_a_later_one_gets_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async with readers(Database(), threads=2) as opened, asyncio.timeout(5):
        with monkeypatch.context() as full:
            full.setattr(threading.Thread, "start", fail)
            results = await asyncio.gather(*(ask(opened, giving(n)) for n in range(65)), return_exceptions=True)
        assert {repr(result) for result in results} == {'ValueError("can\'t start new thread")'}
        assert await ask(opened, giving(1)) == 1

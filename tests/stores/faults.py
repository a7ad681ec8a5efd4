from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from flue.errors import DurabilityError
from tests.stores.dump import Dump

Before = Callable[[str], None]


class Watched:
    """A connection that calls `before` with every statement; what that raises, the statement raises."""

    def __init__(self, inner: sqlite3.Connection, before: Before) -> None:
        self._inner = inner
        self._before = before

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        self._before(sql)
        return self._inner.execute(sql, parameters)

    def executemany(self, sql: str, parameters: Any, /) -> sqlite3.Cursor:
        self._before(sql)
        return self._inner.executemany(sql, parameters)

    def close(self) -> None:
        self._inner.close()


def watching(before: Before) -> Callable[[str], Watched]:
    """Return a connection factory whose connections call `before` with every statement."""

    def connect(path: str) -> Watched:
        return Watched(sqlite3.connect(path, isolation_level=None, check_same_thread=False), before)

    return connect


def failure(code: int, text: str) -> sqlite3.OperationalError:
    """Return the error that sqlite3 raises for a result code."""
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


class Fault:
    """Makes the nth thing fail after `arm(n)`, counted from 0; with `lasting` all that follow as well."""

    def __init__(self, *, lasting: bool) -> None:
        self._lasting = lasting
        self._left: int | None = None
        self._met = False

    def arm(self, position: int) -> None:
        self._left, self._met = position, False

    def disarm(self) -> bool:
        """Say whether it has been met."""
        self._left = None
        return self._met

    def strikes(self) -> bool:
        """Count one more thing and say whether it fails."""
        if self._left is None:
            return False
        self._left -= 1
        strikes = self._left < 0 if self._lasting else self._left == -1
        self._met = self._met or strikes
        return strikes


class Faulty:
    """A store each of whose calls is made again and again, with the fault one place later, until it succeeds.

    A call that fails must say so with `code` and must have written nothing. A fault that a call got over hides the
    places behind it: the next pass begins there, until `places` has none left.
    """

    can_list = True

    def __init__(self, fault: Fault, code: str, places: dict[int, int], *, first: bool) -> None:
        self.store: Any = None
        self.failed = 0
        self.found: Callable[[], Dump] = dict
        self._fault = fault
        self._code = code
        self._places = places
        self._calls = 0
        self._else = 0 if first else 10**9

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def call(*arguments: Any, **options: Any) -> Any:
            number, self._calls = self._calls, self._calls + 1
            place = self._places.get(number, self._else)
            while True:
                before = self.found()
                self._fault.arm(place)
                try:
                    result = await getattr(self.store, name)(*arguments, **options)
                except DurabilityError as error:
                    failed_with = error.code
                else:
                    if self._fault.disarm():
                        self._places[number] = place + 1
                    else:
                        self._places.pop(number, None)
                    return result
                assert (self._fault.disarm(), failed_with) == (True, self._code), f"{name} at place {place}"
                assert self.found() == before, f"{name} failed at place {place} and wrote"
                self.failed += 1
                place += 1

        return call

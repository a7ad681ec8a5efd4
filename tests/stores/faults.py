from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

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

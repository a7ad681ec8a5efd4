"""A stand-in for `ctx.storage` of a Durable Object with SQLite.

It has the methods that Flue calls, and copies what surprises about them. Each fact was seen in workerd 2026-11-17 with
compatibility date 2026-09-08 (`tests/cloudflare/workerd` asks it again), or is documented in
https://developers.cloudflare.com/durable-objects/api/sql-storage/ and .../platform/limits/ (marked "docs"):

- every number binds as REAL, `true` as the text "true", `undefined` and NaN as NULL, a BigInt throws a TypeError;
- a number in a TEXT column becomes "3.0"; in an INTEGER column, and compared with one, it is the integer;
- integers come back as JavaScript numbers, rounded above 2^53;
- at most 100 parameters, 100 kB of SQL, expressions 100 deep; a value or a row has 2 MB at most (docs; workerd alone
  allows more);
- of several statements in one call only the last may have parameters;
- BEGIN, COMMIT, ROLLBACK, SAVEPOINT and RELEASE are refused, as are most pragmas, ATTACH, and tables `_cf_…`;
- an error's text ends with the name of SQLite's code;
- `rowsWritten` counts entries of indexes, too, and is above 0 for INSERT … ON CONFLICT DO NOTHING that inserted nothing
  into a table with AUTOINCREMENT;
- `transactionSync` may be nested, and rolls back whatever the callback throws;
- the alarm is a row of the same database: it is rolled back with the rest. A time in the past becomes now, one that is
  not above 0, or after 2189, is a rejected promise. While the handler runs, `getAlarm` is null until `setAlarm` is
  called; when it ends well, and `setAlarm` was not called, the alarm is gone.

What it leaves out: cursors are read at once, not row by row; `transaction` with a promise; point-in-time recovery.
"""

# ruff: noqa: N802  (the names are JavaScript's)

from __future__ import annotations

import re
import sqlite3
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from tests.cloudflare.standin.js_values import JsArray, JsError, JsObject, Promise, from_js, jsnull, to_js

LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 2_000_000,
    sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER: 100,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 100_000,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 100,
}
YEAR_2189 = 6_911_222_400_000
PRAGMAS = {"table_info", "table_list", "index_list", "foreign_keys", "defer_foreign_keys", "optimize", "quick_check"}
_TRANSACTION = re.compile(r"\s*(BEGIN|COMMIT|END|ROLLBACK|SAVEPOINT|RELEASE)\b", re.IGNORECASE)


class Evicted(BaseException):
    """Raised by everything that an isolate still does with its storage after it was evicted."""


class Disk:
    """The database of one object: what outlives its isolates. `path` None keeps it in memory."""

    def __init__(self, path: Path | None = None) -> None:
        self.watch: Callable[[int | None], None] = lambda _: None
        """Called with the time of the alarm when a commit has set it, also to the time that it had, or deleted it."""
        self.inner = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self.inner.close)  # worlds end without a word, and Python 3.13 minds open databases
        for limit, value in LIMITS.items():
            self.inner.setlimit(limit, value)
        self.inner.execute("CREATE TABLE IF NOT EXISTS _cf_METADATA (key INTEGER PRIMARY KEY, value INTEGER)")
        self._restricted = False
        # Once, as SQLite compiles every statement anew for another one. Compiled statements are kept by their text, so
        # those of this class end in a comment: an object that asks for the same is still refused.
        self.inner.set_authorizer(self._authorize)

    @property
    def alarm(self) -> int | None:
        """Return the time that the alarm is set to, whoever asks."""
        row = self.inner.execute("SELECT value FROM _cf_METADATA WHERE key = 1 -- own").fetchone()
        return None if row is None else row[0]

    @alarm.setter
    def alarm(self, at: int | None) -> None:
        self.inner.execute("DELETE FROM _cf_METADATA WHERE key = 1 -- own")
        if at is not None:
            self.inner.execute("INSERT INTO _cf_METADATA VALUES (1, ?) -- own", (at,))

    def save(self) -> bytes:
        """Return everything that is committed, for `load`."""
        return self.inner.serialize()

    def load(self, saved: bytes) -> None:
        """Go back to what `save` returned."""
        self.inner.deserialize(saved)

    def close(self) -> None:
        """Delete a database that was in memory, and let go of one in a file."""
        self.inner.close()

    @contextmanager
    def restricted(self) -> Iterator[None]:
        """Refuse what the platform does not allow an object to ask for."""
        self._restricted = True
        try:
            yield
        finally:
            self._restricted = False

    def _authorize(self, action: int, first: str | None, second: str | None, *_: str | None) -> int:
        if not self._restricted:
            return sqlite3.SQLITE_OK
        names = (first or "", second or "")
        if action in (sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH):
            return sqlite3.SQLITE_DENY
        if action == sqlite3.SQLITE_PRAGMA and names[0] not in PRAGMAS:
            return sqlite3.SQLITE_DENY
        if action != sqlite3.SQLITE_FUNCTION and any(name.startswith("_cf_") for name in names):
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK


class Storage:
    """`ctx.storage` of one isolate.

    `now` gives the time in milliseconds. `before` is called with each statement, with "BEGIN" and "COMMIT" of
    `transactionSync` and with "ALARM" before the alarm is set or deleted; what it raises, the call raises, and after
    `Evicted` the isolate is gone.
    """

    def __init__(self, disk: Disk, *, now: Callable[[], int], before: Callable[[str], None] = lambda _: None) -> None:
        self.disk = disk
        self.sql = SqlStorage(self)
        self._now = now
        self._before = before
        self._alive = True
        self._open: list[str] = []
        self._alarm_written = False
        self._delete_later = False

    def evict(self) -> Storage:
        """End this isolate; return the storage of the next one, with the same data."""
        self.end()
        return Storage(self.disk, now=self._now, before=self._before)

    def end(self) -> None:
        """End this isolate: what it had not committed is gone, and whatever it still tries raises `Evicted`."""
        self._alive = False
        if self._open:
            with suppress(sqlite3.Error):
                self.disk.inner.execute("ROLLBACK")
            self._open.clear()

    # ------------------------------------------------------------------------------------------ transactions

    def transactionSync(self, closure: Callable[[], Any]) -> Any:
        """Run a function; what it wrote is there as a whole, or not at all when it throws."""
        name = f"_cf_savepoint_{len(self._open)}"
        self.meet("BEGIN")
        self.disk.inner.execute(f"SAVEPOINT {name}")
        self._open.append(name)
        before = self._delete_later, self._alarm_written
        try:
            result = closure()
            self.meet("COMMIT")
        except BaseException:
            if self._alive:
                self.disk.inner.execute(f"ROLLBACK TO {name}")
                self.disk.inner.execute(f"RELEASE {name}")
                self._open.pop()
                self._delete_later, self._alarm_written = before
            raise
        self.disk.inner.execute(f"RELEASE {name}")
        self._open.pop()
        self._tell()
        return result

    def meet(self, statement: str) -> None:
        """Be about to do something: an isolate that is gone cannot, and a test may see to it that this one goes."""
        if not self._alive:
            raise Evicted
        try:
            self._before(statement)
        except Evicted:
            self.end()
            raise

    # ------------------------------------------------------------------------------------------------ alarms

    def getAlarm(self) -> Promise:
        """Return the time of the alarm."""
        self.meet("")
        at = None if self._delete_later else self.disk.alarm
        return Promise(jsnull if at is None else at)

    def setAlarm(self, at: float) -> Promise:
        """Set the alarm, a time in milliseconds."""
        self.meet("ALARM")
        time = to_js(at)
        if not isinstance(time, float):
            return Promise(error=JsError("parameter 1 is not of type 'date'.", "TypeError"))
        if time <= 0:
            return Promise(error=JsError("setAlarm() cannot be called with an alarm time <= 0", "TypeError"))
        if time > YEAR_2189:
            return Promise(error=JsError("This API doesn't support dates after 2189.", "TypeError"))
        self._write_alarm(max(int(time), self._now()))
        return Promise()

    def deleteAlarm(self) -> Promise:
        """Delete the alarm."""
        self.meet("ALARM")
        self._write_alarm(None)
        return Promise()

    @contextmanager
    def handling(self) -> Iterator[None]:
        """Be the runtime that calls the handler of the alarm. One that raises is called again: its alarm stays."""
        self._delete_later = True
        yield
        if self._delete_later and self._alive:
            self._write_alarm(None)
        self._delete_later = False

    def _write_alarm(self, at: int | None) -> None:
        self.disk.alarm = at
        self._delete_later = False
        self._alarm_written = True
        self._tell()

    def _tell(self) -> None:
        if self._alarm_written and not self._open:
            self._alarm_written = False
            self.disk.watch(self.disk.alarm)


class SqlStorage:
    """`ctx.storage.sql`."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._connection = storage.disk.inner

    @property
    def databaseSize(self) -> int:
        """Return the size in bytes."""
        pages, size = (self._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
        return int(pages * size)

    def exec(self, query: str, *bindings: Any) -> Cursor:
        """Run one or several statements; return what the last one gives."""
        self._storage.meet(query)
        statements = _split(query)
        if not statements:
            raise JsError("SQL code did not contain a statement.")
        for statement in statements[:-1]:
            try:
                self._run(statement, ())
            except JsError as error:
                if "parameter bindings" not in error.message:
                    raise
                message = "When executing multiple SQL statements in a single call, only the last can have parameters."
                raise JsError(message) from error
        return self._run(statements[-1], tuple(_bound(to_js(value)) for value in bindings))

    def _run(self, statement: str, parameters: tuple[Any, ...]) -> Cursor:
        if _TRANSACTION.match(statement):
            raise JsError("To execute a transaction, please use the state.storage.transaction() API.")
        before = self._connection.total_changes
        try:
            with self._storage.disk.restricted():
                found = self._connection.execute(statement, parameters)
                rows = found.fetchall()
        except sqlite3.ProgrammingError as error:
            raise JsError("Wrong number of parameter bindings for SQL query.") from error
        except (sqlite3.Error, UnicodeEncodeError) as error:
            name = getattr(error, "sqlite_errorname", "") or _NAMES.get(str(error), "SQLITE_ERROR")
            raise JsError(f"{error}: {name}") from error
        names = [column[0] for column in found.description or ()]
        return Cursor(names, rows, self._connection.total_changes - before)


class Cursor:
    """What a query gives, as objects or, through `raw`, as arrays."""

    def __init__(self, names: list[str], rows: list[tuple[Any, ...]], changes: int) -> None:
        self.columnNames = JsArray(names)
        self.rowsRead = len(rows)
        # So that what takes it for a number of rows, or for a sign that there were any, is found out.
        self.rowsWritten = 2 * changes + 1
        self._names = names
        self._rows = iter(rows)

    def next(self) -> JsObject:
        """Return the next row as `{done, value}`."""
        row = next(self._rows, None)
        return JsObject({"done": True} if row is None else {"done": False, "value": self._object(row)})

    def toArray(self) -> JsArray:
        """Return the rows that are left; of columns with one name the last counts."""
        return JsArray([self._object(row) for row in self._rows])

    def one(self) -> JsObject:
        """Return the only row."""
        rows = list(self)
        if len(rows) != 1:
            found = "multiple results" if rows else "no results"
            raise JsError(f"Expected exactly one result from SQL query, but got {found}.")
        return rows[0]

    def raw(self) -> RawRows:
        """Return the rows that are left as arrays."""
        return RawRows(JsArray([from_js(value) for value in row]) for row in self._rows)

    def __iter__(self) -> Iterator[JsObject]:
        return (self._object(row) for row in self._rows)

    def _object(self, row: tuple[Any, ...]) -> JsObject:
        return JsObject({name: from_js(value) for name, value in zip(self._names, row, strict=True)})


class RawRows:
    """The iterator that `raw` returns."""

    def __init__(self, rows: Iterator[JsArray]) -> None:
        self._rows = rows

    def __iter__(self) -> Iterator[JsArray]:
        return self._rows

    def toArray(self) -> JsArray:
        """Return all rows."""
        return JsArray(list(self._rows))


# Errors that sqlite3 raises by itself have no code.
_NAMES = {"string or blob too big": "SQLITE_TOOBIG", "query string is too large": "SQLITE_TOOBIG"}
_COMMENT = re.compile(r"(\s|;|--[^\n]*)*")


def _bound(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise AssertionError(f"the binding would store replacement characters for {value[:80]!r}") from error
        return value
    if value is None or isinstance(value, float):
        return value
    raise AssertionError(f"the binding would store the text of a proxy for {value!r}")


@lru_cache(maxsize=1024)
def _split(script: str) -> tuple[str, ...]:
    """Return the statements of a script."""
    statements, start = [], 0
    for end in (match.end() for match in re.finditer(";|$", script)):
        part = script[start:end]
        if end == len(script) or sqlite3.complete_statement(part):
            if not _COMMENT.fullmatch(part):
                statements.append(part)
            start = end
    return tuple(statements)

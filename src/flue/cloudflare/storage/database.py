"""A Durable Object's SQLite with the face that the SQL of stores expects, and what its errors mean.

The binding (https://developers.cloudflare.com/durable-objects/api/sql-storage/) is JavaScript's: every number is bound
as a REAL, a boolean as a text, and an integer of 2^53 and more not at all; JavaScript's null is not Python's None. The
columns of the SQL of stores are INTEGER or TEXT, whose affinity makes integers of whole numbers again, in comparisons
as well. Conversions are here and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

from flue.cloudflare.storage import long_texts
from flue.cloudflare.storage.statements import Statement, parse
from flue.errors import DurabilityError, FlueError
from flue.stores.failures import invalid_text

T = TypeVar("T")

# Pyodide makes a BigInt of integers above, which the binding refuses.
_LARGEST = 2**53 - 2


class Sql(Protocol):
    """`ctx.storage.sql`, as far as it is used."""

    def exec(self, query: str, /, *bindings: Any) -> Any:
        """Run statements, the last one with parameters; return a cursor over what it gives."""
        ...


class ObjectStorage(Protocol):
    """`ctx.storage` of a Durable Object with SQLite, as far as it is used."""

    @property
    def sql(self) -> Sql:
        """Return its database."""
        ...

    def transactionSync(self, closure: Callable[[], Any], /) -> Any:  # noqa: N802  (the name is JavaScript's)
        """Run a function in a transaction, which is rolled back when it throws."""
        ...

    def setAlarm(self, at: int, /) -> Any:  # noqa: N802
        """Set the alarm, part of the transaction that is open; return a promise that need not be awaited."""
        ...

    def deleteAlarm(self) -> Any:  # noqa: N802
        """Delete the alarm, part of the transaction that is open; return a promise that need not be awaited."""
        ...


class Rows:
    """What a statement gave: its rows, read at once."""

    __slots__ = ("_connection", "_count", "_rows")

    def __init__(self, connection: ObjectConnection, rows: Iterable[Any]) -> None:
        self._connection = connection
        self._rows = iter(rows)
        self._count: int | None = None

    @property
    def rowcount(self) -> int:
        """Return how many rows the statement changed; to be asked before the next one that writes."""
        if self._count is None:
            # Not the cursor's `rowsWritten`: that counts what is billed, entries of indexes as well, and a number that
            # AUTOINCREMENT gave to a row that was not inserted after all.
            self._count = self._connection.count_changes(self)
        return self._count

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        return next(self._rows, None)

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        return list(self._rows)


class ObjectConnection:
    """The `Connection` of stores over a Durable Object's database. `changed` are the tables a transaction wrote to."""

    def __init__(self, storage: ObjectStorage) -> None:
        self.changed: set[str] = set()
        self._storage = storage
        self._sql = storage.sql
        self._last_write: Rows | None = None

    def transact(self, work: Callable[[], T]) -> T:
        """Run a function in a transaction; what it raises is raised, and nothing of it is written."""
        results: list[T] = []
        self.changed.clear()
        # The result stays on this side: JavaScript would see a proxy of it.
        self._storage.transactionSync(lambda: results.append(work()))
        return results[0]

    def execute(self, sql: str, parameters: Any = (), /) -> Rows:
        """Run one statement."""
        statement = parse(sql)
        if not statement.writes:
            return Rows(self, self._query(statement.sql, parameters))
        return self._write(statement, parameters)

    def executemany(self, sql: str, parameters: Any, /) -> Rows:
        """Run one statement for each row of parameters, several in one call where that is possible."""
        statement, rows = parse(sql), list(parameters)
        if any(long_texts.is_long(row[place]) for row in rows for place in statement.long):
            for row in rows:
                self._write(statement, row)
            return Rows(self, ())
        self.changed.add(statement.writes)
        self._last_write = None
        for start in range(0, len(rows), statement.rows_at_once):
            part = rows[start : start + statement.rows_at_once]
            self._sql.exec(statement.inserting(len(part)), *(_bound(value) for row in part for value in row))
        return Rows(self, ())

    def fetch(self, sql: str, parameters: Sequence[Any] = (), /) -> list[Any]:
        """Run statements as they are, the last one with parameters, and return its rows as they are."""
        return _rows(self._sql.exec(sql, *map(_bound, parameters)))

    def count_changes(self, rows: Rows) -> int:
        """Return how many rows were changed by the statement that gave these, the last that was to change any."""
        assert rows is self._last_write, "another statement has written since"
        return int(self.fetch("SELECT changes()")[0][0])

    def close(self) -> None:
        """Do nothing: the database is the runtime's."""

    def _query(self, sql: str, parameters: Sequence[Any]) -> list[Any]:
        cursor = self._sql.exec(sql, *map(_bound, parameters))
        rows = _rows(cursor)
        if any(long_texts.is_reference(value) for row in rows for value in row):
            columns = cursor.columnNames.to_py()
            rows = [long_texts.resolve(self, columns, row) for row in rows]
        return rows

    def _write(self, statement: Statement, parameters: Sequence[Any]) -> Rows:
        self.changed.add(statement.writes)
        values, references = list(parameters), []
        for place in statement.long:
            if long_texts.is_long(values[place]):
                values[place] = long_texts.keep(self, values[place])
                references.append(values[place])
        self._sql.exec(statement.sql, *map(_bound, values))
        done = self._last_write = Rows(self, ())
        if references and not done.rowcount:
            for reference in references:
                long_texts.drop(self, reference)
        return done


def _bound(value: Any) -> Any:
    """Return a value for the binding."""
    if isinstance(value, str):
        if not value.isascii():
            value.encode()  # half of a surrogate pair would be stored as a replacement character
        return value
    if isinstance(value, int):
        # As a text it becomes the same integer, in a column and compared with one.
        return int(value) if abs(value) <= _LARGEST else str(value)
    return value


def _rows(cursor: Any) -> list[Any]:
    """Return what is left of a cursor; arrays, because the columns of an object must have names of their own."""
    return [tuple(map(_read, row)) for row in cursor.raw().toArray().to_py()]


def _read(value: Any) -> Any:
    """Return a value from the binding."""
    if isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return int(value)  # there are no columns but of integers and texts; this one was above 2^53
    return None


# ---------------------------------------------------------------------------------------------------- failures

_MEANINGS = {
    "SQLITE_FULL": ("store_full", "is full", "It holds 10 GB at most. Let it keep less: [keep] in flue.toml."),
    "SQLITE_TOOBIG": (
        "store_too_big",
        "cannot hold a value this large",
        "Identifiers, keys and names must be short; keep large data in files.",
    ),
    "SQLITE_IOERR": ("store_io", "cannot be read or written", "Try again: the object starts anew."),
    "SQLITE_CORRUPT": ("store_corrupt", "is damaged", "Restore it to a point in time before that."),
}


def explain(error: Exception) -> Exception:
    """Return the `DurabilityError` that says what to do; Flue's own errors pass as they are."""
    if isinstance(error, FlueError):
        return error
    if isinstance(error, UnicodeEncodeError):
        explained = invalid_text("the object's database")
    else:
        # An error of JavaScript's, whose text ends with the name of SQLite's code.
        name = re.search(r"\bSQLITE_[A-Z]+", str(error))
        code, failed, hint = _MEANINGS.get(name[0] if name else "", ("store_error", "failed", ""))
        explained = DurabilityError(f"The object's database {failed}: {error}.", code=code, hint=hint)
    explained.__cause__ = error
    return explained

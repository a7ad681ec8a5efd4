"""What a transition needs of a database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from typing import Any, TypeVar

from flue.durable.records import Wake, WakeKind
from flue.stores.connection import Connection, Cursor

T = TypeVar("T")
K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Dialect:
    """Where databases differ.

    `row_locks`: several transactions write at once, so rows are locked where they are read. `homes`: work belongs to
    the owner that admitted it until that is gone; otherwise every owner takes what is there. `unites`: how many queries
    one statement may hold; each statement costs a round trip, or a wait for the interpreter.
    """

    row_locks: bool
    homes: bool
    unites: int


SQLITE = Dialect(row_locks=False, homes=True, unites=8)
POSTGRES = Dialect(row_locks=True, homes=False, unites=32)


@dataclass(slots=True)
class Transaction:
    """An open transaction; `?` stands for a parameter.

    Locks are taken in one order everywhere, so that no two transactions wait for each other: owner, receipt, lane,
    submission, session, stream.
    """

    connection: Connection
    dialect: Dialect
    wakes: list[Wake] = field(default_factory=list)

    @property
    def lock(self) -> str:
        """Return the clause that locks the submissions a query reads."""
        return " FOR UPDATE OF submissions" if self.dialect.row_locks else ""

    @property
    def lock_free(self) -> str:
        """Return the clause that locks the submissions a query reads and leaves out those locked by others."""
        return " FOR UPDATE OF submissions SKIP LOCKED" if self.dialect.row_locks else ""

    @property
    def lock_row(self) -> str:
        """Return the clause that locks what a query reads."""
        return " FOR UPDATE" if self.dialect.row_locks else ""

    @property
    def lock_against_deletion(self) -> str:
        """Return the clause that keeps what a query reads from being deleted; others may lock it so as well."""
        return " FOR KEY SHARE" if self.dialect.row_locks else ""

    def execute(self, sql: str, *parameters: Any) -> Cursor:
        """Run a statement."""
        return self.connection.execute(sql, parameters)

    def row(self, sql: str, *parameters: Any) -> Any:
        """Return the first row of a query, or None."""
        return self.connection.execute(sql, parameters).fetchone()

    def rows(self, sql: str, *parameters: Any) -> list[Any]:
        """Return all rows of a query."""
        return self.connection.execute(sql, parameters).fetchall()

    def rows_each(self, sql: str, parameters: Sequence[Sequence[Any]]) -> list[list[Any]]:
        """Return all rows of a query for each row of parameters, in any order; many are asked for at once."""
        found: list[list[Any]] = []
        while len(found) < len(parameters):
            some = parameters[len(found) :][: self.dialect.unites]
            some = some[: 1 << (len(some).bit_length() - 1)]  # few different statements, whose plans are kept
            answers: list[list[Any]] = [[] for _ in some]
            for place, *row in self.rows(_united(sql, len(some)), *chain.from_iterable(some)):
                answers[place].append(tuple(row))
            found += answers
        return found

    def insert(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement for each row of parameters."""
        if len(rows) == 1:
            self.connection.execute(sql, rows[0])
        elif rows:
            self.connection.executemany(sql, rows)

    def wake(self, kind: WakeKind, owner: str = "", key: str = "") -> None:
        """Tell listeners of a change once it is committed."""
        self.wakes.append(Wake(kind, owner, key))


Transition = Callable[[Transaction], T]
Query = Callable[[Transaction, Sequence[K]], Sequence[T]]
"""Returns what there is of each of several items."""


@cache
def _united(sql: str, count: int) -> str:
    return " UNION ALL ".join(f"SELECT {place}, found.* FROM ({sql}) AS found" for place in range(count))

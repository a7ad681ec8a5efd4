"""What the SQL of stores needs of a database driver."""

from __future__ import annotations

from typing import Any, Protocol


class Cursor(Protocol):
    """What a query gives."""

    @property
    def rowcount(self) -> int:
        """Return how many rows a statement changed."""
        ...

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        ...

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        ...


class Connection(Protocol):
    """The part of `sqlite3.Connection` that stores use, in autocommit mode; tests wrap it to inject faults."""

    def execute(self, sql: str, parameters: Any = ..., /) -> Cursor:
        """Run one statement."""
        ...

    def executemany(self, sql: str, parameters: Any, /) -> Cursor:
        """Run one statement for each row of parameters."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...

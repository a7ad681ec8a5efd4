"""Whether a transaction was committed whose answer never came.

Its number does not tell: of a transaction that had left nothing on disk when the database crashed, the number is given
to another one after that. So every transaction of a writer puts a mark of its own into the writer's row. When the
mark is there, so is the rest.
"""

from __future__ import annotations

import contextlib
import secrets
from typing import Any

from flue.stores.postgres_driver import psycopg

TABLE = """CREATE TABLE writers (
    writer TEXT COLLATE "C" PRIMARY KEY,
    mark BIGINT NOT NULL,
    used_at TIMESTAMPTZ NOT NULL DEFAULT now()
)"""

_MARK = (
    "INSERT INTO writers (writer, mark) VALUES (%s, %s)"
    " ON CONFLICT (writer) DO UPDATE SET mark = excluded.mark, used_at = excluded.used_at"
)
# Rows of processes that did not end in good order.
_CLEAR = "DELETE FROM writers WHERE used_at < now() - interval '30 days'"


class Marks:
    """The row of one writer, which several connections may use one after the other."""

    def __init__(self, writer: str) -> None:
        self._writer = writer
        self._mark = 0
        self._enrolled = False

    def enrol(self, connection: psycopg.Connection[Any]) -> None:
        """Make sure, outside of a transaction, that the row is there: what is not there cannot be waited for."""
        if not self._enrolled:
            connection.execute(_CLEAR)
            connection.execute(_MARK, [self._writer, 0])
            self._enrolled = True

    def put(self, connection: psycopg.Connection[Any]) -> None:
        """Put a new mark, as the first thing of a transaction."""
        self._mark = secrets.randbits(62)
        connection.execute(_MARK, [self._writer, self._mark])

    def is_there(self, connection: psycopg.Connection[Any], process: int) -> bool:
        """Say, over a new connection, whether the transaction that put the last mark was committed.

        `process` is the number of the server's process for the lost connection: it is ended, if it is still there.
        """
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid = %s AND pid <> pg_backend_pid() AND usename = current_user AND application_name = 'flue'",
            [process],
        )
        # A transaction that is still about to end has the row locked.
        row = connection.execute("SELECT mark FROM writers WHERE writer = %s FOR UPDATE", [self._writer]).fetchone()
        return row is not None and bool(row[0] == self._mark)

    def forget(self, connection: psycopg.Connection[Any]) -> None:
        """Delete the row, if the connection still allows that."""
        if self._enrolled:
            self._enrolled = False
            with contextlib.suppress(psycopg.Error):
                connection.execute("DELETE FROM writers WHERE writer = %s", [self._writer])

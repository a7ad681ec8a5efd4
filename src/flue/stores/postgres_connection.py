"""A connection to Postgres with the face that the SQL transitions expect, and what its errors mean."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

from flue.durable.records import Wake
from flue.errors import DurabilityError, FlueError, UsageError
from flue.stores import postgres_marks
from flue.stores.connection import Cursor
from flue.stores.failures import newer_format
from flue.stores.group_commit import Verdict
from flue.stores.postgres_channel import Channel
from flue.stores.postgres_driver import conninfo_to_dict, psycopg
from flue.stores.postgres_driver import errors as pg
from flue.stores.postgres_driver import sql as pg_sql
from flue.stores.postgres_marks import Marks
from flue.stores.postgres_text import escape, restore
from flue.stores.sql.schema import durable_tables

# Any number will do, as long as it is the same in every Flue and in nobody else's advisory locks.
_MIGRATION_LOCK = 0x466C7565

MIGRATIONS: tuple[Sequence[str], ...] = (
    (
        """CREATE TABLE sessions (
            number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            key TEXT COLLATE "C" NOT NULL UNIQUE,
            version BIGINT NOT NULL,
            entries BIGINT NOT NULL,
            leaf_id TEXT COLLATE "C",
            metadata TEXT NOT NULL,
            created_at TEXT NOT NULL,
            updated_at TEXT NOT NULL
        )""",
        """CREATE TABLE entries (
            session BIGINT NOT NULL,
            position BIGINT NOT NULL,
            id TEXT COLLATE "C" NOT NULL,
            body TEXT NOT NULL,
            PRIMARY KEY (session, position)
        )""",
        *durable_tables(
            serial="BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", integer="BIGINT", text='TEXT COLLATE "C"'
        ),
    ),
    (
        # A session that was written without them is read to its beginning, until it is written again.
        "ALTER TABLE sessions ADD COLUMN start BIGINT NOT NULL DEFAULT 0",
        "ALTER TABLE sessions ADD COLUMN usage TEXT",
    ),
    (postgres_marks.TABLE,),
)
"""What turns format n into format n+1; a new schema starts at format 0. Only ever add to the end."""


@cache
def _translate(sql: str) -> str:
    return sql.replace("%", "%%").replace("?", "%s")


class _Rows:
    """A cursor whose texts are as they were given, and whose result is waited for when it is looked at."""

    __slots__ = ("_connection", "_cursor")

    def __init__(self, connection: PostgresConnection, cursor: psycopg.Cursor[Any]) -> None:
        self._connection = connection
        self._cursor = cursor

    @property
    def rowcount(self) -> int:
        self._connection.wait()
        return self._cursor.rowcount

    def fetchone(self) -> Any:
        with self._connection.attributing():
            return restore(self._cursor.fetchone())

    def fetchall(self) -> list[Any]:
        with self._connection.attributing():
            return [restore(row) for row in self._cursor.fetchall()]


class PostgresConnection:
    """A connection in autocommit mode.

    Inside a transaction statements are sent without waiting for each other, up to one whose result is looked at; round
    trips are what a transaction takes its time for. An error may then belong to an earlier piece of work than the one
    that meets it, so the transaction is run again step by step.

    When it is lost while a commit is under way, the database is asked, over a new connection, what became of the
    transaction: a commit that has happened is reported as such, and only one that has not raises (DUR-15). `channel`
    and `writer`, its number on this node, name who uses it, and later ones after it.
    """

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]], channel: Channel, writer: int = 0) -> None:
        self._connect = connect
        self._channel = channel
        self._writer = writer
        self._raw = connect()
        self._marks = Marks(f"{channel.sender}-{writer}")
        self._wakes: dict[Wake, None] = {}
        self._sending = contextlib.ExitStack()
        self._pipeline: psycopg.Pipeline | None = None
        self._step_by_step = False

    def execute(self, sql: str, parameters: Any = (), /) -> Cursor:
        """Run one statement."""
        if sql == "BEGIN IMMEDIATE":
            return self._begin()
        if sql == "COMMIT":
            return self._commit()
        if sql == "ROLLBACK":
            self._stop_sending()
        values = [escape(value) for value in parameters] if parameters else None
        with self.attributing():
            return _Rows(self, self._raw.execute(_translate(sql), values))

    def executemany(self, sql: str, parameters: Any, /) -> Cursor:
        """Run one statement for each row of parameters, in one round trip."""
        cursor = self._raw.cursor()
        with self.attributing():
            cursor.executemany(_translate(sql), [[escape(value) for value in row] for row in parameters])
        return _Rows(self, cursor)

    def notify(self, wakes: Sequence[Wake]) -> None:
        """Tell other nodes when the transaction is committed."""
        self._wakes.update(dict.fromkeys(wakes))

    def close(self) -> None:
        """Close the connection."""
        self._stop_sending()
        self._marks.forget(self._raw)
        self._raw.close()

    def wait(self) -> None:
        """Wait for the results of everything that was sent."""
        if self._pipeline is not None:
            with self.attributing():
                self._pipeline.sync()

    @contextlib.contextmanager
    def attributing(self) -> Iterator[None]:
        """Raise `UnattributedError` for an error that may not be that of the statement at hand."""
        try:
            yield
        except psycopg.Error as error:
            if self._pipeline is None or is_lost(error) or isinstance(error, _RETRY):
                raise
            self._step_by_step = True
            raise UnattributedError from error

    def _begin(self) -> Cursor:
        self._wakes.clear()
        self._marks.enrol(self._raw)
        if not self._step_by_step:
            self._pipeline = self._sending.enter_context(self._raw.pipeline())
        self._step_by_step = False
        with self.attributing():
            cursor = self._raw.execute("BEGIN")
            self._marks.put(self._raw)
        return _Rows(self, cursor)

    def _stop_sending(self) -> None:
        with contextlib.suppress(psycopg.Error):  # the transaction is given up
            self._sending.close()
        self._pipeline = None

    def _commit(self) -> Cursor:
        if self._wakes:
            with self.attributing():
                self._channel.notify(self._raw, self._wakes, self._writer)
        self.wait()
        self._stop_sending()
        process = self._raw.info.backend_pid
        try:
            return _Rows(self, self._raw.execute("COMMIT"))
        except psycopg.OperationalError as error:
            if not is_lost(error):
                raise
            close_quietly(self._raw)
            if not self._has_committed(process):
                raise LostConnectionError from error
            return _Rows(self, self._raw.cursor())

    def _has_committed(self, process: int) -> bool:
        """Find out, over a new connection, what became of the last transaction."""
        while True:
            if self._raw.closed:
                self._raw = self._connect()
            try:
                return self._marks.is_there(self._raw, process)
            except psycopg.OperationalError as error:
                if not is_lost(error):
                    raise
                close_quietly(self._raw)  # lost again
            time.sleep(0.02)


class LostConnectionError(psycopg.OperationalError):
    """The connection was lost and what was under way has not been committed."""


class UnattributedError(psycopg.Error):
    """A statement of the transaction failed; which one is found out by running it again step by step."""


def check_url(url: str) -> None:
    """Raise `UsageError` for a URL that cannot work, before libpq does in words that repeat parts of the password.

    Without an escape, `/` and `@` in a password move the rest of it into the host, the port or the database's name.
    """
    what = ""
    if not url.startswith(("postgresql://", "postgres://")):
        what = "does not start with postgresql://"
    else:
        try:
            parts = conninfo_to_dict(url)
        except psycopg.Error:
            what = "cannot be read"
        else:
            port, host, name = (str(parts.get(part) or "") for part in ("port", "host", "dbname"))
            if not port.replace(",", "").isdecimal() and port:
                what = "has a port that is no number"
            elif "@" in host[1:] or "@" in name:
                what = "has more than one @"
    if what:
        raise UsageError(
            f"The URL of the Postgres database {what}.",
            code="invalid_store",
            hint="Write postgresql://user:password@host/database, with / @ : % in the password as %2F %40 %3A %25.",
        )


_PATIENCE: dict[str, Any] = {
    "application_name": "flue",
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 20_000,
}
"""A machine that is gone without a word, as after a failover, is noticed in 20 s, before the leases of nodes are over;
by itself TCP takes a quarter of an hour, and two hours where nothing is being written. In seconds, the last in ms
(postgresql.org/docs/current/libpq-connect.html). What the URL says counts more."""


def connect(
    url: str, schema: str, retry_for: float, *, closing: threading.Event | None = None
) -> psycopg.Connection[Any]:
    """Open a connection; while the database is not to be reached, try again for some seconds, or until `closing`.

    Raises `DurabilityError` (code `store_unreachable`) after that, and `psycopg.Error` for what trying again cannot
    help (a wrong password, a database that does not exist).
    """
    closing = closing or threading.Event()
    deadline, pause = time.monotonic() + retry_for, 0.05
    while True:
        try:
            connection = psycopg.connect(autocommit=True, **{**_PATIENCE, **conninfo_to_dict(url)})
        except psycopg.OperationalError as error:
            refused = error.sqlstate is not None and not error.sqlstate.startswith(_UNAVAILABLE)
            if refused or time.monotonic() + pause > deadline or closing.wait(pause):
                raise unreachable(error) from error
            pause = min(1.0, pause * 2)
            continue
        # `synchronous_commit` may have been turned off for the database or the user; what is awaited must be durable.
        connection.execute("SET synchronous_commit = on")
        connection.execute(pg_sql.SQL("SET search_path TO {}").format(pg_sql.Identifier(schema)))
        return connection


# Classes 08 (connection) and 57P (shutting down, starting up, crashed), and 53300 (too many connections).
_UNAVAILABLE = ("08", "57P", "53300")


def migrate(connection: psycopg.Connection[Any], schema: str, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Create or migrate the tables, one process at a time.

    Raises `DurabilityError` (code `store_newer_format`) for a newer format.
    """
    name = pg_sql.Identifier(schema)
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [_MIGRATION_LOCK])
        connection.execute(pg_sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(name))
        connection.execute("CREATE TABLE IF NOT EXISTS format (version BIGINT NOT NULL)")
        row = connection.execute("SELECT version FROM format").fetchone()
        found = 0 if row is None else row[0]
        if found > len(migrations):
            raise newer_format(f"The schema {schema} of the database", found, len(migrations))
        for migration in migrations[found:]:
            for statement in migration:
                connection.execute(statement)
        if found < len(migrations):
            connection.execute("DELETE FROM format")
            connection.execute("INSERT INTO format (version) VALUES (%s)", [len(migrations)])


# ---------------------------------------------------------------------------------------------------- failures

_RETRY = (pg.DeadlockDetected, pg.SerializationFailure)


def judge(error: Exception) -> Verdict:
    """Say what to do after a transaction failed; see `flue.stores.group_commit`."""
    if isinstance(error, FlueError):
        return "keep"
    if isinstance(error, (*_RETRY, UnattributedError)):
        return "retry"
    if is_lost(error):
        return "retry_reopened"
    return "each_alone" if isinstance(error, pg.DiskFull) else "reopen"


def is_lost(error: BaseException) -> bool:
    """Say whether an error means that the connection is gone and nothing was committed."""
    if isinstance(error, LostConnectionError):
        return True
    if not isinstance(error, psycopg.OperationalError):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(_UNAVAILABLE)


def unreachable(error: Exception) -> DurabilityError:
    """Return the error for a database that cannot be reached."""
    return DurabilityError(
        f"The database cannot be reached: {_first_line(error)}.",
        code="store_unreachable",
        hint="Check FLUE_DATABASE_URL and that Postgres is running.",
    )


def explain(error: Exception) -> Exception:
    """Return the `DurabilityError` that says what to do; Flue's own errors pass as they are."""
    if isinstance(error, FlueError):
        return error
    if isinstance(error, UnicodeEncodeError):
        text, code, hint = (
            "Text for the database is not valid Unicode",
            "store_invalid_text",
            "Replace what is not valid.",
        )
    elif isinstance(error, pg.ProgramLimitExceeded):
        text, code = "The database cannot hold a value this large", "store_too_big"
        hint = "Keep large data in files, and identifiers short."
    elif isinstance(error, pg.DiskFull):
        text, code, hint = (
            "The database is on a full disk",
            "store_full",
            "Free some space; later writes will work again.",
        )
    elif isinstance(error, pg.ReadOnlySqlTransaction):
        text, code, hint = "The database is read-only", "store_readonly", "Connect to the primary server."
    elif isinstance(error, pg.InsufficientPrivilege):
        text, code, hint = "The database user lacks a privilege", "store_readonly", "Grant it CREATE on the database."
    elif is_lost(error):
        return unreachable(error)
    else:
        text, code, hint = "The database failed", "store_error", ""
    explained = DurabilityError(f"{text}: {_first_line(error)}.", code=code, hint=hint)
    explained.__cause__ = error
    return explained


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


def close_quietly(connection: psycopg.Connection[Any]) -> None:
    """Close a connection that may be broken."""
    with contextlib.suppress(psycopg.Error):
        connection.close()

"""The SQLite file itself: opening, its format and migrations, and what its errors mean."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from flue.errors import DurabilityError, FlueError
from flue.stores.connection import Connection
from flue.stores.failures import invalid_text, newer_format
from flue.stores.group_commit import Verdict
from flue.stores.sql.schema import SQLITE_MIGRATIONS, Migration

Connect = Callable[[str], Connection]

# "Flue" in ASCII, in the header of the file, so that somebody else's database is refused and never written to.
APPLICATION_ID = 0x466C7565


def connect(path: str) -> Connection:
    """Open a connection in autocommit mode that any one thread at a time may use."""
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


def open_writer(
    path: Path, connect: Connect, busy_timeout: float, migrations: Sequence[Migration] = SQLITE_MIGRATIONS
) -> Connection:
    """Open the database for writing; create it, its directory and its tables, or migrate them.

    The file is readable by its owner alone, and so is a directory made for it. Raises `DurabilityError` for a newer
    format (code `store_newer_format`) and for a file that is not a Flue database (`store_foreign_file`), before
    changing anything in it, and `sqlite3.Error` or `OSError` for the rest.
    """
    _make_directory(path.parent)
    is_new = not path.exists()
    connection = connect(str(path))
    try:
        if is_new:
            # SQLite gives the files it puts beside the database the same mode.
            with contextlib.suppress(FileNotFoundError):
                path.chmod(0o600)
        connection.execute(f"PRAGMA busy_timeout = {round(busy_timeout * 1000)}")
        # In one transaction, so that another process's first migration is seen as a whole or not at all.
        connection.execute("BEGIN")
        found = _check(connection, path, len(migrations))
        connection.execute("COMMIT")
        _use_wal(connection, path, busy_timeout)
        # A commit is over when it is on disk (DUR-19).
        connection.execute("PRAGMA synchronous = FULL")
        # On macOS a plain fsync leaves data in the drive's cache; elsewhere this changes nothing.
        connection.execute("PRAGMA fullfsync = 1")
        if found < len(migrations):
            _migrate(connection, path, migrations)
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path, connect: Connect, busy_timeout: float) -> Connection:
    """Open the database, which exists already, for reading only."""
    connection = connect(str(path))
    try:
        connection.execute(f"PRAGMA busy_timeout = {round(busy_timeout * 1000)}")
        connection.execute("PRAGMA query_only = 1")
    except BaseException:
        connection.close()
        raise
    return connection


def _make_directory(directory: Path) -> None:
    missing = []
    while not directory.exists():
        missing.append(directory)
        directory = directory.parent
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)
        sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make new names in a directory durable: a power cut may lose them otherwise, and with them what they hold."""
    with contextlib.suppress(OSError):  # not every platform lets a directory be opened or synced
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _number(connection: Connection, sql: str) -> int:
    return int(connection.execute(sql).fetchone()[0])


def _check(connection: Connection, path: Path, known: int) -> int:
    """Return the file's format; raise for a newer one (DUR-21), and for what is no file of ours."""
    application = _number(connection, "PRAGMA application_id")
    found = _number(connection, "PRAGMA user_version")
    is_empty = not (application or found or _number(connection, "SELECT count(*) FROM sqlite_master"))
    if application != APPLICATION_ID and not is_empty:
        raise DurabilityError(
            f"{path} is a SQLite database of another application.",
            code="store_foreign_file",
            hint="Give the store a path of its own.",
        )
    if found > known:
        raise newer_format(f"The database {path}", found, known)
    return found


def _use_wal(connection: Connection, path: Path, busy_timeout: float) -> None:
    mode = _enter_wal(connection, time.monotonic() + busy_timeout)
    if mode != "wal":
        raise DurabilityError(
            f"The database {path} cannot use write-ahead logging (its journal mode stays {mode!r}).",
            code="store_no_wal",
            hint="Put it on a local disk; network file systems do not support it.",
        )


def _enter_wal(connection: Connection, deadline: float) -> str:
    # Changing the mode of a new file may fail at once, without the busy timeout, while another process does the same.
    while True:
        try:
            return str(connection.execute("PRAGMA journal_mode = WAL").fetchone()[0])
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.005)


def _migrate(connection: Connection, path: Path, migrations: Sequence[Migration]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Looked at again, because another process may have migrated while this one waited for the lock.
        found = _check(connection, path, len(migrations))
        for migration in migrations[found:]:
            for statement in migration:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


# ---------------------------------------------------------------------------------------------------- failures

_MEANINGS: dict[int, tuple[str, str, str]] = {
    sqlite3.SQLITE_FULL: ("store_full", "is on a full disk", "Free some space; later writes will work again."),
    sqlite3.SQLITE_BUSY: (
        "store_locked",
        "stayed locked by another process",
        "End the process that holds it (a backup, an open database shell), or raise busy_timeout.",
    ),
    sqlite3.SQLITE_IOERR: (
        "store_io",
        "cannot be read or written",
        "Check the disk and the system log, then try again.",
    ),
    sqlite3.SQLITE_READONLY: (
        "store_readonly",
        "is read-only",
        "Give this user write access to the file and its directory.",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        "store_cannot_open",
        "cannot be opened",
        "Check that the path is a file in a directory that this user may write to.",
    ),
    sqlite3.SQLITE_PERM: ("store_cannot_open", "cannot be opened", "Check the permissions of the file."),
    sqlite3.SQLITE_CORRUPT: ("store_corrupt", "is damaged", "Restore it from a backup, or move it away to start anew."),
    sqlite3.SQLITE_NOTADB: (
        "store_foreign_file",
        "is not a SQLite database",
        "Give the store a path of its own, or move the file away.",
    ),
    sqlite3.SQLITE_TOOBIG: (
        "store_too_big",
        "cannot hold a value this large",
        "Keep large data in files, not in messages.",
    ),
}
_MEANINGS[sqlite3.SQLITE_LOCKED] = _MEANINGS[sqlite3.SQLITE_BUSY]


def _code(error: BaseException) -> int:
    # The low byte of an extended code is its primary code: https://sqlite.org/rescode.html
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def judge(error: Exception) -> Verdict:
    """Say what to do after a transaction failed (DUR-20); see `flue.stores.group_commit`."""
    code = _code(error)
    if code == sqlite3.SQLITE_FULL:
        return "each_alone"
    return "keep" if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) else "reopen"


def explain(error: Exception, what: str) -> Exception:
    """Return the `DurabilityError` that names the file and the next step; Flue's own errors pass as they are."""
    if isinstance(error, FlueError):
        return error
    if isinstance(error, UnicodeEncodeError):
        explained: Exception = invalid_text(what)
    else:
        code, failed, hint = _MEANINGS.get(_code(error), ("store_error", "failed", ""))
        if isinstance(error, OSError):
            code, failed, hint = _MEANINGS[sqlite3.SQLITE_CANTOPEN]
        explained = DurabilityError(f"{what[0].upper()}{what[1:]} {failed}: {error}.", code=code, hint=hint)
    explained.__cause__ = error
    return explained

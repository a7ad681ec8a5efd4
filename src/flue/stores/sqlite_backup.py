"""Copying a SQLite database that is in use: a whole file appears under the copy's name, or none (DUR-22)."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from flue.errors import DurabilityError
from flue.stores.connection import Connection
from flue.stores.sqlite_file import sync_directory


def check_target(path: Path, *, overwrite: bool) -> None:
    """Raise `DurabilityError` (code `backup_exists`) where a copy may not be put."""
    # SQLite would play a log that lies beside a replaced database into the copy.
    if any(path.with_name(path.name + suffix).exists() for suffix in ("-wal", "-journal")):
        raise DurabilityError(
            f"The backup {path} would replace a database that is in use.",
            code="backup_exists",
            hint="Choose another path.",
        )
    if path.exists() and not overwrite:
        raise _exists(path)


def back_up(connection: Connection, path: Path, *, overwrite: bool) -> None:
    """Copy the database of a connection, as it is now, to `path`, readable by its owner alone.

    Others go on reading and writing meanwhile. Raises `DurabilityError` (code `backup_exists`), `OSError`,
    `sqlite3.Error`.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(descriptor)
    part = Path(name)
    try:
        connection.execute("PRAGMA query_only = 0")  # which forbids every VACUUM
        # A read of one snapshot, which in WAL mode nobody waits for; an empty file is as good as none. The copy holds
        # no free pages, and so nothing that was deleted: https://sqlite.org/lang_vacuum.html#vacuuminto
        connection.execute("VACUUM INTO ?", (name,))
        _sync(part)
        _publish(part, path, overwrite=overwrite)
    finally:
        part.unlink(missing_ok=True)
    sync_directory(path.parent)


def _sync(path: Path) -> None:
    # VACUUM INTO leaves that to the caller.
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _publish(part: Path, path: Path, *, overwrite: bool) -> None:
    check_target(path, overwrite=overwrite)
    if overwrite:
        part.replace(path)
        return
    try:
        path.hardlink_to(part)  # which, unlike a rename, never replaces what came there meanwhile
    except FileExistsError:
        raise _exists(path) from None
    except OSError:  # a file system without links
        part.rename(path)


def _exists(path: Path) -> DurabilityError:
    return DurabilityError(
        f"The backup {path} is there already.",
        code="backup_exists",
        hint="Choose another path, or replace it with overwrite=True.",
    )

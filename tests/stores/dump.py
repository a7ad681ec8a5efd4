"""Everything that a database holds, as something to compare."""

from __future__ import annotations

from typing import Any

from flue.stores.connection import Connection

Dump = dict[str, list[Any]]


def dump(connection: Connection) -> Dump:
    """Return the rows of every table that has some."""
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
    tables = {name: connection.execute(f'SELECT * FROM "{name}"').fetchall() for (name,) in names}  # noqa: S608
    return {name: sorted(rows, key=repr) for name, rows in tables.items() if rows}

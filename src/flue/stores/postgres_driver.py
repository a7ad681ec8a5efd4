"""psycopg 3, or a clear error when it is not installed.

Its blocking interface is what the transitions need: they run as a whole in a writer thread, as they do for SQLite,
and no transaction stays open across an await.
"""

from __future__ import annotations

from flue.errors import UsageError

try:
    import psycopg
    from psycopg import errors, sql
    from psycopg.conninfo import conninfo_to_dict
except ModuleNotFoundError as error:
    raise UsageError(
        "PostgresStore needs the package psycopg.",
        code="missing_package",
        hint="Install it with: pip install 'flue-agents[postgres]'",
    ) from error

__all__ = ["conninfo_to_dict", "errors", "psycopg", "sql"]

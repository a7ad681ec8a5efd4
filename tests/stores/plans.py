"""How SQLite would run a statement."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable
from typing import Any


def slow_statements(
    connection: sqlite3.Connection, statements: Iterable[str], *, small: Collection[str] = ()
) -> dict[str, list[str]]:
    """Return the statements that read a whole table other than a small one, or sort, with their plans."""
    slow = {}
    for sql in statements:
        if sql.split()[0] in ("SELECT", "UPDATE", "DELETE") and "sqlite_master" not in sql:
            plan = [step for step in _explain(connection, sql) if step.removeprefix("SCAN ") not in small]
            # The first or last rows of an index, in its order, are as good as a look-up.
            first = any(word in sql for word in ("LIMIT", "MIN(", "MAX(", "EXISTS"))
            if any("TEMP B-TREE" in step or (_scans(step) and not (first and "INDEX" in step)) for step in plan):
                slow[sql] = plan
    return slow


def _scans(step: str) -> bool:
    return step.startswith("SCAN") and step != "SCAN CONSTANT ROW"


def _explain(connection: sqlite3.Connection, sql: str) -> list[str]:
    parameters: list[Any] = [1] * sql.count("?")
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)]

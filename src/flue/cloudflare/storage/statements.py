"""What a Durable Object's database must know of a statement of the SQL of stores: its tables, and its long texts.

Flue's tables have names of their own there, `flue_sessions` and so on: the application's code may keep tables in the
same database.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, cached_property

from flue.stores.sql.schema import SQLITE_MIGRATIONS

PREFIX = "flue_"

# Where texts may be longer than what fits into a row.
LONG: dict[str, tuple[str, ...]] = {
    "sessions": ("metadata",),
    "entries": ("body",),
    "submissions": ("result", "error"),
    "inputs": ("payload",),
    "journal": ("body",),
    "steps": ("body",),
    "messages": ("body",),
    "events": ("body",),
}
LONG_COLUMNS = frozenset(column for columns in LONG.values() for column in columns)

_TABLES = "|".join(re.findall(r"CREATE TABLE (\w+)", "\n".join(sql for step in SQLITE_MIGRATIONS for sql in step)))
_NAMED = re.compile(rf"\b(FROM|INTO|UPDATE|JOIN|TABLE|ON) ({_TABLES})\b|\b({_TABLES})\.|\b(CREATE INDEX) (\w+)")
_WRITES = re.compile(r"(INSERT INTO|UPDATE|DELETE FROM) (\w+)")
_INSERT = re.compile(r"INSERT INTO \w+ \(([^)]*)\) VALUES (\(([^)]*)\))")
_SET = re.compile(r"(\w+) = \?|\?")


def _with_prefix(match: re.Match[str]) -> str:
    before, table, qualifier, create, index = match.groups()
    if qualifier:
        return f"{PREFIX}{qualifier}."
    return f"{before or create} {PREFIX}{table or index}"


@dataclass(frozen=True)
class Statement:
    """A statement. `writes` is the table that it changes, `long` are the places of parameters that may be long."""

    sql: str
    writes: str
    long: tuple[int, ...]
    _values: tuple[int, int] | None
    _width: int

    @cached_property
    def rows_at_once(self) -> int:
        """Return how many rows one call inserts: 100 parameters are what Durable Objects take."""
        return 100 // self._width if self._values and self._width else 1

    def inserting(self, rows: int) -> str:
        """Return the statement that inserts several rows of parameters."""
        if rows == 1 or self._values is None:
            return self.sql
        start, end = self._values
        return self.sql[:start] + ", ".join([self.sql[start:end]] * rows) + self.sql[end:]


@cache
def parse(sql: str) -> Statement:
    """Return what there is to know of a statement."""
    writes = _WRITES.match(sql)
    table = writes[2] if writes else ""
    inserted = _INSERT.match(sql)
    if inserted:
        names = [name.strip() for name in inserted[1].split(",")]
        columns = [name for name, value in zip(names, inserted[3].split(","), strict=True) if value.strip() == "?"]
    else:
        columns = [found[1] or "" for found in _SET.finditer(sql)]
    long = tuple(place for place, column in enumerate(columns) if column in LONG.get(table, ()))
    renamed = _NAMED.sub(_with_prefix, sql)
    values = _INSERT.match(renamed)
    return Statement(renamed, table, long, values.span(2) if values else None, len(columns))

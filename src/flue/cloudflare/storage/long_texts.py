"""Texts too long for a row: kept in pieces, with a reference in their place (DUR-46).

A string, and a row as a whole, has 2 MB at most in a Durable Object
(https://developers.cloudflare.com/durable-objects/platform/limits/). The pieces of a text live exactly as long as the
row that refers to it: triggers delete them in the transaction that deletes or overwrites it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from flue.cloudflare.storage.statements import LONG, LONG_COLUMNS, PREFIX

# In bytes; two such texts and what else stands in their row fit into it.
LONGEST = 900_000
# No JSON text begins like this. One of another kind that does is kept as if it were long.
_MARK = "\x01flue:"
_TABLE = f"{PREFIX}pieces"


def _triggers() -> list[str]:
    statements = []
    for table, columns in LONG.items():
        for column in columns:
            refers = f"OLD.{column} >= '{_MARK}' AND OLD.{column} < '{_MARK[:-1]};'"
            drop = f"DELETE FROM {_TABLE} WHERE text = CAST(substr(OLD.{column}, {len(_MARK) + 1}) AS INTEGER)"
            for event, name in (("DELETE", "deleted"), (f"UPDATE OF {column}", "replaced")):
                statements.append(
                    f"CREATE TRIGGER {PREFIX}{table}_{column}_{name} AFTER {event} ON {PREFIX}{table}"
                    f" WHEN {refers} BEGIN {drop}; END"
                )
    return statements


_PIECES = f"CREATE TABLE {_TABLE} (text INTEGER, number INTEGER, body TEXT NOT NULL, PRIMARY KEY (text, number))"

TABLES: tuple[str, ...] = (_PIECES, *_triggers())
"""The table of pieces and the triggers; the tables that may refer to pieces are there already."""


class Binding(Protocol):
    """What long texts need of a connection: statements that are run as they are."""

    def fetch(self, sql: str, parameters: Sequence[Any], /) -> list[Any]:
        """Run a statement and return its rows."""
        ...


def is_long(value: Any) -> bool:
    """Say whether a value cannot stand in a row as it is."""
    if not isinstance(value, str):
        return False
    if 4 * len(value) > LONGEST and (len(value) if value.isascii() else len(value.encode())) > LONGEST:
        return True
    return value.startswith(_MARK)


def is_reference(value: Any) -> bool:
    """Say whether a value of a column for long texts stands for one."""
    return isinstance(value, str) and value.startswith(_MARK)


def keep(binding: Binding, text: str) -> str:
    """Write a text in pieces; return the reference that takes its place."""
    number = binding.fetch(f"SELECT COALESCE(MAX(text), 0) + 1 FROM {_TABLE}", ())[0][0]
    size = LONGEST if text.isascii() else LONGEST // 4
    for place, start in enumerate(range(0, len(text), size)):
        binding.fetch(f"INSERT INTO {_TABLE} VALUES (?, ?, ?)", (number, place, text[start : start + size]))
    return f"{_MARK}{number}"


def drop(binding: Binding, reference: str) -> None:
    """Delete the pieces of a text that no row refers to."""
    binding.fetch(f"DELETE FROM {_TABLE} WHERE text = ?", (_number(reference),))


def resolve(binding: Binding, columns: Sequence[str], row: Sequence[Any]) -> tuple[Any, ...]:
    """Return a row with texts in the place of references."""
    return tuple(
        _read(binding, value) if column in LONG_COLUMNS and is_reference(value) else value
        for column, value in zip(columns, row, strict=True)
    )


def _read(binding: Binding, reference: str) -> str:
    pieces = binding.fetch(f"SELECT body FROM {_TABLE} WHERE text = ? ORDER BY number", (_number(reference),))
    return "".join(body for (body,) in pieces)


def _number(reference: str) -> int:
    return int(reference.removeprefix(_MARK))

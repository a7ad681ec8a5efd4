"""The registry's list: which runs there are, how they stand, and which object has them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flue.cloudflare.registry.client import Pointer
from flue.cloudflare.storage.database import ObjectConnection, ObjectStorage
from flue.cloudflare.storage.statements import PREFIX
from flue.durable.records import Run, RunQuery
from flue.stores.sql.history import runs_query

_TABLE = f"{PREFIX}pointers"
FORGOTTEN_AT_ONCE = 200
"""More than one telling can add: so forgetting a step with each keeps up."""
# Columns are called as in `submissions`: the same query serves.
_COLUMNS = (
    "id, recorded, target, instance, status, accepted_at, address, generation, settled_at, restarted_from, restarted_as"
)
_SCHEMA = "; ".join(
    (
        (
            f"CREATE TABLE IF NOT EXISTS {_TABLE} (id TEXT PRIMARY KEY, recorded TEXT NOT NULL, target TEXT NOT NULL,"
            " instance TEXT NOT NULL, status TEXT NOT NULL, accepted_at INTEGER NOT NULL, address TEXT NOT NULL,"
            " generation INTEGER NOT NULL, settled_at INTEGER, restarted_from TEXT, restarted_as TEXT,"
            " object TEXT NOT NULL)"
        ),
        f"CREATE INDEX IF NOT EXISTS {_TABLE}_all ON {_TABLE} (accepted_at, id)",
        f"CREATE INDEX IF NOT EXISTS {_TABLE}_status ON {_TABLE} (status, accepted_at, id)",
        f"CREATE INDEX IF NOT EXISTS {_TABLE}_target ON {_TABLE} (target, accepted_at, id)",
        f"CREATE INDEX IF NOT EXISTS {_TABLE}_both ON {_TABLE} (target, status, accepted_at, id)",
        f"CREATE INDEX IF NOT EXISTS {_TABLE}_ended ON {_TABLE} (settled_at) WHERE settled_at IS NOT NULL",
    )
)
_TELL = (
    f"INSERT INTO {_TABLE} ({_COLUMNS}, object) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (id) DO UPDATE SET status = excluded.status, settled_at = excluded.settled_at,"
    f" restarted_as = excluded.restarted_as WHERE {_TABLE}.status = 'active'"
)
_FORGET = (
    f"DELETE FROM {_TABLE} WHERE id IN"
    f" (SELECT id FROM {_TABLE} WHERE settled_at < ? ORDER BY settled_at LIMIT {FORGOTTEN_AT_ONCE})"
)


class Pointers:
    """Pointers in the registry's own database."""

    def __init__(self, storage: ObjectStorage) -> None:
        self._connection = ObjectConnection(storage)
        self._made = False

    def tell(self, pointers: Iterable[Pointer]) -> None:
        """Take note of how runs stand. One that has ended stays so: what was said before may arrive later."""
        for pointer in pointers:
            self._rows(_TELL, *_values(pointer.run), pointer.object)

    def drop(self, run_ids: Iterable[str]) -> None:
        """Forget runs that are deleted; those that are not known are no mistake."""
        for run_id in run_ids:
            self._rows(f"DELETE FROM {_TABLE} WHERE id = ?", run_id)

    def forget(self, *, ended_before: int) -> None:
        """Forget some of the runs that ended before a time, in milliseconds since the epoch, the oldest first."""
        self._rows(_FORGET, ended_before)

    def find(self, run_id: str) -> Pointer | None:
        """Return where a run is."""
        rows = self._rows(f"SELECT {_COLUMNS}, object FROM {_TABLE} WHERE id = ?", run_id)
        return Pointer(Run(*rows[0][:-1]), rows[0][-1]) if rows else None

    def page(self, query: RunQuery) -> list[Run]:
        """Return a page of runs, newest first."""
        sql, parameters = runs_query(query, f"{_TABLE} AS submissions")
        return [Run(*row) for row in self._rows(sql, *parameters)]

    def _rows(self, sql: str, *parameters: object) -> list[Any]:
        if not self._made:
            self._connection.fetch(_SCHEMA)
            self._made = True
        return self._connection.fetch(sql, parameters)


def _values(run: Run) -> tuple[object, ...]:
    return (
        run.run_id,
        run.kind,
        run.target,
        run.instance,
        run.status,
        run.started_at,
        run.lineage_id,
        run.generation,
        run.ended_at,
        run.restarted_from,
        run.restarted_as,
    )

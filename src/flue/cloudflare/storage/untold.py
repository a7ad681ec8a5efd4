"""Which runs of an object have begun, or ended, without the registry's knowing: kept by triggers.

So a run is on this list by the very transaction that changed it, whatever ends the isolate then. A run that is deleted
before the registry was told stays on it, so that the registry is told that.
"""

from __future__ import annotations

from collections.abc import Mapping

from flue.cloudflare.storage.statements import PREFIX
from flue.durable.records import Run
from flue.stores.sql.history import RUN
from flue.stores.sql.transaction import Transaction

TABLE = f"{PREFIX}untold"
_NOTE = f"BEGIN INSERT OR IGNORE INTO {TABLE} VALUES (NEW.id); END"
TABLES: tuple[str, ...] = (
    f"CREATE TABLE {TABLE} (run TEXT PRIMARY KEY)",
    f"CREATE TRIGGER {PREFIX}run_accepted AFTER INSERT ON {PREFIX}submissions WHEN NEW.recorded <> '' {_NOTE}",
    (
        f"CREATE TRIGGER {PREFIX}run_changed AFTER UPDATE OF status ON {PREFIX}submissions"
        f" WHEN NEW.recorded <> '' AND NEW.status <> OLD.status {_NOTE}"
    ),
    (
        f"CREATE TRIGGER {PREFIX}run_forgotten AFTER DELETE ON {PREFIX}submissions"
        f" BEGIN DELETE FROM {TABLE} WHERE run = OLD.id; END"
    ),
)
KEEPS_DELETED: tuple[str, ...] = (f"DROP TRIGGER {PREFIX}run_forgotten",)

_AT_ONCE = 100


def untold(tx: Transaction) -> dict[str, Run | None]:
    """Return runs that are to be told, as lists have them, by their ids; None for one that is deleted."""
    rows = tx.rows(f"SELECT run, {RUN} FROM {TABLE} LEFT JOIN submissions ON submissions.id = run LIMIT ?", _AT_ONCE)
    return {run_id: None if found[0] is None else Run(*found) for run_id, *found in rows}


def told(tx: Transaction, runs: Mapping[str, Run | None]) -> None:
    """Strike what was told from the list, unless it has changed meanwhile."""
    for run_id, run in runs.items():
        tx.execute(
            f"DELETE FROM {TABLE} WHERE run = ?"
            " AND NOT EXISTS (SELECT 1 FROM submissions WHERE id = ? AND status <> ?)",
            run_id,
            run_id,
            "" if run is None else run.status,
        )

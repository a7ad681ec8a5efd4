"""Runs, schedules, receipts, journals, and what retention deletes."""

from __future__ import annotations

from collections.abc import Sequence

from flue.durable.records import (
    Admission,
    Admitted,
    JournalRecord,
    Message,
    Receipt,
    Retention,
    Run,
    RunQuery,
    Schedule,
    StepResult,
    Submission,
)
from flue.stores.sql.admission import admit
from flue.stores.sql.rows import SELECT, to_submission
from flue.stores.sql.transaction import Transaction

# ----------------------------------------------------------------------------------------------------- reads


def get_receipt(tx: Transaction, key: str) -> Receipt | None:
    """Return what is kept of a key."""
    row = tx.row("SELECT key, submission, digest, accepted_at, settled_at FROM receipts WHERE key = ?", key)
    return None if row is None else Receipt(*row)


def list_lane(tx: Transaction, lane: str) -> list[Submission]:
    """Return the unsettled submissions of a lane in order."""
    rows = tx.rows(SELECT + "WHERE lane = ? AND state <> 'settled' ORDER BY sequence", lane)
    return [to_submission(row) for row in rows]


def load_journals(tx: Transaction, ids: Sequence[str]) -> list[list[JournalRecord]]:
    """Return the journals of submissions in order."""
    found = tx.rows_each(
        "SELECT number, kind, key, body FROM journal"
        " WHERE submission = (SELECT sequence FROM submissions WHERE id = ?)",
        [(id,) for id in ids],
    )
    return [[JournalRecord(kind, key, body) for _, kind, key, body in sorted(rows)] for rows in found]


def load_steps(tx: Transaction, address: str) -> list[StepResult]:
    """Return the recorded steps in order."""
    rows = tx.rows("SELECT number, name, body FROM steps WHERE address = ?", address)
    return [StepResult(name, body) for _, name, body in sorted(rows)]


def load_messages(tx: Transaction, addresses: Sequence[str]) -> list[list[Message]]:
    """Return the messages that wait at each of these addresses, oldest first."""
    found = tx.rows_each(
        "SELECT number, id, name, body FROM messages WHERE address = ? AND consumed = 0",
        [(address,) for address in addresses],
    )
    return [[Message(id, name, body) for _, id, name, body in sorted(rows)] for rows in found]


# ------------------------------------------------------------------------------------------------------ runs

# The columns of a run as lists have it.
RUN = (
    "submissions.id, recorded, target, instance, status, accepted_at, address, generation, settled_at,"
    " restarted_from, restarted_as"
)


def get_run(tx: Transaction, id: str) -> Run | None:
    """Return a run with everything."""
    row = tx.row(
        f"SELECT {RUN}, inputs.payload, result, error FROM submissions JOIN inputs ON inputs.id = submissions.id"
        " WHERE submissions.id = ? AND recorded <> ''",
        id,
    )
    return None if row is None else Run(*row)


def runs_query(query: RunQuery, source: str = "submissions") -> tuple[str, list[object]]:
    """Return the SQL of a page of runs; one of four indexes fits it. `source` has the columns of `submissions`."""
    conditions: list[tuple[str, list[object]]] = [("recorded <> ''", [])]
    if query.target is not None:
        conditions.append(("target = ?", [query.target]))
    if query.status is not None:
        conditions.append(("status = ?", [query.status]))
    if query.before is not None:
        conditions.append(("(accepted_at, id) < (?, ?)", list(query.before)))
    where = " AND ".join(condition for condition, _ in conditions)
    sql = f"SELECT {RUN} FROM {source} WHERE {where} ORDER BY accepted_at DESC, id DESC LIMIT ?"
    return sql, [value for _, values in conditions for value in values] + [query.limit]


def list_runs(tx: Transaction, query: RunQuery) -> list[Run]:
    """Return a page of runs, newest first."""
    sql, parameters = runs_query(query)
    return [Run(*row) for row in tx.rows(sql, *parameters)]


# ------------------------------------------------------------------------------------------------- schedules


def put_schedule(tx: Transaction, schedule: Schedule) -> Schedule:
    """Keep a schedule unless one with the same spec is there."""
    tx.execute(
        "INSERT INTO schedules (id, spec, next_at) VALUES (?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET spec = excluded.spec, next_at = excluded.next_at"
        " WHERE schedules.spec <> excluded.spec",
        schedule.id,
        schedule.spec,
        schedule.next_at,
    )
    return Schedule(*tx.row("SELECT id, spec, next_at FROM schedules WHERE id = ?", schedule.id))


def list_schedules(tx: Transaction, due: int | None) -> list[Schedule]:
    """Return all schedules, or those that are due."""
    if due is None:
        rows = tx.rows("SELECT id, spec, next_at FROM schedules ORDER BY id")
    else:
        rows = tx.rows(
            "SELECT id, spec, next_at FROM schedules WHERE next_at IS NOT NULL AND next_at <= ? ORDER BY next_at, id",
            due,
        )
    return [Schedule(*row) for row in rows]


def fire(
    tx: Transaction, schedule: Schedule, next_at: int | None, admission: Admission | None, now: int
) -> Admitted | None:
    """Move a schedule on and admit what it starts, unless another node has (DUR-12)."""
    moved = tx.execute(
        "UPDATE schedules SET next_at = ? WHERE id = ? AND spec = ? AND COALESCE(next_at, -1) = ?",
        next_at,
        schedule.id,
        schedule.spec,
        -1 if schedule.next_at is None else schedule.next_at,
    )
    if not moved.rowcount or admission is None:
        return None
    return admit(tx, admission, now)


# ------------------------------------------------------------------------------------------------- retention

_OLD = {
    "submissions": "state = 'settled' AND recorded = ''",
    "runs": "state = 'settled' AND recorded <> ''",
    "deltas": "state = 'settled' AND compacted = 0",
}


def old_rows(what: str) -> str:
    """Return the query for settled submissions that ended before a time, oldest first."""
    return (
        f"SELECT sequence, id, address FROM submissions WHERE {_OLD[what]} AND settled_at < ?"
        " ORDER BY settled_at LIMIT ?"
    )


def prune(tx: Transaction, retention: Retention, limit: int) -> int:
    """Delete what may go, up to a number of things (DUR-17)."""
    gone = 0
    for what, before in (("submissions", retention.submissions), ("runs", retention.runs)):
        if before is not None:
            rows = tx.rows(old_rows(what) + tx.lock_free, before, limit - gone)
            for sequence, id, address in rows:
                _forget(tx, sequence, id, address)
            gone += len(rows)
    if retention.deltas is not None:
        rows = tx.rows(old_rows("deltas") + tx.lock_free, retention.deltas, limit - gone)
        tx.insert("DELETE FROM events WHERE log = ? AND deltas = 1", [(id,) for _, id, _ in rows])
        tx.insert("UPDATE submissions SET compacted = 1 WHERE sequence = ?", [(sequence,) for sequence, _, _ in rows])
        gone += len(rows)
    if retention.receipts is not None:
        keys = tx.rows(
            "SELECT key FROM receipts WHERE settled_at IS NOT NULL AND settled_at < ? ORDER BY settled_at LIMIT ?",
            retention.receipts,
            limit - gone,
        )
        tx.insert("DELETE FROM receipts WHERE key = ?", keys)
        gone += len(keys)
    return gone


def _forget(tx: Transaction, sequence: int, id: str, address: str) -> None:
    tx.execute("DELETE FROM submissions WHERE sequence = ?", sequence)
    tx.execute("DELETE FROM journal WHERE submission = ?", sequence)
    for table, column in (("inputs", "id"), ("events", "log"), ("logs", "log")):
        tx.execute(f"DELETE FROM {table} WHERE {column} = ?", id)
    if tx.row("SELECT 1 FROM submissions WHERE address = ? LIMIT 1", address) is None:
        tx.execute("DELETE FROM steps WHERE address = ?", address)
        tx.execute("DELETE FROM messages WHERE address = ?", address)

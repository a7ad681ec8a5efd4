"""Rows of submissions: reading, locking, and the changes that transitions are made of."""

from __future__ import annotations

import json
from typing import Any

from flue.durable.failures import attempt_lost
from flue.durable.records import Claim, Claimant, Outcome, Submission, lease_is_short
from flue.stores.sql.transaction import Transaction

COLUMNS = (
    "submissions.sequence, submissions.id, lane, kind, target, instance, address, state, inputs.payload, accepted_at,"
    " max_attempts, time_left_ms, interruptions, key, owner, attempt_id, started_at, deadline_at, park_reason,"
    " wake_at, waiting_for, cancel_reason, settled_at, outcome, result, error"
)
FROM = " FROM submissions JOIN inputs ON inputs.id = submissions.id "
SELECT = f"SELECT {COLUMNS}{FROM}"

_STATE, _WAITING_FOR = 7, 20
# What is first in its lane is `ready`; what comes behind is `waiting`. Outside, both are queued.
_STATES = {"waiting": "queued", "ready": "queued"}

# The time that is left of a submission that ran until now. `?` is now, twice.
TIME_LEFT = "time_left_ms = CASE WHEN deadline_at > ? THEN deadline_at - ? ELSE 0 END"


def to_submission(row: Any) -> Submission:
    """Return a row of `SELECT` as data."""
    values = list(row)
    values[_STATE] = _STATES.get(row[_STATE], row[_STATE])
    values[_WAITING_FOR] = tuple(json.loads(row[_WAITING_FOR]))
    return Submission(*values)


def find(tx: Transaction, id: str) -> Submission | None:
    """Return a submission, or None."""
    row = tx.row(SELECT + "WHERE submissions.id = ?", id)
    return None if row is None else to_submission(row)


def hold(tx: Transaction, claim: Claim) -> str | None:
    """Lock a claimed submission and return why it should be aborted, if it should; raise when the claim is lost.

    Every write of an attempt goes through here (DUR-05).
    """
    row = tx.row(
        "SELECT state, attempt_id, cancel_reason FROM submissions WHERE sequence = ?" + tx.lock,
        claim.submission.sequence,
    )
    if row is None or row[0] != "running" or row[1] != claim.attempt_id:
        raise attempt_lost(claim.id, claim.attempt_id)
    reason: str | None = row[2]
    return reason


def lock_lane(tx: Transaction, lane: str) -> int:
    """Lock a lane against other changes of its order; return how many submissions are in it."""
    row = tx.row("SELECT depth FROM lanes WHERE lane = ?" + tx.lock_row, lane)
    return 0 if row is None else int(row[0])


def lease(tx: Transaction, owner: str, lease_until: int) -> None:
    """Enlist an owner or prolong its lease. Others are told of a new one: they look when its lease is over (DUR-38)."""
    if tx.execute("UPDATE owners SET lease_until = ? WHERE owner = ?", lease_until, owner).rowcount:
        return
    tx.execute(
        "INSERT INTO owners (owner, lease_until) VALUES (?, ?)"
        " ON CONFLICT (owner) DO UPDATE SET lease_until = excluded.lease_until",
        owner,
        lease_until,
    )
    tx.wake("work")


def keep_lease(tx: Transaction, claimant: Claimant, now: int) -> None:
    """Make sure that an owner who claims has at least half of a lease left, and is not taken over meanwhile.

    Written only when needed, and locked so that an owner's transactions do not wait for each other.
    """
    row = tx.row("SELECT lease_until FROM owners WHERE owner = ?" + tx.lock_against_deletion, claimant.owner)
    if row is None or lease_is_short(row[0], claimant, now):
        lease(tx, claimant.owner, claimant.lease_until)


def set_ready(tx: Transaction, sequence: int, home: str) -> None:
    """Make a submission that nobody holds ready to be claimed."""
    tx.execute(
        "UPDATE submissions SET state = 'ready', park_reason = NULL, wake_at = NULL, waiting_for = '[]'"
        " WHERE sequence = ?",
        sequence,
    )
    tx.wake("work", home)


def end(tx: Transaction, submission: Submission, outcome: Outcome, now: int, *, depth: int, first: bool) -> None:
    """Settle a submission of a locked lane, and make the next one ready when it was the first."""
    tx.execute(
        "UPDATE submissions SET state = 'settled', settled_at = ?, outcome = ?, result = ?, error = ?, owner = NULL,"
        " status = CASE WHEN recorded = '' THEN '' ELSE ? END WHERE sequence = ?",
        now,
        outcome.kind,
        outcome.result,
        outcome.error,
        "completed" if outcome.kind == "completed" else "errored",
        submission.sequence,
    )
    tx.execute(
        "INSERT INTO journal (submission, kind, key, body) VALUES (?, ?, ?, ?)",
        submission.sequence,
        outcome.record.kind,
        outcome.record.key,
        outcome.record.body,
    )
    tx.wake("events", key=submission.id)  # also where its log has nothing new
    if submission.key is not None:
        tx.execute("UPDATE receipts SET settled_at = ? WHERE key = ?", now, submission.key)
    if depth <= 1:
        tx.execute("DELETE FROM lanes WHERE lane = ?", submission.lane)
        return
    tx.execute("UPDATE lanes SET depth = ? WHERE lane = ?", depth - 1, submission.lane)
    if first:
        sequence, home = tx.row(
            "SELECT sequence, home FROM submissions WHERE lane = ? AND state <> 'settled' ORDER BY sequence LIMIT 1",
            submission.lane,
        )
        set_ready(tx, sequence, home)

"""What a worker does with a claim, and what others do to it: checkpoint, park, release, settle, cancel, deliver."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from flue.durable.records import Admission, Admitted, Claim, EventRow, Message, Outcome, Submission, Wait, Writes
from flue.stores.sql import events, sessions
from flue.stores.sql.admission import admit
from flue.stores.sql.rows import TIME_LEFT, end, find, hold, lock_lane, set_ready
from flue.stores.sql.sessions import Append
from flue.stores.sql.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Encoded:
    """Writes whose sessions are encoded already."""

    writes: Writes
    appends: Sequence[Append]

    @classmethod
    def of(cls, writes: Writes) -> Encoded:
        """Encode, so that later changes by the caller do not matter."""
        return cls(writes, [Append.of(append) for append in writes.sessions])

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the keys of the sessions that are written."""
        return tuple(append.key for append in self.appends)


def write(tx: Transaction, claim: Claim, encoded: Encoded) -> None:
    """Write what goes with a transition, in its transaction (DUR-07)."""
    submission, writes = claim.submission, encoded.writes
    for append in encoded.appends:
        sessions.append(tx, append)
    tx.insert(
        "INSERT INTO journal (submission, kind, key, body) VALUES (?, ?, ?, ?)",
        [(submission.sequence, record.kind, record.key, record.body) for record in writes.journal],
    )
    # The first result stays (DUR-08).
    tx.insert(
        "INSERT INTO steps (address, name, body) VALUES (?, ?, ?) ON CONFLICT (address, name) DO NOTHING",
        [(submission.address, step.name, step.body) for step in writes.steps],
    )
    tx.insert(
        "UPDATE messages SET consumed = 1 WHERE address = ? AND id = ?",
        [(submission.address, id) for id in writes.consumed],
    )
    if writes.events:
        events.append(tx, writes.events)


def checkpoint(tx: Transaction, claim: Claim, encoded: Encoded) -> None:
    """Record progress."""
    hold(tx, claim)
    write(tx, claim, encoded)


def park(tx: Transaction, claim: Claim, wait: Wait, now: int, encoded: Encoded) -> bool:
    """Give a claim up until something comes (DUR-10); False when that is there already (DUR-09)."""
    cancel_reason = hold(tx, claim)
    write(tx, claim, encoded)
    if cancel_reason is not None or _arrived(tx, claim.submission.address, wait.names):
        return False
    _give_up(tx, claim, now)
    tx.execute(
        "UPDATE submissions SET state = 'parked', park_reason = ?, wake_at = ?, waiting_for = ? WHERE sequence = ?",
        wait.reason,
        wait.wake_at,
        json.dumps(wait.names),
        claim.submission.sequence,
    )
    tx.wake("events", key=claim.id)  # as at the end
    return True


def release(
    tx: Transaction, claim: Claim, encoded: Encoded, *, now: int, not_before: int | None, interrupted: bool
) -> None:
    """Give a claim back unfinished."""
    cancel_reason = hold(tx, claim)
    write(tx, claim, encoded)
    _give_up(tx, claim, now)
    sequence = claim.submission.sequence
    if interrupted:
        tx.execute("UPDATE submissions SET interruptions = interruptions + 1 WHERE sequence = ?", sequence)
    if not_before is None or cancel_reason is not None:
        set_ready(tx, sequence, _home(tx, sequence))
    else:
        tx.execute(
            "UPDATE submissions SET state = 'parked', park_reason = 'retry', wake_at = ? WHERE sequence = ?",
            not_before,
            sequence,
        )


def settle(tx: Transaction, claim: Claim, outcome: Outcome, now: int, encoded: Encoded) -> None:
    """End a submission, once (DUR-06)."""
    depth = lock_lane(tx, claim.submission.lane)
    hold(tx, claim)
    write(tx, claim, encoded)
    end(tx, claim.submission, outcome, now, depth=depth, first=True)


def restart(tx: Transaction, claim: Claim, admission: Admission, encoded: Encoded, *, error: str, now: int) -> Admitted:
    """End a run as failed and admit its replacement, which only the holder of its claim can (DUR-11)."""
    settle(tx, claim, Outcome("failed", error=error), now, encoded)
    linked = replace(admission, address=claim.submission.address)
    return admit(tx, linked, now, replaces=claim.id)


def cancel(tx: Transaction, id: str, reason: str, now: int, log: Sequence[EventRow]) -> Submission | None:
    """Ask for an abort, and do what can be done about it at once."""
    found = tx.row("SELECT lane FROM submissions WHERE id = ?", id)
    if found is None:
        return None
    depth = lock_lane(tx, found[0])
    row = tx.row(
        "SELECT sequence, state, started_at, owner, home, cancel_reason FROM submissions WHERE id = ?" + tx.lock, id
    )
    if row is None:
        return None
    sequence, state, started_at, owner, home, known = row
    if state == "settled" or known is not None:
        return find(tx, id)
    tx.execute("UPDATE submissions SET cancel_reason = ? WHERE sequence = ?", reason, sequence)
    if state == "running":
        tx.wake("cancel", owner)
    elif started_at is None:
        submission = find(tx, id)
        assert submission is not None
        events.append(tx, log)
        end(tx, submission, Outcome.aborted(reason), now, depth=depth, first=state != "waiting")
    elif state == "parked":
        set_ready(tx, sequence, home)
    return find(tx, id)


def deliver(tx: Transaction, address: str, message: Message) -> bool:
    """Put a message into a mailbox and wake what waits for it."""
    rows = _unsettled(tx, address) or _unsettled(tx, address)  # a run may just have been replaced by another
    if not rows:
        return False
    tx.execute(
        "INSERT INTO messages (address, id, name, body) VALUES (?, ?, ?, ?) ON CONFLICT (address, id) DO NOTHING",
        address,
        message.id,
        message.name,
        message.body,
    )
    consumed = tx.row("SELECT consumed FROM messages WHERE address = ? AND id = ?", address, message.id)[0]
    for sequence, home, waiting_for in rows:
        if not consumed and message.name in json.loads(waiting_for):
            set_ready(tx, sequence, home)
    return True


def _unsettled(tx: Transaction, address: str) -> list[tuple[int, str, str]]:
    return tx.rows(
        "SELECT sequence, home, waiting_for FROM submissions WHERE address = ? AND state <> 'settled'" + tx.lock,
        address,
    )


def _arrived(tx: Transaction, address: str, names: Sequence[str]) -> bool:
    if not names:
        return False
    rows = tx.rows("SELECT name FROM messages WHERE address = ? AND consumed = 0", address)
    return any(row[0] in names for row in rows)


def _give_up(tx: Transaction, claim: Claim, now: int) -> None:
    tx.execute(
        f"UPDATE submissions SET owner = NULL, attempt_id = NULL, {TIME_LEFT}, deadline_at = NULL WHERE sequence = ?",
        now,
        now,
        claim.submission.sequence,
    )


def _home(tx: Transaction, sequence: int) -> str:
    return str(tx.row("SELECT home FROM submissions WHERE sequence = ?", sequence)[0])

"""Accepting work."""

from __future__ import annotations

from flue.durable.failures import idempotency_conflict, session_busy
from flue.durable.records import Admission, Admitted, Claim, Claimant, Submission
from flue.stores.sql import events
from flue.stores.sql.rows import keep_lease
from flue.stores.sql.transaction import Transaction


def admit(
    tx: Transaction,
    admission: Admission,
    now: int,
    *,
    claimant: Claimant | None = None,
    replaces: str | None = None,
) -> Admitted:
    """Accept work once (DUR-01); `replaces` is the run that it restarts."""
    digest = admission.digest
    if claimant is not None:
        keep_lease(tx, claimant, now)
    known = _known_key(tx, admission, digest, now) if admission.key is not None else None
    if known is not None:
        return known
    # This also locks the lane: from here on its order is this transaction's (DUR-03).
    tx.execute(
        "INSERT INTO lanes (lane, depth) VALUES (?, 1) ON CONFLICT (lane) DO UPDATE SET depth = lanes.depth + 1",
        admission.lane,
    )
    depth = int(tx.row("SELECT depth FROM lanes WHERE lane = ?", admission.lane)[0])
    generation = 0
    if replaces is not None:
        generation = tx.row("SELECT generation FROM submissions WHERE id = ?", replaces)[0] + 1
    starts = depth == 1 and claimant is not None
    home = admission.home or "" if tx.dialect.homes else ""
    inserted = tx.execute(
        "INSERT INTO submissions (id, lane, kind, target, instance, address, state, home, key, digest, accepted_at,"
        " max_attempts, time_left_ms, owner, attempt_id, started_at, deadline_at, recorded, status, generation,"
        " restarted_from) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO NOTHING",
        admission.id,
        admission.lane,
        admission.kind,
        admission.target,
        admission.instance,
        admission.mailbox,
        "running" if starts else "ready" if depth == 1 else "waiting",
        home,
        admission.key,
        digest,
        now,
        admission.max_attempts,
        admission.timeout_ms,
        claimant.owner if claimant and starts else None,
        claimant.attempt_id if claimant and starts else None,
        now if starts else None,
        now + admission.timeout_ms if starts else None,
        admission.recorded or "",
        "active" if admission.recorded else "",
        generation,
        replaces,
    )
    if not inserted.rowcount:
        return _known_id(tx, admission, digest)
    if admission.alone and depth > 1:
        raise session_busy()
    if replaces is not None:
        tx.execute("UPDATE submissions SET restarted_as = ? WHERE id = ?", admission.id, replaces)
    tx.execute("INSERT INTO inputs (id, payload) VALUES (?, ?)", admission.id, admission.payload)
    if admission.events or admission.reserve:
        used = max((row.last + 1 for row in admission.events), default=0)
        events.reserve(tx, [(admission.id, used + admission.reserve)])
        events.append(tx, admission.events)
    claim = None
    if starts and claimant is not None:
        claim = Claim(_started(tx, admission, claimant, now), claimant.attempt_id, claimant.owner, first=True)
    elif depth == 1:
        tx.wake("work", home)
    return Admitted(admission.id, now, created=True, ahead=depth - 1, claim=claim)


def _started(tx: Transaction, admission: Admission, claimant: Claimant, now: int) -> Submission:
    return Submission(
        sequence=tx.row("SELECT sequence FROM submissions WHERE id = ?", admission.id)[0],
        id=admission.id,
        lane=admission.lane,
        kind=admission.kind,
        target=admission.target,
        instance=admission.instance,
        address=admission.mailbox,
        state="running",
        payload=admission.payload,
        accepted_at=now,
        max_attempts=admission.max_attempts,
        time_left_ms=admission.timeout_ms,
        key=admission.key,
        owner=claimant.owner,
        attempt_id=claimant.attempt_id,
        started_at=now,
        deadline_at=now + admission.timeout_ms,
    )


def _known_key(tx: Transaction, admission: Admission, digest: str, now: int) -> Admitted | None:
    """Keep a key, or return what was accepted under it (DUR-02)."""
    kept = tx.execute(
        "INSERT INTO receipts (key, submission, digest, accepted_at) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO NOTHING",
        admission.key,
        admission.id,
        digest,
        now,
    )
    if kept.rowcount:
        return None
    id, found, accepted_at = tx.row("SELECT submission, digest, accepted_at FROM receipts WHERE key = ?", admission.key)
    if found != digest:
        raise idempotency_conflict(f"Idempotency key {admission.key}")
    return Admitted(id, accepted_at, created=False)


def _known_id(tx: Transaction, admission: Admission, digest: str) -> Admitted:
    row = tx.row("SELECT digest, key, accepted_at FROM submissions WHERE id = ?", admission.id)
    if row[0] != digest or row[1] != admission.key:
        raise idempotency_conflict(f"Submission id {admission.id}")
    tx.execute("UPDATE lanes SET depth = depth - 1 WHERE lane = ?", admission.lane)
    tx.execute("DELETE FROM lanes WHERE lane = ? AND depth = 0", admission.lane)
    return Admitted(admission.id, row[2], created=False)

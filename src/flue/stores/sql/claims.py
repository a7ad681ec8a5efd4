"""Owners, claims, and what wakes by itself."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from flue.durable.records import Claim, Claimant, Renewal, Submission
from flue.stores.sql.events import reserve, reserved
from flue.stores.sql.rows import SELECT, TIME_LEFT, keep_lease, lease, set_ready, to_submission
from flue.stores.sql.transaction import Transaction


def claim(
    tx: Transaction, claimants: Sequence[Claimant], now: int, lanes: Collection[str] | None = None
) -> list[Claim]:
    """Claim what is ready, oldest first, in these lanes (None: in all): one submission for each claimant (DUR-04).

    Who finds nothing is no owner for that: idle nodes would tell each other of it for ever (DUR-40).
    """
    owner = claimants[0].owner
    found = _ready(tx, owner, len(claimants)) if lanes is None else _ready_in(tx, owner, lanes)
    if found:
        keep_lease(tx, claimants[0], now)
    taken = zip(sorted(found), claimants, strict=False)
    claims = [_claim(to_submission(row), claimant, now) for row, claimant in taken]
    submissions = [claim.submission for claim in claims]
    tx.insert(
        "UPDATE submissions SET state = 'running', owner = ?, attempt_id = ?, started_at = ?, deadline_at = ?"
        " WHERE sequence = ?",
        [(owner, of.attempt_id, of.started_at, of.deadline_at, of.sequence) for of in submissions],
    )
    return _with_indices(tx, claims, claimants)


def _claim(before: Submission, claimant: Claimant, now: int) -> Claim:
    first = before.started_at is None
    return Claim(before.claimed(claimant, now), claimant.attempt_id, claimant.owner, first)


def _with_indices(tx: Transaction, claims: Sequence[Claim], claimants: Sequence[Claimant]) -> list[Claim]:
    """Reserve indices for attempts that are not the first."""
    counts = {claim.id: claimant.reserve for claim, claimant in zip(claims, claimants, strict=False) if not claim.first}
    reserve(tx, list(counts.items()))
    ends = dict(zip(counts, reserved(tx, list(counts)), strict=True))
    return [claim if claim.first else replace(claim, index=ends[claim.id] - counts[claim.id]) for claim in claims]


def _ready(tx: Transaction, owner: str, limit: int) -> list[Any]:
    found = []
    for home in ("", owner) if tx.dialect.homes else ("",):
        found += tx.rows(
            SELECT + "WHERE state = 'ready' AND home = ? ORDER BY sequence LIMIT ?" + tx.lock_free, home, limit
        )
    return found


def _ready_in(tx: Transaction, owner: str, lanes: Collection[str]) -> list[Any]:
    found = []
    for lane in sorted(set(lanes)):
        # The first condition names the index of lanes, the second the one that is ready in it.
        found += tx.rows(
            SELECT + "WHERE lane = ? AND state <> 'settled' AND state = 'ready' AND home IN ('', ?)" + tx.lock_free,
            lane,
            owner,
        )
    return found


def renew(tx: Transaction, owner: str, claims: Sequence[tuple[str, str]], lease_until: int) -> Renewal:
    """Prolong a lease; `claims` are pairs of submission id and attempt id."""
    lease(tx, owner, lease_until)
    held = {
        (id, attempt_id): reason
        for id, attempt_id, reason in tx.rows(
            "SELECT id, attempt_id, cancel_reason FROM submissions WHERE state = 'running' AND owner = ?", owner
        )
    }
    lost = tuple(claim[0] for claim in claims if claim not in held)
    asked = ((claim[0], held.get(claim)) for claim in claims)
    return Renewal(lost, tuple((id, reason) for id, reason in asked if reason is not None))


def retire(tx: Transaction, owner: str, now: int) -> None:
    """Free everything an owner has, in good order."""
    tx.execute("DELETE FROM owners WHERE owner = ?", owner)
    freed = tx.execute(
        f"UPDATE submissions SET state = 'ready', owner = NULL, attempt_id = NULL, {TIME_LEFT},"
        " deadline_at = NULL WHERE state = 'running' AND owner = ?",
        now,
        now,
        owner,
    ).rowcount
    freed += tx.execute(
        "UPDATE submissions SET home = '' WHERE home = ? AND home <> '' AND state <> 'settled'", owner
    ).rowcount
    if freed:
        tx.wake("work")


def list_owners(tx: Transaction) -> list[str]:
    """Return the owners that have not retired."""
    return [row[0] for row in tx.rows("SELECT owner FROM owners ORDER BY owner")]


def take_over(tx: Transaction, owner: str, gone: Collection[str], now: int, limit: int) -> int:
    """Free the work of owners that are gone or whose lease has lapsed; return how many submissions were freed."""
    lapsed = tx.rows(
        "SELECT owner FROM owners WHERE lease_until <= ? AND owner <> ? ORDER BY lease_until, owner" + tx.lock_row,
        now,
        owner,
    )
    freed = 0
    for other in sorted({row[0] for row in lapsed} | (set(gone) - {owner})):
        freed += _free_running(tx, other, _last_moment(tx, other, now), limit - freed)
        freed += _free_home(tx, other, limit - freed)
        if freed < limit:
            tx.execute("DELETE FROM owners WHERE owner = ?", other)
    if freed:
        tx.wake("work")
    return freed


def _last_moment(tx: Transaction, owner: str, now: int) -> int:
    """Return until when an owner may have worked: the end of its lease, or now, if it is gone before that (DUR-35)."""
    row = tx.row("SELECT lease_until FROM owners WHERE owner = ?", owner)
    return now if row is None else min(now, row[0])


def _free_running(tx: Transaction, owner: str, until: int, limit: int) -> int:
    rows = tx.rows(
        "SELECT sequence FROM submissions WHERE state = 'running' AND owner = ? ORDER BY sequence LIMIT ?" + tx.lock,
        owner,
        limit,
    )
    tx.insert(
        f"UPDATE submissions SET state = 'ready', owner = NULL, attempt_id = NULL, home = '', {TIME_LEFT},"
        " deadline_at = NULL, interruptions = interruptions + 1 WHERE sequence = ?",
        [(until, until, *row) for row in rows],
    )
    return len(rows)


def _free_home(tx: Transaction, home: str, limit: int) -> int:
    if not tx.dialect.homes:
        return 0
    rows = tx.rows(
        "SELECT sequence FROM submissions WHERE home = ? AND home <> '' AND state <> 'settled' LIMIT ?", home, limit
    )
    tx.insert("UPDATE submissions SET home = '' WHERE sequence = ?", rows)
    return len(rows)


def wake_due(tx: Transaction, now: int, limit: int) -> int:
    """Make parked submissions ready whose time has come."""
    due = tx.rows(
        "SELECT sequence, home FROM submissions WHERE state = 'parked' AND wake_at IS NOT NULL AND wake_at <= ?"
        " ORDER BY wake_at LIMIT ?" + tx.lock_free,
        now,
        limit,
    )
    for sequence, home in due:
        set_ready(tx, sequence, home)
    return len(due)


NEXT_DUE = (
    "SELECT (SELECT MIN(wake_at) FROM submissions WHERE state = 'parked' AND wake_at IS NOT NULL),"
    " (SELECT MIN(next_at) FROM schedules WHERE next_at IS NOT NULL),"
    " (SELECT lease_until FROM owners WHERE owner <> ? ORDER BY lease_until LIMIT 1)"
)


def next_due(tx: Transaction, owner: str) -> int | None:
    """Return the earliest time at which something becomes due by itself."""
    return min((time for time in tx.row(NEXT_DUE, owner) if time is not None), default=None)

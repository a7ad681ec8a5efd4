"""The tables. `{serial}`, `{int}` and `{text}` are a database's own words."""

from __future__ import annotations

from collections.abc import Sequence

Migration = Sequence[str]

DURABLE: tuple[str, ...] = (
    """CREATE TABLE submissions (
        sequence {serial},
        id {text} NOT NULL UNIQUE,
        lane {text} NOT NULL,
        kind {text} NOT NULL,
        target {text} NOT NULL,
        instance {text} NOT NULL,
        address {text} NOT NULL,
        state {text} NOT NULL,
        home {text} NOT NULL,
        key {text},
        digest {text} NOT NULL,
        accepted_at {int} NOT NULL,
        max_attempts {int} NOT NULL,
        time_left_ms {int} NOT NULL,
        interruptions {int} NOT NULL DEFAULT 0,
        owner {text},
        attempt_id {text},
        started_at {int},
        deadline_at {int},
        park_reason {text},
        wake_at {int},
        waiting_for {text} NOT NULL DEFAULT '[]',
        cancel_reason {text},
        settled_at {int},
        outcome {text},
        result {text},
        error {text},
        compacted {int} NOT NULL DEFAULT 0,
        recorded {text} NOT NULL,
        status {text} NOT NULL,
        generation {int} NOT NULL,
        restarted_from {text},
        restarted_as {text}
    )""",
    # Partial indexes: what is settled, which in time is nearly everything, costs nothing to those who look for work
    # (DUR-16).
    "CREATE INDEX submissions_ready ON submissions (home, sequence) WHERE state = 'ready'",
    "CREATE INDEX submissions_lane ON submissions (lane, sequence) WHERE state <> 'settled'",
    "CREATE INDEX submissions_owner ON submissions (owner) WHERE state = 'running'",
    "CREATE INDEX submissions_home ON submissions (home) WHERE state <> 'settled' AND home <> ''",
    "CREATE INDEX submissions_wake ON submissions (wake_at) WHERE state = 'parked' AND wake_at IS NOT NULL",
    "CREATE INDEX submissions_address ON submissions (address)",
    "CREATE INDEX submissions_settled ON submissions (settled_at) WHERE state = 'settled' AND recorded = ''",
    "CREATE INDEX submissions_ended ON submissions (settled_at) WHERE state = 'settled' AND recorded <> ''",
    "CREATE INDEX submissions_loose ON submissions (settled_at) WHERE state = 'settled' AND compacted = 0",
    "CREATE INDEX runs_all ON submissions (accepted_at, id) WHERE recorded <> ''",
    "CREATE INDEX runs_status ON submissions (status, accepted_at, id) WHERE recorded <> ''",
    "CREATE INDEX runs_target ON submissions (target, accepted_at, id) WHERE recorded <> ''",
    "CREATE INDEX runs_both ON submissions (target, status, accepted_at, id) WHERE recorded <> ''",
    # Apart from the rest of a submission, which is rewritten at every transition.
    "CREATE TABLE inputs (id {text} PRIMARY KEY, payload {text} NOT NULL)",
    "CREATE TABLE lanes (lane {text} PRIMARY KEY, depth {int} NOT NULL)",
    "CREATE TABLE owners (owner {text} PRIMARY KEY, lease_until {int} NOT NULL)",
    "CREATE INDEX owners_lease ON owners (lease_until, owner)",
    """CREATE TABLE receipts (
        key {text} PRIMARY KEY,
        submission {text} NOT NULL,
        digest {text} NOT NULL,
        accepted_at {int} NOT NULL,
        settled_at {int}
    )""",
    "CREATE INDEX receipts_settled ON receipts (settled_at) WHERE settled_at IS NOT NULL",
    """CREATE TABLE journal (
        number {serial},
        submission {int} NOT NULL,
        kind {text} NOT NULL,
        key {text} NOT NULL,
        body {text} NOT NULL
    )""",
    "CREATE INDEX journal_submission ON journal (submission, number)",
    """CREATE TABLE steps (
        number {serial},
        address {text} NOT NULL,
        name {text} NOT NULL,
        body {text} NOT NULL,
        UNIQUE (address, name)
    )""",
    """CREATE TABLE messages (
        number {serial},
        address {text} NOT NULL,
        id {text} NOT NULL,
        name {text} NOT NULL,
        body {text} NOT NULL,
        consumed {int} NOT NULL DEFAULT 0,
        UNIQUE (address, id)
    )""",
    "CREATE TABLE logs (log {text} PRIMARY KEY, reserved {int} NOT NULL)",
    "CREATE TABLE streams (stream {text} PRIMARY KEY, position {int} NOT NULL)",
    """CREATE TABLE events (
        log {text} NOT NULL,
        first {int} NOT NULL,
        last {int} NOT NULL,
        body {text} NOT NULL,
        stream {text} NOT NULL,
        position {int} NOT NULL,
        deltas {int} NOT NULL,
        PRIMARY KEY (log, last)
    )""",
    "CREATE INDEX events_stream ON events (stream, position) WHERE stream <> ''",
    "CREATE TABLE schedules (id {text} PRIMARY KEY, spec {text} NOT NULL, next_at {int})",
    "CREATE INDEX schedules_next ON schedules (next_at, id) WHERE next_at IS NOT NULL",
)


def durable_tables(*, serial: str, integer: str, text: str) -> tuple[str, ...]:
    """Return the statements in a database's own words."""
    return tuple(
        statement.replace("{serial}", serial).replace("{int}", integer).replace("{text}", text) for statement in DURABLE
    )


SQLITE_MIGRATIONS: tuple[Migration, ...] = (
    (
        """CREATE TABLE sessions (
            number INTEGER PRIMARY KEY,
            key TEXT NOT NULL UNIQUE,
            version INTEGER NOT NULL,
            entries INTEGER NOT NULL,
            leaf_id TEXT,
            metadata TEXT NOT NULL,
            created_at TEXT NOT NULL,
            updated_at TEXT NOT NULL
        )""",
        # An ordinary table with an index, not clustered by session: the bodies of a group of appends then share
        # the last pages of the file instead of dirtying one page for each session.
        """CREATE TABLE entries (
            session INTEGER NOT NULL,
            position INTEGER NOT NULL,
            id TEXT NOT NULL,
            body TEXT NOT NULL,
            PRIMARY KEY (session, position)
        )""",
    ),
    durable_tables(serial="INTEGER PRIMARY KEY AUTOINCREMENT", integer="INTEGER", text="TEXT"),
    (
        # A session that was written without them is read to its beginning, until it is written again.
        "ALTER TABLE sessions ADD COLUMN start INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE sessions ADD COLUMN usage TEXT",
    ),
)
"""What turns format n into format n+1, as SQL; a new database starts at format 0. Only ever add to the end."""

"""What a durable store keeps, as frozen data: submissions, their journal, messages, events, runs and schedules.

All times are milliseconds since the epoch and come from the caller. Texts named `payload`, `body`, `result` and
`error` are JSON, opaque to stores: what releases have left in them is read by all later ones (DUR-39).
`docs/durability.md` draws the states and the transitions between them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, overload

from flue.ports import EntryRow, SessionHead

Kind = Literal["prompt", "dispatch", "workflow"]
State = Literal["queued", "running", "parked", "settled"]
OutcomeKind = Literal["completed", "failed", "aborted"]
ParkReason = Literal["sleep", "event", "approval", "budget", "retry"]
RunKind = Literal["workflow", "agent"]
RunStatus = Literal["active", "completed", "errored"]
JournalKind = Literal["request", "answer", "tool_started", "tool_result", "note", "settled"]

# ------------------------------------------------------------------------------------------------ admission


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Work to be accepted.

    `lane` orders it: the admissions of one lane run one after the other, in the order they were admitted. A session's
    lane is its storage key; a workflow run is a lane of its own. `target` names the agent or workflow, `instance` the
    agent instance. `address` is where messages and recorded steps of the work are kept; it outlives a restart
    (`ctx.lineage_id`) and is the id when not given. `key` makes the admission idempotent: the same key and content
    give the submission that is already there. `home` is the owner that should run it (None: any). `recorded` makes
    a run of it, which can be listed. `events` are the first of its log; `reserve` more indices are reserved after them.

    `max_attempts` and `timeout_ms` bound it: how often it may be begun after interruptions, and how long it may run
    in all, time in the queue and time parked not counted. `alone` has it refused where it would have to wait.
    """

    id: str
    lane: str
    kind: Kind
    target: str
    payload: str
    instance: str = ""
    address: str = ""
    key: str | None = None
    home: str | None = None
    recorded: RunKind | None = None
    max_attempts: int = 10
    timeout_ms: int = 3_600_000
    events: tuple[EventRow, ...] = ()
    reserve: int = 0
    alone: bool = False

    @property
    def mailbox(self) -> str:
        """Return the address that messages to this work are sent to."""
        return self.address or self.id

    @property
    def digest(self) -> str:
        """Return a hash of the content, by which a repeated admission is told from a conflicting one.

        It is taken from the payload's text: callers encode JSON with sorted keys. A lane of its own is none of the
        content: it is another one each time that the same is asked for.
        """
        lane = "" if self.lane == self.id else self.lane
        parts = (self.kind, lane, self.target, self.instance, self.payload)
        return hashlib.sha256(b"".join(_framed(part.encode("utf-8", "surrogatepass")) for part in parts)).hexdigest()


def _framed(part: bytes) -> bytes:
    return len(part).to_bytes(8, "big") + part


@dataclass(frozen=True, slots=True)
class Claimant:
    """Who claims: an owner, and the id of the attempt (fresh, never used before).

    The owner's lease is prolonged to `lease_until` when less than half of that is left. `reserve` is how many indices
    of the event log an attempt gets that is not the first; for that one they are reserved when work is accepted.
    """

    owner: str
    attempt_id: str
    lease_until: int
    reserve: int = 0


class Claimants(Sequence[Claimant]):
    """Many claimants of one owner, each made when it is asked for: as a rule there is work for few of them.

    The first has the attempt id that is given, the others have it with a number behind it.
    """

    def __init__(self, first: Claimant, count: int) -> None:
        self._first = first
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> Claimant: ...
    @overload
    def __getitem__(self, at: slice) -> list[Claimant]: ...
    def __getitem__(self, at: int | slice) -> Claimant | list[Claimant]:
        if isinstance(at, slice):
            return [self[one] for one in range(*at.indices(self._count))]
        if not 0 <= at < self._count:
            raise IndexError(at)
        return replace(self._first, attempt_id=f"{self._first.attempt_id}.{at}") if at else self._first


def lease_is_short(lease_until: int, claimant: Claimant, now: int) -> bool:
    """Say whether less than half of what a claimant asks for is left of its owner's lease."""
    return 2 * (lease_until - now) < claimant.lease_until - now


@dataclass(frozen=True, slots=True)
class Submission:
    """Accepted work as it stands.

    `sequence` orders all submissions of a store. `interruptions` counts attempts that ended without a word: the
    owner died or lost its lease. `deadline_at` is set while it runs; `time_left_ms` is what remains while it does
    not. `wake_at` and `waiting_for` say what a parked submission waits for. `cancel_reason` is set once somebody
    asked for an abort.
    """

    sequence: int
    id: str
    lane: str
    kind: Kind
    target: str
    instance: str
    address: str
    state: State
    payload: str
    accepted_at: int
    max_attempts: int
    time_left_ms: int
    interruptions: int = 0
    key: str | None = None
    owner: str | None = None
    attempt_id: str | None = None
    started_at: int | None = None
    deadline_at: int | None = None
    park_reason: ParkReason | None = None
    wake_at: int | None = None
    waiting_for: tuple[str, ...] = ()
    cancel_reason: str | None = None
    settled_at: int | None = None
    outcome: OutcomeKind | None = None
    result: str | None = None
    error: str | None = None

    def claimed(self, claimant: Claimant, now: int) -> Submission:
        """Return it as it stands once it is claimed: its time runs from now on."""
        return replace(
            self,
            state="running",
            owner=claimant.owner,
            attempt_id=claimant.attempt_id,
            started_at=now if self.started_at is None else self.started_at,
            deadline_at=now + self.time_left_ms,
        )


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to work on a submission, until it is settled, parked, released or lost.

    Every transition of a worker names its claim. A claim that was lost writes nothing, ever (fencing). `first` says
    that nobody has held one for the submission before. `index` is the first of the indices reserved for the attempt.
    """

    submission: Submission
    attempt_id: str
    owner: str
    first: bool = False
    index: int = 0

    @property
    def id(self) -> str:
        """Return the submission's id."""
        return self.submission.id


@dataclass(frozen=True, slots=True)
class Admitted:
    """The receipt of an admission.

    `created` is False when the key or id was there before with the same content. `claim` is given when a claimant
    was named and the lane was free: the work may start at once. `ahead` is how many submissions of the lane come
    first.
    """

    id: str
    accepted_at: int
    created: bool
    ahead: int = 0
    claim: Claim | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What is kept of an idempotency key, longer than its submission."""

    key: str
    submission_id: str
    digest: str
    accepted_at: int
    settled_at: int | None = None


# -------------------------------------------------------------------------------------------------- progress


@dataclass(frozen=True, slots=True)
class JournalRecord:
    """One step of an attempt.

    `request`: a model request begins (`key`: the turn). `answer`: the assistant message and its tool calls are in the
    session; what has streamed before that is in the event log alone. `tool_started`, `tool_result`: (`key`: the tool
    call's id). `note`: what an engine adds of its own. `settled` is written by `settle` alone, once.
    """

    kind: JournalKind
    key: str
    body: str = "{}"


@dataclass(frozen=True, slots=True)
class SessionAppend:
    """Entries for a session, as `Store.append_entries` takes them."""

    key: str
    head: SessionHead
    entries: tuple[EntryRow, ...]
    expected: int
    after: str | None = None


@dataclass(frozen=True, slots=True)
class EventRow:
    """Events `first` to `last` of a log, several to a row when they are deltas.

    `log` is a run's or a submission's id: one writer at a time, indices from `reserve_indices`. `stream` also puts
    the row into the log of an agent instance, at an offset that the store gives. `deltas` marks rows that retention
    may drop while it keeps the rest.
    """

    log: str
    first: int
    last: int
    body: str
    stream: str = ""
    deltas: bool = False


@dataclass(frozen=True, slots=True)
class StoredEvents:
    """An `EventRow` as read: `offset` is its place in the stream (0: in none)."""

    row: EventRow
    offset: int = 0


@dataclass(frozen=True, slots=True)
class StepResult:
    """The recorded result of a workflow's step. `name` is unique within the address."""

    name: str
    body: str


@dataclass(frozen=True, slots=True)
class Message:
    """What work waits for from outside: an event, an approval, a raised budget. `id` is unique within an address."""

    id: str
    name: str
    body: str = "null"


@dataclass(frozen=True, slots=True, kw_only=True)
class Writes:
    """What a transition writes beside itself, in the same transaction. `consumed` are ids of messages taken."""

    journal: tuple[JournalRecord, ...] = ()
    sessions: tuple[SessionAppend, ...] = ()
    events: tuple[EventRow, ...] = ()
    steps: tuple[StepResult, ...] = ()
    consumed: tuple[str, ...] = ()


NOTHING = Writes()


@dataclass(frozen=True, slots=True)
class Wait:
    """What a submission is parked for: a time, messages with one of these names, or whichever comes first."""

    reason: ParkReason
    wake_at: int | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a submission ended. `result` and `error` are JSON texts."""

    kind: OutcomeKind
    result: str | None = None
    error: str | None = None

    @classmethod
    def aborted(cls, reason: str) -> Outcome:
        """Return how a submission ends that was aborted before it began."""
        return cls("aborted", error=json.dumps({"name": "AbortError", "message": reason}))

    @property
    def record(self) -> JournalRecord:
        """Return the last record of the journal."""
        return JournalRecord("settled", self.kind)


@dataclass(frozen=True, slots=True)
class Renewal:
    """What a renewal found: ids of claims that are lost, and of those somebody wants aborted with the reason."""

    lost: tuple[str, ...] = ()
    cancelled: tuple[tuple[str, str], ...] = ()


# ------------------------------------------------------------------------------------------- runs, schedules


@dataclass(frozen=True, slots=True)
class Run:
    """A recorded run. `payload` and `result` are None in lists and empty of content until known.

    A run that was interrupted names its replacement (`restarted_as`), which names it (`restarted_from`);
    `lineage_id` is the first run of the chain, `generation` counts from 0 along it.
    """

    run_id: str
    kind: RunKind
    target: str
    instance: str
    status: RunStatus
    started_at: int
    lineage_id: str
    generation: int = 0
    ended_at: int | None = None
    restarted_from: str | None = None
    restarted_as: str | None = None
    payload: str | None = None
    result: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunQuery:
    """Which runs to list, newest first. `before` is `(started_at, run_id)` of the last run of the page before."""

    status: RunStatus | None = None
    target: str | None = None
    limit: int = 100
    before: tuple[int, str] | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """Something that fires at `next_at` (None: never again). `spec` says when and what, as JSON."""

    id: str
    spec: str
    next_at: int | None


# ---------------------------------------------------------------------------------------- waking, retention

WakeKind = Literal["work", "cancel", "events", "gone"]


@dataclass(frozen=True, slots=True)
class Wake:
    """Something changed.

    There is `work` to claim, an abort was asked for (`cancel`), a log grew (`events`), or another owner's process has
    ended (`gone`) and its work is to be taken over.
    `owner` is whom it concerns (empty: everybody); `key` names the log (empty: look at any that you follow).
    """

    kind: WakeKind
    owner: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What may go. Each is a time: what ended before it is deleted (None: kept).

    `submissions` takes settled ones that are no recorded run, with their journal and events; `runs` takes recorded
    ones; `deltas` only the delta rows of settled work; `receipts` takes idempotency keys of settled work, which should
    outlive the submissions.
    """

    submissions: int | None = None
    runs: int | None = None
    deltas: int | None = None
    receipts: int | None = None

"""The port of durable work: the transitions of the state machine as methods of a store.

Every transition is atomic, and queued at the call, in call order; awaiting it waits until it is durable. Awaiting
many at once costs one disk sync. A cancelled await does not take a transition back. Failures raise
`DurabilityError`: nothing of the transition was written. A model in a few dicts says what all stores do (DUR-18).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Protocol

from flue.durable.records import (
    NOTHING,
    Admission,
    Admitted,
    Claim,
    Claimant,
    EventRow,
    JournalRecord,
    Message,
    Outcome,
    Receipt,
    Renewal,
    Retention,
    Run,
    RunQuery,
    Schedule,
    StepResult,
    StoredEvents,
    Submission,
    Wait,
    Wake,
    Writes,
)
from flue.ports import Store


class DurableStore(Store, Protocol):
    """A store that also keeps work.

    An *owner* is one running engine, named by an id that is never used again. It holds a lease, which covers all its
    claims; when it lapses, or the store can tell that the owner's process is gone, others take its work over.
    """

    # ------------------------------------------------------------------------------------------------ owners

    def enlist(self, owner: str, *, now: int, lease_until: int) -> Awaitable[None]:
        """Begin to own: from here on the store can tell others that this process is gone.

        Whenever an owner is added, by this or by what it claims, all others are told that there may be `work`: they
        have to look when its lease is over, which is one of the times that `next_due` returns.
        """
        ...

    def renew(self, owner: str, claims: Sequence[Claim], *, now: int, lease_until: int) -> Awaitable[Renewal]:
        """Prolong the lease; say which of the claims are lost and which somebody wants aborted.

        An owner that was taken over is enlisted anew; all its claims are lost.
        """
        ...

    def retire(self, owner: str, *, now: int) -> Awaitable[None]:
        """Stop owning in good order: others can claim at once what it still holds, and it counts as no interruption."""
        ...

    def take_over(self, owner: str, *, now: int, limit: int = 1000) -> Awaitable[int]:
        """Free the work of owners that are gone or whose lease has lapsed; return how many submissions were freed.

        A freed submission that was running has one more interruption and is first in its lane, ready to be claimed.
        Of its time is gone what passed until now, but no more than until the end of that lease. At most `limit` at a
        time; call again until it returns 0.
        """
        ...

    def listen(self, listener: Callable[[Wake], None], *, events: bool = True) -> Callable[[], None]:
        """Call `listener` in this event loop when something changed, by whomever; return what ends that.

        Without `events` not when a log grew, which costs whoever writes, in other processes too, while anybody listens.
        Wake-ups may come twice and for nothing, and one may be lost with a connection: they save polling, `next_due`
        and a look at the start make sure.
        """
        ...

    # --------------------------------------------------------------------------------------------- lifecycle

    def admit(self, admission: Admission, *, now: int, claimant: Claimant | None = None) -> Awaitable[Admitted]:
        """Accept work, once per id and key; with a claimant also claim it when its lane is free.

        Raises `DurabilityError` (code `idempotency_conflict`) for a known key or id with other content, and
        `SessionError` (`session_busy`) for one that would have to wait and is to be `alone`.
        """
        ...

    def claim(
        self, claimants: Sequence[Claimant], *, now: int, lanes: Collection[str] | None = None
    ) -> Awaitable[list[Claim]]:
        """Claim work that is first in its lane, oldest first: one submission for each claimant, all of one owner.

        With `lanes` only work in one of these. Of `claimants`, which may be made as they are asked for and by any
        thread, only those that get work are looked at, and the first.
        """
        ...

    def checkpoint(self, claim: Claim, writes: Writes) -> Awaitable[None]:
        """Record progress. Raises `DurabilityError`: `attempt_lost`, `session_conflict`, `event_index`."""
        ...

    def park(self, claim: Claim, wait: Wait, *, now: int, writes: Writes = NOTHING) -> Awaitable[bool]:
        """Give the claim up until a time or a message comes; the lane stays blocked.

        Returns False, and the claim goes on, when a message it would wait for is there already or an abort was asked
        for. `writes` are written either way. Raises as `checkpoint`.
        """
        ...

    def release(
        self,
        claim: Claim,
        *,
        now: int,
        not_before: int | None = None,
        interrupted: bool = False,
        writes: Writes = NOTHING,
    ) -> Awaitable[None]:
        """Give the claim back unfinished, to be claimed again, at once or from a time on.

        `interrupted` counts it as an interruption. Raises as `checkpoint`.
        """
        ...

    def settle(self, claim: Claim, outcome: Outcome, *, now: int, writes: Writes = NOTHING) -> Awaitable[None]:
        """End the submission, and its run; the next of its lane becomes ready. Raises as `checkpoint`."""
        ...

    def restart(
        self, claim: Claim, admission: Admission, *, error: str, now: int, writes: Writes = NOTHING
    ) -> Awaitable[Admitted]:
        """End a run as failed with `error` and admit its replacement, linked to it.

        The replacement takes over the address (so recorded steps count) and is one generation on. Because only the
        holder of a claim can do this, a run is replaced once. Raises as `checkpoint` and `admit`.
        """
        ...

    def cancel(
        self, submission_id: str, reason: str, *, now: int, events: Sequence[EventRow] = ()
    ) -> Awaitable[Submission | None]:
        """Ask for an abort; return the submission as it then stands, None when it is unknown.

        What never started is settled as aborted at once; `events` are what its log holds then. What is parked or waits
        to be taken up again becomes ready, so that a worker can end it in good order. A running attempt learns of it by
        a wake-up and by `renew`. Raises `DurabilityError` when the events have no place in the log.
        """
        ...

    def deliver(self, address: str, message: Message, *, now: int) -> Awaitable[bool]:
        """Put a message into a mailbox, once per id, and wake what waits for its name.

        Returns False, and keeps nothing, when no unsettled work has that address.
        """
        ...

    def wake_due(self, *, now: int, limit: int = 1000) -> Awaitable[int]:
        """Make parked submissions ready whose time has come; return how many."""
        ...

    async def next_due(self, owner: str) -> int | None:
        """Return when there is next something to do that nobody will say: a wake-up, a schedule, another's lease."""
        ...

    # ------------------------------------------------------------------------------------------------- reads

    async def get_submission(self, submission_id: str) -> Submission | None:
        """Return a submission."""
        ...

    async def get_receipt(self, key: str) -> Receipt | None:
        """Return what is kept of an idempotency key."""
        ...

    async def list_lane(self, lane: str) -> list[Submission]:
        """Return the unsettled submissions of a lane, first to run first."""
        ...

    async def load_journal(self, submission_id: str) -> list[JournalRecord]:
        """Return the journal in order, over all attempts."""
        ...

    async def load_steps(self, address: str) -> list[StepResult]:
        """Return the recorded steps in the order they were recorded."""
        ...

    async def load_messages(self, address: str) -> list[Message]:
        """Return the messages not consumed yet, oldest first."""
        ...

    # ------------------------------------------------------------------------------------------------ events

    def reserve_indices(self, log: str, count: int) -> Awaitable[int]:
        """Return the first of `count` indices that nobody was given before."""
        ...

    async def read_events(self, log: str, *, start: int = 0, limit: int = 1000) -> list[StoredEvents]:
        """Return rows of a log from the one that holds index `start` on, or the next after it."""
        ...

    async def read_stream(self, stream: str, *, after: int = 0, limit: int = 1000) -> list[StoredEvents]:
        """Return rows of an agent instance's log with offsets above `after`."""
        ...

    # --------------------------------------------------------------------------------------- runs, schedules

    async def get_run(self, run_id: str) -> Run | None:
        """Return a run with its payload, result and error."""
        ...

    async def list_runs(self, query: RunQuery) -> list[Run]:
        """Return a page of runs, without payload, result and error."""
        ...

    def put_schedule(self, schedule: Schedule) -> Awaitable[Schedule]:
        """Keep a schedule; one with the same `spec` stays as it is, with its `next_at`. Returns what is kept."""
        ...

    def delete_schedules(self, schedule_ids: Sequence[str]) -> Awaitable[None]:
        """Forget schedules; missing ones are fine."""
        ...

    async def list_schedules(self, *, due: int | None = None) -> list[Schedule]:
        """Return all schedules by id, or those due at a time, earliest first."""
        ...

    def fire(
        self, schedule: Schedule, next_at: int | None, admission: Admission | None, *, now: int
    ) -> Awaitable[Admitted | None]:
        """Move a schedule on and admit what it starts, if that is anything; None when another node was faster.

        The schedule must still have the `spec` and `next_at` given.
        """
        ...

    # --------------------------------------------------------------------------------------------- retention

    def prune(self, retention: Retention, *, limit: int = 500) -> Awaitable[int]:
        """Delete up to `limit` things that may go, with all that belongs to them; return how many. Repeat until 0."""
        ...

"""The engine: one owner of claims. It claims accepted work, has it driven, and sees to it that it comes to rest.

    at the start    enlist; take over the work of owners that are gone; claim
    then            sleep until the store says that something changed, or something is due
    on `work`       claim what is free
    on `cancel`     renew the lease, which tells which claims are to be aborted
    on `gone`       take over, claim
    when due        take over, wake what is parked, fire schedules, claim
    every third of a lease, while there are claims: renew
    at the end      stop work at its turn boundaries, give back the rest, retire

What is accepted by `admit` starts at once, without a look into the store, when its lane is free.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from flue.durable.port import DurableStore
from flue.durable.records import Admission, Admitted, Claim, Claimant, Claimants, EventRow, Outcome, Submission, Wake
from flue.engine.attempt import Attempt, Ending, Restarted, Settled
from flue.engine.expected import Expected
from flue.engine.place import RESERVED
from flue.engine.pruning import KeepFor, Pruning
from flue.engine.tasks import Tasks
from flue.engine.watch import Watches
from flue.engine.workers import Workers, quietly
from flue.errors import DurabilityError, UsageError
from flue.ports import Clock, Ids

logger = logging.getLogger("flue")
_BATCH = 256
_SOON = 1.0
_TAKEN_UP = "A process ended without a word; what it had accepted is taken up again (%d)."
_LEFT = "A process ended without a word; what it had accepted waits for a server, or for the next who asks there (%d)."


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """`lease` and `grace` in seconds.

    `lease` is how long other nodes wait before they take over the work of one that they no longer hear of. `grace` is
    how long work that was stopped may take to put itself in order. `concurrency` is how much runs at once;
    `keep` how long what has ended is kept.

    With `take_over` the engine claims all the work that is free, whoever accepted it, and fires schedules: what servers
    do. Without, it claims what was accepted or adopted here, and what stands before that in its lanes. With
    `log_failures` it logs what the application's own code raised, with the traceback.

    With `hibernates` no timer is pending while nothing runs here, for a host that puts the process to sleep then. Such
    a host has an alarm that the store sets and whose handler calls `look()`, which also deletes what is too old to
    keep; and a store whose wake-ups are never lost.
    Without `schedules` it leaves schedules to others.
    """

    lease: float = 30.0
    grace: float = 5.0
    concurrency: int = 1000
    keep: KeepFor = field(default_factory=KeepFor)
    take_over: bool = True
    log_failures: bool = False
    hibernates: bool = False
    schedules: bool = True


class Engine:
    """Owns claims on the work of one store, and has `drive` bring each to rest. One for each event loop and store.

    `runs_changed` is awaited when a run was accepted, before whoever asked for it hears of that, and started when one
    has come to rest.
    """

    def __init__(
        self,
        store: DurableStore,
        clock: Clock,
        ids: Ids,
        drive: Callable[[Attempt], Awaitable[Ending]],
        *,
        owner: str | None = None,
        fire_due: Callable[[], Awaitable[None]] | None = None,
        runs_changed: Callable[[], Coroutine[Any, Any, None]] | None = None,
        settings: EngineSettings | None = None,
    ) -> None:
        self.owner = owner or ids.ulid()
        self.settings = settings or EngineSettings()
        self.watches = Watches(store, clock, looks_again=not self.settings.hibernates)
        self._store = store
        self._clock = clock
        self._ids = ids
        self._fire_due = fire_due
        self._runs_changed = runs_changed
        self._pruning = Pruning(store, clock, self.settings.keep)
        self._drive = drive
        self._expected = Expected()
        self._workers = Workers(
            store,
            clock,
            self._driven,
            grace=self.settings.grace,
            log_failures=self.settings.log_failures,
            rested=self._rested,
            renew=self._renew,
        )
        self._tasks = self._workers.tasks
        self._admitting = Tasks()
        self._pending: set[str] = {"gone", "due", "work"}
        self._woken = asyncio.Event()
        self._started: asyncio.Future[None] | None = None
        self._heart: asyncio.Task[None] | None = None
        self._unlisten: Callable[[], None] | None = None
        self._held = 0
        """Places of what may begin, and is being asked for."""
        self._full = False
        """Whether something may wait for a place."""
        self._draining = False
        self._retiring = False

    # ------------------------------------------------------------------------------------------- life

    async def start(self) -> None:
        """Begin to work; does nothing the second time. Raises `DurabilityError` when the store cannot be used."""
        if self._started is None:
            self._started = asyncio.ensure_future(self._start())
        await asyncio.shield(self._started)

    async def _start(self) -> None:
        now = self._clock.now_ms()
        try:
            await self._store.enlist(self.owner, now=now, lease_until=self._lease_until(now))
        except BaseException:
            self._started = None
            raise
        if self._draining:
            return
        self._unlisten = self._store.listen(self._on_wake, events=False)
        self._tasks.start(self._serve(), name="flue engine")

    async def drain(self, timeout: float) -> None:
        """Stop: let work stop where it can be continued, give back what has not by `timeout`.

        Nothing more is accepted but what is dispatched: nobody waits for that, and work that is still under way passes
        some on. When this returns nothing runs any more. What was given back goes on elsewhere, or here after the next
        start.
        """
        if self._draining:
            return
        self._draining, self._retiring = True, self._started is None
        if self._retiring:
            return
        await self._workers.give_up(timeout)
        self._retiring = True
        await self._admitting.finish(_SOON)
        if self._unlisten is not None:
            self._unlisten()
        await self._tasks.cancel(_SOON)
        self.watches.close()
        await quietly(self._store.retire(self.owner, now=self._clock.now_ms()), "retired")

    # -------------------------------------------------------------------------------------- accepting

    async def admit(self, admission: Admission, *, request: Any = None) -> Admitted:
        """Accept work; it starts at once where its lane is free. Durable when this returns (DUR-23).

        A caller that is cancelled meanwhile changes nothing: what was accepted is done. Raises `DurabilityError`, and
        `UsageError` (`shutting_down`) once the engine is about to end.
        """
        if self._retiring or (self._draining and admission.kind != "dispatch"):
            raise _shutting_down()
        await self.start()
        admitting = self._admitting.start(self._admit(admission, request))
        try:
            return await asyncio.shield(admitting)
        except asyncio.CancelledError:
            if admitting.cancelled():  # by `drain`: the store has not answered in time
                raise _shutting_down() from None
            raise

    async def outcome(
        self, submission_id: str, *, until: Callable[[Submission], bool] | None = None
    ) -> Outcome | Submission:
        """Wait for the end of a submission, wherever it runs; see `Watches.outcome`."""
        attempt = self._workers.find(submission_id)
        outcome = await asyncio.shield(attempt.rest) if attempt is not None else None
        if outcome is not None:
            return outcome
        found = await self.watches.outcome(submission_id, until=until)
        if isinstance(found, Outcome):
            self._expected.discard(submission_id)
        return found

    async def _admit(self, admission: Admission, request: Any) -> Admitted:
        now = self._clock.now_ms()
        # Before it is there: it may be ready to be claimed as soon as it is.
        self._expect(admission.id, admission.lane)
        with self._holding(int(not self._draining and self._has_room())) as places:
            claimant = self._claimant(now) if places else None
            try:
                admitted = await self._store.admit(admission, now=now, claimant=claimant)
            except BaseException:
                self._expected.discard(admission.id)
                raise
            if admitted.claim is not None:
                self._begin(admitted.claim, request)
        if not admitted.created:
            self._expected.discard(admission.id)
        elif admitted.claim is None and not self.settings.take_over:
            self._look("work")  # what stands before it may be free, and was left alone so far
        if admission.recorded and self._runs_changed is not None:
            await self._runs_changed()
        return admitted

    def adopt(self, submission: Submission) -> None:
        """Have accepted work done here as soon as nobody else does it, as if it had been accepted here."""
        self._expect(submission.id, submission.lane)
        self._look("work")

    @property
    def expected(self) -> tuple[str, ...]:
        """Return the ids of what was accepted or adopted here and is not known to have ended.

        Empty for an engine that takes over everything.
        """
        return self._expected.ids

    def _expect(self, submission_id: str, lane: str) -> None:
        if not self.settings.take_over:
            self._expected.add(submission_id, lane)

    async def abort(self, submission_id: str, reason: str, *, events: Sequence[EventRow] = ()) -> Submission | None:
        """Have work aborted; return it as it then stands, None when it is unknown. Durable when this returns.

        `events` are what the log holds of work that never began.
        """
        found = await self._store.cancel(submission_id, reason, now=self._clock.now_ms(), events=events)
        if found is not None and found.outcome is not None:
            self._expected.discard(submission_id)
        attempt = self._workers.find(submission_id)
        if attempt is not None:
            self._workers.stop(attempt, "abort", reason)
        self.watches.changed(submission_id)
        return found

    def poke(self, address: str) -> None:
        """Tell work that runs here that a message has come for it, whichever run of its chain it is."""
        for attempt in self._workers:
            if attempt.submission.address == address:
                self._workers.poke(attempt)

    def look(self) -> None:
        """Look for what is due now: a schedule may have been added."""
        self._look("due")

    @property
    def fires_schedules(self) -> bool:
        """Say whether it starts what schedules start."""
        return self.settings.take_over and self.settings.schedules

    @property
    def running(self) -> int:
        """Return how many attempts are under way."""
        return len(self._workers)

    # ---------------------------------------------------------------------------------------- serving

    def _on_wake(self, wake: Wake) -> None:
        if wake.owner in ("", self.owner):
            self._look(wake.kind)

    def _look(self, what: str) -> None:
        self._pending.add(what)
        self._woken.set()

    async def _serve(self) -> None:
        while True:
            self._woken.clear()
            pending, self._pending = self._pending, set()
            try:
                await self._round(pending)
                sleep = await self._sleep_time()
            except DurabilityError as error:
                logger.warning("The store cannot be reached, trying again in %g s: %s", _SOON, error)
                self._pending |= pending
                await self._clock.sleep(_SOON)
                continue
            await self._sleep(sleep)

    async def _round(self, pending: set[str]) -> None:
        now = self._clock.now_ms()
        if "cancel" in pending:
            await self._renew()
        if pending & {"gone", "due"}:
            await self.take_over()
            while await self._store.wake_due(now=now):
                pass
        if "due" in pending and self._fire_due is not None and self.fires_schedules:
            await self._fire_due()
        if pending & {"gone", "due", "work"}:
            await self._claim()
        if "due" in pending and self.settings.hibernates and self._pruning.due:
            self._tasks.start(self._pruning.run())

    async def take_over(self) -> None:
        """Free the work of processes that have ended without a word, so that it can be claimed (DUR-38)."""
        freed = 0
        while more := await self._store.take_over(self.owner, now=self._clock.now_ms()):
            freed += more
        if freed:
            logger.warning(_TAKEN_UP if self.settings.take_over else _LEFT, freed)

    async def _claim(self) -> None:
        lanes = None if self.settings.take_over else self._expected.lanes
        if lanes is not None and not lanes:
            return
        while not self._draining and self._has_room():
            now = self._clock.now_ms()
            claimants = Claimants(self._claimant(now), min(self._room, _BATCH))
            with self._holding(len(claimants)):
                claims = await self._store.claim(claimants, now=now, lanes=lanes)
                for claim in claims:
                    self._begin(claim)
            if len(claims) < len(claimants):
                return

    @property
    def _room(self) -> int:
        return self.settings.concurrency - len(self._workers) - self._held

    def _has_room(self) -> bool:
        """Say whether one more may begin. If not, what waits is looked for when a place is free."""
        self._full = self._full or self._room <= 0
        return self._room > 0

    @contextmanager
    def _holding(self, places: int) -> Iterator[int]:
        """Keep places for what may begin, while the store is asked for it."""
        self._held += places
        try:
            yield places
        finally:
            self._held -= places
            self._look_if_free()

    def _look_if_free(self) -> None:
        if self._full and self._room > 0:
            self._full = False
            self._look("work")

    async def _sleep_time(self) -> float | None:
        """Return the seconds until something is due by itself, None for never."""
        if self.settings.hibernates:
            return None
        due = await self._store.next_due(self.owner)
        # What is due and stays so, as another project's schedule in the same database, must not keep the loop busy.
        return None if due is None else max((due - self._clock.now_ms()) / 1000, _SOON)

    async def _sleep(self, seconds: float | None) -> None:
        woken = asyncio.create_task(self._woken.wait())
        tasks: set[asyncio.Task[Any]] = {woken}
        if seconds is not None:
            tasks.add(asyncio.create_task(self._clock.sleep(seconds)))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        if not self._woken.is_set():
            self._pending.add("due")

    # ------------------------------------------------------------------------------------------ lease

    async def _beat(self) -> None:
        while self._workers:
            await self._clock.sleep(self._interval)
            self._watch_deadlines()
            try:
                await self._renew()
            except DurabilityError as error:
                logger.warning("The lease could not be renewed: %s", error)

    async def _renew(self) -> None:
        now = self._clock.now_ms()
        claims = [attempt.claim for attempt in self._workers]
        renewal = await self._store.renew(self.owner, claims, now=now, lease_until=self._lease_until(now))
        for id in renewal.lost:
            if (attempt := self._workers.find(id)) is not None:
                self._workers.stop(attempt, "lost")
        for id, reason in renewal.cancelled:
            if (attempt := self._workers.find(id)) is not None:
                self._workers.stop(attempt, "abort", reason)
        for attempt in self._workers:
            if attempt.waits():
                self._workers.poke(attempt)

    def _watch_deadlines(self) -> None:
        """Set an alarm for what is to end before this is looked at again."""
        horizon = self._clock.now_ms() + self._interval * 1000
        for attempt in self._workers:
            deadline = attempt.submission.deadline_at
            if deadline is not None and deadline <= horizon:
                self._workers.stop_at(attempt, deadline)

    @property
    def _interval(self) -> float:
        return self.settings.lease / 3

    def _claimant(self, now: int) -> Claimant:
        return Claimant(self.owner, self._ids.ulid(), self._lease_until(now), RESERVED)

    def _lease_until(self, now: int) -> int:
        return now + round(self.settings.lease * 1000)

    # --------------------------------------------------------------------------------------- attempts

    def _begin(self, claim: Claim, request: Any = None) -> None:
        if self._draining:
            return  # begun now it would be interrupted; untouched it is given back when the owner retires
        attempt = self._workers.begin(claim, request)
        if self._heart is None or self._heart.done():
            self._heart = self._tasks.start(self._beat())
        deadline = claim.submission.deadline_at
        if deadline is not None and deadline <= self._clock.now_ms() + self._interval * 1000:
            self._workers.stop_at(attempt, deadline)

    async def _driven(self, attempt: Attempt) -> Ending:
        ending = await self._drive(attempt)
        ours = isinstance(ending, Settled | Restarted) and self._expected.ending(attempt.claim.id)
        if ours and isinstance(ending, Restarted):
            self._expect(ending.admission.id, ending.admission.lane)
        return ending

    def _rested(self, attempt: Attempt) -> None:
        self._expected.rested(attempt.claim.id, ended=attempt.rest.result() is not None)
        self.watches.changed(attempt.claim.id)
        if attempt.submission.kind == "workflow" and self._runs_changed is not None:
            self._tasks.start(self._runs_changed())
        if attempt.rest.result() is None:
            self._look("due")  # it may have been parked, until a time before that at which the loop would look
        self._look_if_free()
        if self.settings.hibernates and not self._workers and self._heart is not None:
            self._heart.cancel()
            self._heart = None
        if self._pruning.due and not self._draining:
            self._tasks.start(self._pruning.run())


def _shutting_down() -> UsageError:
    return UsageError("The server is shutting down.", code="shutting_down", hint="Try again in a moment.")

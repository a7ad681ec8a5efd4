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
import heapq
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from flue.durable.outbox import Outbox
from flue.durable.port import DurableStore
from flue.durable.records import Admission, Admitted, Claim, Claimant, Outcome, Submission, Wake
from flue.engine.attempt import Attempt, Ending, Parked, Released, Restarted, Settled, failure
from flue.engine.pruning import KeepFor, Pruning
from flue.engine.watch import Watches
from flue.errors import DurabilityError, UsageError
from flue.ports import Clock, Ids

logger = logging.getLogger("flue")
_BATCH = 64
_SOON = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """`lease` and `grace` in seconds.

    `lease` is how long other nodes wait before they take over the work of one that they no longer hear of. `grace` is
    how long work that was stopped may take to put itself in order. `concurrency` is how much runs at once;
    `keep` how long what has ended is kept.
    """

    lease: float = 30.0
    grace: float = 5.0
    concurrency: int = 256
    keep: KeepFor = field(default_factory=KeepFor)


class Engine:
    """Owns claims on the work of one store, and has `drive` bring each to rest. One for each event loop and store."""

    def __init__(
        self,
        store: DurableStore,
        clock: Clock,
        ids: Ids,
        drive: Callable[[Attempt], Awaitable[Ending]],
        *,
        owner: str | None = None,
        fire_due: Callable[[], Awaitable[None]] | None = None,
        settings: EngineSettings | None = None,
    ) -> None:
        self.owner = owner or ids.ulid()
        self.watches = Watches(store, clock)
        self.settings = settings or EngineSettings()
        self._store = store
        self._clock = clock
        self._ids = ids
        self._drive = drive
        self._fire_due = fire_due
        self._pruning = Pruning(store, clock, self.settings.keep)
        self._running: dict[str, Attempt] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._deadlines: list[tuple[int, str]] = []
        self._pending: set[str] = {"gone", "due", "work"}
        self._woken = asyncio.Event()
        self._started: asyncio.Future[None] | None = None
        self._heart: asyncio.Task[None] | None = None
        self._unlisten: Callable[[], None] | None = None
        self._draining = False

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
        self._unlisten = self._store.listen(self._on_wake)
        self._keep(asyncio.create_task(self._serve(), name="flue engine"))

    async def drain(self, timeout: float) -> None:
        """Stop: accept nothing more, let work stop where it can be continued, give back what has not by `timeout`.

        When this returns nothing runs any more. What was given back goes on elsewhere, or here after the next start.
        """
        if self._draining or self._started is None:
            self._draining = True
            return
        self._draining = True
        for attempt in self._running.values():
            attempt.pause_wanted = True
        await self._until(lambda: not self._running, timeout)
        for attempt in list(self._running.values()):
            attempt.finished = True
            release = self._store.release(attempt.claim, now=self._clock.now_ms(), interrupted=True)
            await self._quietly(release, "given back")
        if self._unlisten is not None:
            self._unlisten()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_SOON)
        self.watches.close()
        await self._quietly(self._store.retire(self.owner, now=self._clock.now_ms()), "retired")

    async def _until(self, done: Callable[[], bool], timeout: float) -> None:
        end = asyncio.create_task(self._clock.sleep(timeout))
        while not done() and not end.done():
            attempts = [attempt.task for attempt in self._running.values() if attempt.task is not None]
            await asyncio.wait([end, *attempts], return_when=asyncio.FIRST_COMPLETED)
        end.cancel()

    async def _quietly(self, transition: Awaitable[Any], what: str) -> None:
        try:
            await transition
        except DurabilityError as error:
            logger.warning("Work could not be %s: %s", what, error)

    # -------------------------------------------------------------------------------------- accepting

    async def admit(self, admission: Admission, *, request: Any = None) -> Admitted:
        """Accept work; it starts at once where its lane is free. Durable when this returns.

        A caller that is cancelled meanwhile changes nothing: what was accepted is done. Raises `DurabilityError`, and
        `UsageError` (`shutting_down`) once the engine is about to end.
        """
        if self._draining:
            raise UsageError("The server is shutting down.", code="shutting_down", hint="Try again in a moment.")
        await self.start()
        return await asyncio.shield(self._keep(asyncio.create_task(self._admit(admission, request))))

    async def outcome(
        self, submission_id: str, *, until: Callable[[Submission], bool] | None = None
    ) -> Outcome | Submission:
        """Wait for the end of a submission, wherever it runs; see `Watches.outcome`."""
        attempt = self._running.get(submission_id)
        outcome = await asyncio.shield(attempt.rest) if attempt is not None else None
        return outcome if outcome is not None else await self.watches.outcome(submission_id, until=until)

    async def _admit(self, admission: Admission, request: Any) -> Admitted:
        now = self._clock.now_ms()
        free = len(self._running) < self.settings.concurrency
        claimant = self._claimant(now) if free else None
        admitted = await self._store.admit(admission, now=now, claimant=claimant)
        if admitted.claim is not None:
            self._begin(admitted.claim, request)
        return admitted

    async def abort(self, submission_id: str, reason: str) -> Submission | None:
        """Have work aborted; return it as it then stands, None when it is unknown. Durable when this returns."""
        found = await self._store.cancel(submission_id, reason, now=self._clock.now_ms())
        attempt = self._running.get(submission_id)
        if attempt is not None:
            attempt.stop("abort", reason)
        self.watches.changed(submission_id)
        return found

    def poke(self, submission_id: str) -> None:
        """Tell work that runs here that a message has come for it."""
        attempt = self._running.get(submission_id)
        if attempt is not None and attempt.on_message is not None:
            self._keep(asyncio.create_task(_logged(attempt.on_message())))

    def look(self) -> None:
        """Look for what is due now: a schedule may have been added."""
        self._look("due")

    @property
    def running(self) -> int:
        """Return how many attempts are under way."""
        return len(self._running)

    # ---------------------------------------------------------------------------------------- serving

    def _on_wake(self, wake: Wake) -> None:
        if wake.kind == "events":
            self.watches.changed(wake.key)
        elif wake.owner in ("", self.owner):
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
        self._stop_overdue(now)
        if "cancel" in pending:
            await self._renew()
        if pending & {"gone", "due"}:
            while await self._store.take_over(self.owner, now=now):
                pass
            while await self._store.wake_due(now=now):
                pass
        if "due" in pending and self._fire_due is not None:
            await self._fire_due()
        if pending & {"gone", "due", "work"}:
            await self._claim()

    async def _claim(self) -> None:
        while not self._draining and (free := self.settings.concurrency - len(self._running)) > 0:
            now = self._clock.now_ms()
            claimants = [self._claimant(now) for _ in range(min(free, _BATCH))]
            claims = await self._store.claim(claimants, now=now)
            for claim in claims:
                self._begin(claim)
            if len(claims) < len(claimants):
                return

    async def _sleep_time(self) -> float | None:
        """Return the seconds until something is due by itself, None for never."""
        due = await self._store.next_due(self.owner)
        while self._deadlines and self._deadlines[0][1] not in self._running:
            heapq.heappop(self._deadlines)
        times = [time for time in (due, self._deadlines[0][0] if self._deadlines else None) if time is not None]
        if not times:
            return None
        # What is due and stays so, as another project's schedule in the same database, must not keep the loop busy.
        return max((min(times) - self._clock.now_ms()) / 1000, 0.05 if self._pending else _SOON if due else 0.05)

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

    def _stop_overdue(self, now: int) -> None:
        while self._deadlines and self._deadlines[0][0] <= now:
            attempt = self._running.get(heapq.heappop(self._deadlines)[1])
            if attempt is not None and (attempt.submission.deadline_at or 0) <= now:
                self._stop(attempt, "deadline")

    def _stop(self, attempt: Attempt, reason: Any, text: str = "") -> None:
        attempt.stop(reason, text)
        self._keep(asyncio.create_task(self._force(attempt)))

    # ------------------------------------------------------------------------------------------ lease

    async def _beat(self) -> None:
        while self._running:
            await self._clock.sleep(self.settings.lease / 3)
            try:
                await self._renew()
            except DurabilityError as error:
                logger.warning("The lease could not be renewed: %s", error)

    async def _renew(self) -> None:
        now = self._clock.now_ms()
        claims = [attempt.claim for attempt in self._running.values()]
        renewal = await self._store.renew(self.owner, claims, now=now, lease_until=self._lease_until(now))
        for id in renewal.lost:
            if (attempt := self._running.get(id)) is not None:
                attempt.stop("lost")
        for id, reason in renewal.cancelled:
            if (attempt := self._running.get(id)) is not None:
                self._stop(attempt, "abort", reason)
        for attempt in self._running.values():
            if attempt.on_message is not None:
                self.poke(attempt.claim.id)

    def _claimant(self, now: int) -> Claimant:
        return Claimant(self.owner, self._ids.ulid(), self._lease_until(now))

    def _lease_until(self, now: int) -> int:
        return now + round(self.settings.lease * 1000)

    # --------------------------------------------------------------------------------------- attempts

    def _begin(self, claim: Claim, request: Any = None) -> None:
        attempt = Attempt(claim, Outbox(self._store, claim), request=request)
        self._running[claim.id] = attempt
        deadline = claim.submission.deadline_at
        if deadline is not None:
            if not self._deadlines or deadline < self._deadlines[0][0]:
                self._woken.set()
            heapq.heappush(self._deadlines, (deadline, claim.id))
        attempt.task = asyncio.create_task(self._work(attempt), name=claim.id)
        self._keep(attempt.task)
        if self._heart is None or self._heart.done():
            self._heart = self._keep(asyncio.create_task(self._beat()))

    async def _work(self, attempt: Attempt) -> None:
        try:
            while not await self._finish(attempt, await self._driven(attempt)):
                attempt.fresh = False
        except DurabilityError as error:
            if error.code != "attempt_lost" and not attempt.finished:
                await self._give_back(attempt, error)
        finally:
            self._rested(attempt)

    async def _driven(self, attempt: Attempt) -> Ending | None:
        """Have the work driven; None when it is no longer this process's."""
        try:
            return await self._drive(attempt)
        except asyncio.CancelledError:
            if attempt.stopped is None or attempt.finished:
                raise
            _uncancel()
            return None if attempt.stopped == "lost" else Settled(attempt.outcome_of_stop())
        except DurabilityError:
            raise
        except Exception as error:
            logger.exception("Driving %s failed.", attempt.claim.id)
            return Settled(failure(error))

    async def _finish(self, attempt: Attempt, ending: Ending | None) -> bool:
        """Bring the work to rest; False when there is reason to go on with it at once."""
        if ending is None or attempt.finished:
            return True
        now, outbox = self._clock.now_ms(), attempt.outbox
        match ending:
            case Settled(outcome):
                await outbox.settle(outcome, now=now)
                self._settled(attempt, outcome)
            case Parked(wait):
                if not await outbox.park(wait, now=now):
                    # A message, or a wish to abort, came in between. The latter shows when the claim is renewed.
                    await self._renew()
                    return False
                self.watches.changed(attempt.claim.id)
                self._look("due")
            case Released():
                await outbox.release(now=now)
            case Restarted(admission, error):
                await outbox.restart(admission, error=error, now=now)
                self.watches.changed(attempt.claim.id)
        return True

    async def _force(self, attempt: Attempt) -> None:
        """Settle work that does not end although it was stopped; what it still does reaches nothing any more."""
        assert attempt.task is not None
        end = asyncio.create_task(self._clock.sleep(self.settings.grace))
        await asyncio.wait([end, attempt.task], return_when=asyncio.FIRST_COMPLETED)
        end.cancel()
        if attempt.task.done() or attempt.finished:
            return
        attempt.finished = True
        logger.error("%s did not end within %g s of being stopped.", attempt.claim.id, self.settings.grace)
        outcome = attempt.outcome_of_stop()
        await self._quietly(self._store.settle(attempt.claim, outcome, now=self._clock.now_ms()), "settled")
        self._settled(attempt, outcome)
        self._rested(attempt)

    async def _give_back(self, attempt: Attempt, error: DurabilityError) -> None:
        """Release work whose progress could not be written, as soon as the store can write again."""
        logger.warning("%s stopped, because the store failed: %s", attempt.claim.id, error)
        pause = _SOON
        while True:
            now = self._clock.now_ms()
            try:
                await self._store.release(
                    attempt.claim, now=now, not_before=now + round(pause * 1000), interrupted=True
                )
                return
            except DurabilityError as again:
                if again.code == "attempt_lost":
                    return
            await self._clock.sleep(pause)
            pause = min(pause * 2, 30.0)

    def _settled(self, attempt: Attempt, outcome: Outcome) -> None:
        if not attempt.rest.done():
            attempt.rest.set_result(outcome)
        self.watches.changed(attempt.claim.id)
        if self._pruning.due and not self._draining:
            self._keep(asyncio.create_task(self._pruning.run()))

    def _rested(self, attempt: Attempt) -> None:
        if not attempt.rest.done():
            attempt.rest.set_result(None)
        if self._running.get(attempt.claim.id) is attempt:
            del self._running[attempt.claim.id]
            if len(self._running) == self.settings.concurrency - 1:
                self._look("work")

    def _keep(self, task: asyncio.Task[Any]) -> asyncio.Task[Any]:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _uncancel() -> None:
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()


async def _logged(work: Awaitable[None]) -> None:
    try:
        await work
    except Exception:
        logger.exception("A message could not be taken in.")

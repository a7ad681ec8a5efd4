"""The attempts under way in this process: each is driven, brought to rest, and ended when it must be."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from flue.durable.outbox import Outbox
from flue.durable.port import DurableStore
from flue.durable.records import Claim, Outcome
from flue.engine.attempt import Again, Attempt, Ending, Parked, Released, Restarted, Settled, StopReason, failure
from flue.engine.tasks import Tasks
from flue.errors import DurabilityError, FlueError, OperationError
from flue.ports import Clock

logger = logging.getLogger("flue")
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_PATIENCE = 5.0


class Workers:
    """Runs attempts, one task each. `rested` is called with the attempt whenever one has come to rest.

    `grace` is how many seconds work that was stopped may take to put itself in order.
    """

    def __init__(
        self,
        store: DurableStore,
        clock: Clock,
        drive: Callable[[Attempt], Awaitable[Ending]],
        *,
        grace: float,
        log_failures: bool,
        rested: Callable[[Attempt], None],
        renew: Callable[[], Awaitable[None]],
    ) -> None:
        self.tasks = Tasks()
        self._store = store
        self._clock = clock
        self._drive = drive
        self._grace = grace
        self._log_failures = log_failures
        self._on_rest = rested
        self._renew = renew
        self._running: dict[str, Attempt] = {}

    def __len__(self) -> int:
        return len(self._running)

    def __iter__(self) -> Iterator[Attempt]:
        return iter(tuple(self._running.values()))

    def find(self, submission_id: str) -> Attempt | None:
        """Return the attempt at a submission."""
        return self._running.get(submission_id)

    def begin(self, claim: Claim, request: Any = None) -> Attempt:
        """Start to work on a claim."""
        attempt = Attempt(claim, Outbox(self._store, claim), request=request)
        self._running[claim.id] = attempt
        attempt.task = self.tasks.start(self._work(attempt), name=claim.id)
        return attempt

    def stop(self, attempt: Attempt, reason: StopReason, text: str = "") -> None:
        """End an attempt: it puts in order what it works on, and settles; by force if that takes too long (DUR-36)."""
        if attempt.stop(reason, text):
            self.tasks.start(self._force(attempt))

    def stop_at(self, attempt: Attempt, deadline: int) -> None:
        """End an attempt at a time (milliseconds since the epoch) unless it has come to rest before."""
        self.tasks.start(self._expire(attempt, deadline))

    def poke(self, attempt: Attempt) -> None:
        """Tell an attempt that a message may have come for it."""
        if attempt.on_message is not None:
            self.tasks.start(_logged(attempt.on_message()))

    async def give_up(self, timeout: float) -> None:
        """Let everything stop where it can be continued; give back what has not by `timeout`, in seconds (DUR-26)."""
        for attempt in self:
            attempt.pause_wanted = True
        end = asyncio.create_task(self._clock.sleep(timeout))
        while self._running and not end.done():
            tasks = [attempt.task for attempt in self if attempt.task is not None]
            await asyncio.wait([end, *tasks], return_when=asyncio.FIRST_COMPLETED)
        end.cancel()
        await asyncio.gather(*(self._abandon(attempt) for attempt in self))

    async def _abandon(self, attempt: Attempt) -> None:
        """Cancel an attempt and give it back. What it cleans up reaches nothing: the next finds it as after a crash."""
        attempt.phase = "abandoned"
        attempt.outbox.cut()
        if attempt.task is not None:
            attempt.task.cancel()
        release = self._store.release(attempt.claim, now=self._clock.now_ms(), interrupted=True)
        await quietly(release, "given back")

    # ---------------------------------------------------------------------------------------- the work

    async def _work(self, attempt: Attempt) -> None:
        attempt.begin()
        try:
            while not await self._finish(attempt, await self._driven(attempt)):
                attempt.begin_again()
        except DurabilityError as error:
            if error.code != "attempt_lost" and attempt.phase != "abandoned":
                attempt.phase = "ending"
                await self._give_back(attempt, error)
        except asyncio.CancelledError:
            if attempt.phase != "abandoned":  # by a stranger, or with the event loop: nobody else would give it back
                release = self._store.release(attempt.claim, now=self._clock.now_ms(), interrupted=True)
                await quietly(release, "given back")
            raise
        finally:
            self._rested(attempt)

    async def _driven(self, attempt: Attempt) -> Ending | None:
        """Have the work driven; None when it is no longer this process's."""
        try:
            return await self._drive(attempt)
        except asyncio.CancelledError:
            if attempt.phase == "abandoned":
                raise
            if attempt.stopped is None:
                return self._cancelled(attempt)
            attempt.take_stop()
            return None if attempt.stopped == "lost" else Settled(attempt.outcome_of_stop())
        except (DurabilityError, KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:
            logger.exception("Driving %s failed.", attempt.claim.id)
            return Settled(failure(error))

    def _cancelled(self, attempt: Attempt) -> Ending:
        """Return how work ends that lets out a `CancelledError` of its own; raises when its task was cancelled."""
        if attempt.task is not None and attempt.task.cancelling():
            raise asyncio.CancelledError
        return Settled(failure(OperationError("The work was cancelled by its own code.")))

    async def _finish(self, attempt: Attempt, ending: Ending | None) -> bool:
        """Bring the work to rest (DUR-24); False when there is reason to go on with it at once."""
        if ending is None or attempt.phase == "abandoned":
            return True
        attempt.phase = "ending"  # from here on it is too late to stop it
        now, outbox = self._clock.now_ms(), attempt.outbox
        match ending:
            case Settled(outcome, error):
                if error is not None and self._log_failures:
                    ours = isinstance(error, FlueError)
                    logger.error("%s failed: %s", attempt.claim.id, error, exc_info=None if ours else error)
                await outbox.settle(outcome, now=now)
                attempt.settle(outcome)
            case Parked(wait):
                if not await outbox.park(wait, now=now):
                    attempt.phase = "driving"
                    # A message, or a wish to abort, came in between. The latter shows when the claim is renewed.
                    await self._renew()
                    return False
            case Again():
                attempt.phase = "driving"
                return False
            case Released():
                await outbox.release(now=now)
            case Restarted(admission, error):
                await outbox.restart(admission, error=error, now=now)
        return True

    async def _give_back(self, attempt: Attempt, error: DurabilityError) -> None:
        """Release work whose progress could not be written, as soon as the store can write again."""
        logger.warning("%s stopped, because the store failed: %s", attempt.claim.id, error)
        pause = _FIRST_PAUSE
        while True:
            now = self._clock.now_ms()
            later = now + round(pause * 1000)
            try:
                return await self._store.release(attempt.claim, now=now, not_before=later, interrupted=True)
            except DurabilityError as again:
                if again.code == "attempt_lost":
                    return None
            await self._clock.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    # -------------------------------------------------------------------------------------- ending it

    async def _expire(self, attempt: Attempt, deadline: int) -> None:
        await self._ends_within(attempt, max(deadline - self._clock.now_ms(), 0) / 1000)
        if self._running.get(attempt.claim.id) is attempt:
            self.stop(attempt, "deadline")

    async def _force(self, attempt: Attempt) -> None:
        """Give up work that does not end although it was stopped; what it still does reaches nothing any more.

        Unless somebody else has it, it is settled, and what it has told until then goes along. If that cannot be
        written it is given back, to be ended by the next who claims it: nobody is told of an end that is not on disk.
        """
        if await self._ends_within(attempt, self._grace) or attempt.phase != "driving":
            return
        attempt.phase = "abandoned"
        logger.error("%s did not end within %g s of being stopped.", attempt.claim.id, self._grace)
        try:
            if attempt.stopped_for_good:
                await self._settle_by_force(attempt, attempt.outcome_of_stop())
        finally:
            attempt.outbox.cut()
            self._rested(attempt)

    async def _settle_by_force(self, attempt: Attempt, outcome: Outcome) -> None:
        attempt.on_force(outcome)
        try:
            await attempt.outbox.settle(outcome, now=self._clock.now_ms())
            attempt.settle(outcome)
        except DurabilityError as error:
            if error.code != "attempt_lost":
                await self._give_back(attempt, error)

    async def _ends_within(self, attempt: Attempt, seconds: float) -> bool:
        assert attempt.task is not None
        end = asyncio.create_task(self._clock.sleep(seconds))
        await asyncio.wait([end, attempt.task], return_when=asyncio.FIRST_COMPLETED)
        end.cancel()
        return attempt.task.done()

    def _rested(self, attempt: Attempt) -> None:
        attempt.outbox.close()
        attempt.come_to_rest()
        if self._running.get(attempt.claim.id) is attempt:
            del self._running[attempt.claim.id]
            self._on_rest(attempt)


async def quietly(transition: Awaitable[object], what: str) -> None:
    """Await a transition of a process that ends. Its failure is only logged: a lease tells others the same, later.

    Nor is it waited for long: a store that is away would hold the process up. The transition is not taken back.
    """
    try:
        async with asyncio.timeout(_PATIENCE):
            await transition
    except (DurabilityError, TimeoutError) as error:
        logger.warning("Work could not be %s: %s", what, str(error) or "the store does not answer.")


async def _logged(work: Awaitable[None]) -> None:
    try:
        await work
    except DurabilityError as error:
        # Whoever holds the work now finds the message, too.
        if error.code != "attempt_lost":
            logger.warning("A message could not be taken in: %s", error)
    except Exception:
        logger.exception("A message could not be taken in.")

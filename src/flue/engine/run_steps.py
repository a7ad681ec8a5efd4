"""The steps of a run over the store: `flue.harness.step_log.StepLog` for one attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from flue.durable.port import DurableStore
from flue.durable.records import StepResult, Wait
from flue.engine.attempt import Attempt
from flue.engine.messages import EVENT
from flue.harness.step_log import StepMessage


class RunSteps:
    """What the runs of a chain have recorded, and the wish of this one to be parked (`wait`)."""

    def __init__(self, store: DurableStore, attempt: Attempt, recorded: Sequence[StepResult] = ()) -> None:
        self.wait: Wait | None = None
        self._store = store
        self._attempt = attempt
        self._recorded = {step.name: step.body for step in recorded}

    @classmethod
    async def load(cls, store: DurableStore, attempt: Attempt) -> RunSteps:
        """Return the steps as they stand; a run that is the first of its chain, and new, has none."""
        submission = attempt.submission
        new = attempt.fresh and submission.address == submission.id
        return cls(store, attempt, () if new else await store.load_steps(submission.address))

    def find(self, name: str) -> str | None:
        """Return what is recorded under a name."""
        return self._recorded.get(name)

    async def record(self, name: str, body: str, *, consumed: str | None = None) -> None:
        """Record JSON text, durably, and use up a message with it."""
        used = () if consumed is None else (consumed,)
        self._attempt.outbox.add(steps=[StepResult(name, body)], consumed=used)
        await self._attempt.outbox.write()
        self._recorded[name] = body

    async def find_message(self, name: str) -> StepMessage | None:
        """Return the oldest event of that name that nobody has taken."""
        for message in await self._store.load_messages(self._attempt.submission.address):
            if message.name == EVENT + name:
                return StepMessage(message.id, message.body)
        return None

    def listen(self, came: Callable[[], None], waits: Callable[[], bool]) -> None:
        """Have `came` called at once for events sent through this process, else when the claim is renewed."""

        async def look() -> None:
            came()

        self._attempt.on_message, self._attempt.waits = look, waits

    async def suspend(self, wake_at: int | None, names: Sequence[str]) -> None:
        """Have the run given up and parked; does not return."""
        self.wait = Wait("event" if names else "sleep", wake_at, tuple(EVENT + name for name in names))
        assert self._attempt.task is not None
        self._attempt.task.cancel()
        await asyncio.Event().wait()

"""The project's schedules: an engine of their own, in the registry, whose work is to have others begin.

What a schedule starts is accepted in the registry's storage in the transaction that moves the schedule on. Then it is
handed to the object that is to do it, again and again until that has it; the object takes it once.
"""

from __future__ import annotations

import json
from dataclasses import replace

from flue.cloudflare.isolate import Isolate
from flue.cloudflare.relay import Relay
from flue.cloudflare.storage.store import DurableObjectStore
from flue.definitions.schedule import Schedule
from flue.durable.records import Admission, Outcome, Wait
from flue.engine.admissions import Admissions
from flue.engine.attempt import Attempt, Ending, Parked, Settled, failure
from flue.engine.engine import Engine, EngineSettings
from flue.engine.schedules import Schedules
from flue.errors import DurabilityError, FlueError
from flue.project.catalog import catalog_of

_PAUSE = 30_000
"""Milliseconds until an object that did not answer is asked again."""

# Handing over is repeated for as long as it takes.
_ATTEMPTS, _YEAR = 1_000_000, 365 * 24 * 3_600_000


class Clockwork:
    """Fires schedules."""

    def __init__(self, isolate: Isolate, store: DurableObjectStore) -> None:
        self._isolate = isolate
        self._store = store
        self._relay = Relay(isolate)
        owner = isolate.ids.ulid()
        self._admissions = Admissions(lambda: catalog_of(isolate.served), isolate.ids, owner)
        self._schedules = Schedules(store, isolate.clock, self._admission, project="")
        self._engine = Engine(
            store,
            isolate.clock,
            isolate.ids,
            self._drive,
            owner=owner,
            fire_due=self._schedules.fire_due,
            settings=EngineSettings(hibernates=True, keep=isolate.bundle.keep),
        )
        self._loaded = False

    async def start(self) -> None:
        """Take up the schedules of this version of the project; does nothing the second time."""
        if not self._loaded:
            await self._schedules.load(self._isolate.project.registrations.schedules)
            self._loaded = True
        await self._engine.start()

    async def look(self) -> None:
        """Fire what is due."""
        await self.start()
        await self._store.rearm()
        self._engine.look()

    def _admission(self, schedule: Schedule, time_ms: int) -> Admission:
        admission = self._admissions.scheduled(schedule, time_ms)
        # No run of the registry's: the object records it.
        return replace(admission, recorded=None, max_attempts=_ATTEMPTS, timeout_ms=_YEAR)

    async def _drive(self, attempt: Attempt) -> Ending:
        submission = attempt.submission
        payload = json.loads(submission.payload)
        try:
            if submission.kind == "workflow":
                await self._relay.start(submission.target, submission.id, payload, key=submission.key)
            else:
                await self._relay.deliver(submission.target, submission.instance, payload)
        except DurabilityError as error:
            if error.code != "object_unreachable":
                return Settled(failure(error), error)
            return Parked(Wait("retry", wake_at=self._isolate.clock.now_ms() + _PAUSE))
        except FlueError as error:
            return Settled(failure(error), error)
        return Settled(Outcome("completed"))

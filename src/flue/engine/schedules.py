"""A project's schedules over a store: kept at load, fired when due, on one node or many."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace

from flue.definitions.schedule import Schedule as Definition
from flue.definitions.timing import last_due, next_after, times_to_fire
from flue.durable.port import DurableStore
from flue.durable.records import Admission, Schedule
from flue.errors import DurabilityError, FlueError
from flue.ports import Clock

logger = logging.getLogger("flue")


class Schedules:
    """The schedules of one project.

    `project` names it among those that share the store: it is stored with each schedule's id, and schedules of other
    names are left alone. `admission_for` returns the work that a schedule gives at a time (milliseconds since the
    epoch); for one schedule and time it must have the same idempotency key, always.
    """

    def __init__(
        self,
        store: DurableStore,
        clock: Clock,
        admission_for: Callable[[Definition, int], Admission],
        *,
        project: str,
    ) -> None:
        self._store = store
        self._clock = clock
        self._admission_for = admission_for
        self._project = project
        self._definitions: dict[str, Definition] = {}

    async def load(self, definitions: Iterable[Definition]) -> None:
        """Make these the project's schedules; durable when this returns.

        One whose timing is as it was keeps its next time, also when that has passed: `fire_due` decides what was
        missed. One with another timing, or a new one, begins now. Those that are not among them are forgotten. Raises
        `DurabilityError`.
        """
        self._definitions = {self._stored_id(definition.id): definition for definition in definitions}
        stored = await self._store.list_schedules()
        gone = [schedule.id for schedule in stored if self._is_ours(schedule) and schedule.id not in self._definitions]
        if gone:
            await self._store.delete_schedules(gone)
        now = self._clock.now_ms()
        for id, definition in self._definitions.items():
            await self._store.put_schedule(Schedule(id, definition.timing.spec, next_after(definition.timing, now)))

    async def fire_due(self) -> None:
        """Admit what is due; each time of a schedule once, whatever other nodes do (DUR-37). Raises `DurabilityError`.

        A schedule that a newer version of the project has given another timing is left to the nodes that run that.
        """
        now = self._clock.now_ms()
        for schedule in await self._store.list_schedules(due=now):
            definition = self._definitions.get(schedule.id)
            if definition is not None and definition.timing.spec == schedule.spec and schedule.next_at is not None:
                await self._fire(schedule, schedule.next_at, definition, now)

    async def _fire(self, schedule: Schedule, first: int, definition: Definition, now: int) -> None:
        (last,) = last_due(definition.timing, first, now, 1)
        following = next_after(definition.timing, last)
        times = times_to_fire(definition.timing, first, now, definition.missed)
        if not times:
            logger.info("Schedule %s: nobody was there at its time; it is skipped.", definition.id)
            await self._store.fire(schedule, following, None, now=now)
            return
        for time, then in zip(times, [*times[1:], following], strict=True):
            if not await self._admit(schedule, time, then, definition, now):
                return
            schedule = replace(schedule, next_at=then)

    async def _admit(self, schedule: Schedule, time: int, then: int | None, definition: Definition, now: int) -> bool:
        """Admit the work of one time and move on to the next; return whether that was left to this node."""
        try:
            admission = self._admission_for(definition, time)
            return await self._store.fire(schedule, then, admission, now=now) is not None
        except FlueError as error:
            if isinstance(error, DurabilityError) and error.code != "idempotency_conflict":
                raise
            # Tried again it would fail again, and hold up all times after it.
            logger.error("Schedule %s could not start its work, and goes on to its next time: %s", definition.id, error)  # noqa: TRY400
            await self._store.fire(schedule, then, None, now=now)
            return True

    def _stored_id(self, id: str) -> str:
        return f"{self._project}/{id}"

    def _is_ours(self, schedule: Schedule) -> bool:
        # Ids of schedules have no slash; names of projects may.
        return schedule.id.rpartition("/")[0] == self._project

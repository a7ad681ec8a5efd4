"""The registry's clockwork by itself, where its storage fails."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import flue
from flue.durable.records import Schedule
from flue.engine.pruning import KeepFor
from flue.errors import DurabilityError
from flue.registrations import Registrations, using_registrations
from flue.stores import MemoryStore
from flue.testing import SequentialIds, VirtualClock
from tests.cloudflare.site import Site


class Failing(MemoryStore):
    """A store that cannot keep the first schedule that it is given."""

    failed = False

    async def put_schedule(self, schedule: Schedule) -> Schedule:
        if not self.failed:
            self.failed = True
            raise DurabilityError("The storage was reset.", code="store_error")
        return await super().put_schedule(schedule)

    async def rearm(self) -> None:
        pass


async def test_schedules_that_could_not_be_taken_up_are_taken_up_at_the_next_look(cloud: Site) -> None:
    from flue.cloudflare.registry.clockwork import Clockwork

    registrations = Registrations()
    with using_registrations(registrations):
        flue.schedule(every="1h", id="nightly", workflow="nightly")
    project = SimpleNamespace(registrations=registrations)
    bundle = SimpleNamespace(keep=KeepFor())
    isolate: Any = SimpleNamespace(clock=VirtualClock(), ids=SequentialIds(), project=project, bundle=bundle)
    store: Any = Failing()
    clockwork = Clockwork(isolate, store)
    with pytest.raises(DurabilityError, match="reset"):
        await clockwork.look()
    await clockwork.look()
    assert [schedule.id for schedule in await store.list_schedules()] == ["/nightly"]
    await clockwork._engine.drain(0)

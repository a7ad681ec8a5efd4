"""An object's isolate ends, or a statement fails, at every place: transitions and alarm are there as a whole or not."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import pytest

from flue.cloudflare.storage.store import DurableObjectStore
from flue.testing import VirtualClock
from tests.cloudflare.standin.js_values import JsError
from tests.cloudflare.standin.storage import Disk, Evicted, Storage
from tests.stores.day import begin, finish, go_on
from tests.stores.dump import Dump, dump
from tests.stores.everything import everything
from tests.stores.faults import Fault, Faulty

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]

CLOCK = VirtualClock()


def state(disk: Disk) -> Dump:
    """Return everything that is kept, the alarm included."""
    return dump(disk.inner)


@dataclass
class Day:
    """A day in an object's life, in two isolates, up to the statement before which power is cut."""

    cut: int | None = None
    disk: Disk = field(default_factory=Disk)
    statements: int = 0
    commits: list[int] = field(default_factory=list)
    states: list[Dump] = field(default_factory=list)

    async def live(self) -> None:
        """Live through it."""
        storage = Storage(self.disk, now=CLOCK.now_ms, before=self._before)
        with suppress(Evicted):
            await begin(DurableObjectStore(storage, CLOCK))
            storage = storage.evict()
            await go_on(DurableObjectStore(storage, CLOCK))

    def _before(self, statement: str) -> None:
        if statement == "BEGIN":
            # Nothing is open: this is what the transaction before has left.
            self.commits.append(self.statements)
            if self.cut is None:
                self.states.append(state(self.disk))
        if self.statements == self.cut:
            raise Evicted
        self.statements += 1


# DUR-43
async def test_an_object_that_is_evicted_at_any_statement_holds_whole_transitions_with_their_alarm() -> None:
    whole = Day()
    await whole.live()
    whole.states.append(state(whole.disk))
    assert len(whole.states) > 30
    for cut in range(whole.statements):
        day = Day(cut)
        await day.live()
        assert state(day.disk) == whole.states[len(day.commits) - 1], f"cut before statement {cut}"
        day.disk.close()
    whole.disk.close()


# DUR-43
async def test_an_object_that_is_evicted_between_any_two_transitions_goes_on() -> None:
    whole = Day()
    await whole.live()
    for cut in whole.commits:
        day = Day(cut)
        await day.live()
        storage = Storage(day.disk, now=CLOCK.now_ms)
        store = DurableObjectStore(storage, CLOCK)
        unfinished = [row for lane in ("session", "lane0", "r2") for row in await store.list_lane(lane)]
        if any(row.state in ("running", "queued") for row in unfinished):
            assert day.disk.alarm is not None, f"cut before statement {cut}: nobody would go on"
        await finish(store)
        day.disk.close()
    whole.disk.close()


# DUR-20
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("database or disk is full: SQLITE_FULL", "store_full"),
        ("disk I/O error: SQLITE_IOERR (extended: SQLITE_IOERR_WRITE)", "store_io"),
        ("Durable Object storage is no longer accessible.", "store_error"),
    ],
    ids=["full", "io", "other"],
)
async def test_a_fault_at_any_statement_of_an_object_writes_nothing_and_is_got_over(
    message: str, code: str, lasting: bool
) -> None:
    reference = Disk()
    await everything(DurableObjectStore(Storage(reference, now=CLOCK.now_ms), CLOCK))
    fault, places, failed, passes = Fault(lasting=lasting), dict[int, int](), 0, 0

    def before(statement: str) -> None:
        if fault.strikes():
            raise JsError(message)

    while passes == 0 or places:
        disk = Disk()
        await DurableObjectStore(Storage(disk, now=CLOCK.now_ms), CLOCK).list_sessions()
        faulty = Faulty(fault, code, places, first=passes == 0)
        faulty.store = DurableObjectStore(Storage(disk, now=CLOCK.now_ms, before=before), CLOCK)
        faulty.found = partial(state, disk)
        await everything(faulty)
        assert state(disk) == state(reference)
        failed += faulty.failed
        passes += 1
        assert passes < 5
        disk.close()
    assert failed > 200
    reference.close()

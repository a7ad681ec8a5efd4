"""The power fails at every operation of a session: what was acknowledged is there, and nothing is half there.

`FLUE_POWER_CUTS` is how many cuts to try in all; by default there are two at each operation. `FLUE_SEED` repeats those
of a failure.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from secrets import token_hex
from typing import Any, TypeVar

import pytest

from flue.stores import SqliteStore
from flue.stores.sql.transaction import Transaction, Transition
from flue.stores.sqlite_file import connect, open_writer
from tests.stores.day import begin, finish, go_on
from tests.stores.disk import ApswConnection, Disk, Operation
from tests.stores.dump import Dump, dump
from tests.stores.power import FATES, Replay, chances

pytestmark = pytest.mark.faults

T = TypeVar("T")

CHANGES = ("open", "write", "truncate", "sync", "delete")


@dataclass(slots=True)
class Recording:
    """What happened on the disk, and how far the store was at which of its operations.

    `states` is what the database held after each commit, the first being an empty one. `begun` and `done` say for each
    commit at which operation it began and was over, `acknowledged` which commit was reported at which operation.
    """

    trace: list[Operation] = field(default_factory=list)
    states: list[Dump] = field(default_factory=lambda: [{}])
    begun: list[int] = field(default_factory=lambda: [0])
    done: list[int] = field(default_factory=lambda: [0])
    submitted: int = 0
    acknowledged: list[tuple[int, int]] = field(default_factory=list)

    def record(self, operation: Operation) -> None:
        if operation.kind in CHANGES:
            self.trace.append(operation)

    def bounds(self, cut: int) -> tuple[int, int]:
        """Return the first and the last commit that may be the newest after a cut."""
        first = max((commit for place, commit in self.acknowledged if place <= cut), default=0)
        last = max(commit for commit, place in enumerate(self.begun) if place <= cut)
        return first, last


class Committing:
    """A connection that notes its commits, and moves the log into the database every few pages."""

    def __init__(self, inner: ApswConnection, recording: Recording) -> None:
        self._inner = inner
        self._recording = recording
        inner.execute("PRAGMA wal_autocheckpoint = 40")

    def execute(self, sql: str, parameters: Any = (), /) -> Any:
        recording = self._recording
        is_commit = sql == "COMMIT" and not self._inner.execute("PRAGMA query_only").fetchone()[0]
        if is_commit:
            recording.states.append(dump(self._inner))
            recording.begun.append(len(recording.trace))
        result = self._inner.execute(sql, parameters)
        if is_commit:
            recording.done.append(len(recording.trace))
        return result

    def executemany(self, sql: str, parameters: Any, /) -> Any:
        return self._inner.executemany(sql, parameters)

    def close(self) -> None:
        self._inner.close()


class Acknowledging(SqliteStore):
    """A store that notes which commit holds each of its transitions, and when it was reported as durable."""

    def __init__(self, path: Path, recording: Recording, disk: Disk) -> None:
        super().__init__(path, connect=lambda path: Committing(disk.connect(path), recording))
        self._recording = recording

    def _submit(self, transition: Transition[T], **options: Any) -> asyncio.Future[T]:
        recording, held = self._recording, [0]
        recording.submitted += 1

        def noting(tx: Transaction) -> T:
            result = transition(tx)
            held[0] = len(recording.states)
            return result

        return asyncio.ensure_future(self._note(super()._submit(noting, **options), held))

    async def _note(self, future: asyncio.Future[T], held: Sequence[int]) -> T:
        result = await future
        (commit,) = held
        assert commit < len(self._recording.done), "reported before its commit was over"
        self._recording.acknowledged.append((len(self._recording.trace), commit))
        return result


async def record(directory: Path) -> Recording:
    """Run the session, closing the store in the middle, so that the log is moved and deleted."""
    recording = Recording()
    disk = Disk(recording.record)
    for part in (begin, go_on):
        store = Acknowledging(directory / "flue.db", recording, disk)
        await part(store)
        assert await store.list_sessions() == ["session"]
        await store.aclose()
    assert len(recording.acknowledged) == recording.submitted > 25
    return recording


def unsynced(path: str) -> Any:
    """Open a database whose next power cut does not matter."""
    return Unsynced(connect(path))


class Unsynced(Committing):
    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def execute(self, sql: str, parameters: Any = (), /) -> Any:
        return self._inner.execute(
            "PRAGMA synchronous = OFF" if sql == "PRAGMA synchronous = FULL" else sql, parameters
        )


def newest(path: Path) -> Dump:
    """Open what a cut has left as a store does, and return what it holds."""
    with closing(open_writer(path, unsynced, 1.0)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return dump(connection)


# DUR-19
@pytest.mark.timeout(0)
async def test_after_a_power_cut_at_any_operation_what_was_acknowledged_is_there_and_nothing_is_half(
    tmp_path: Path,
) -> None:
    recording = await record(tmp_path)
    assert len(recording.states) > 30
    assert {Path(operation.path).name for operation in recording.trace} == {"flue.db", "flue.db-wal", "flue.db-journal"}
    seed = os.environ.get("FLUE_SEED") or token_hex(4)
    wanted = int(os.environ.get("FLUE_POWER_CUTS") or 2 * len(recording.trace))
    fates = cycle(FATES)
    finished: set[int] = set()
    tried = 0
    directory = tmp_path / "cut"
    while tried < wanted:
        replay = Replay(recording.trace)
        for cut in replay.cuts():
            fate = next(fates)
            where = f"cut before operation {cut}, unsynced {fate}, FLUE_SEED={seed}"
            replay.leave(directory, fate, chances(f"{seed} {tried}"))
            found = newest(directory / "flue.db")
            first, last = recording.bounds(cut)
            matching = [number for number in range(first, last + 1) if recording.states[number] == found]
            assert matching, f"{where}: the database is at none of the commits {first} to {last}"
            if matching[-1] not in finished:
                finished.add(matching[-1])
                store = SqliteStore(directory / "flue.db", connect=unsynced)
                await finish(store)
                await store.aclose()
            shutil.rmtree(directory)
            tried += 1
            if not tried % 1000:
                print(f"FLUE_SEED={seed}: {tried} of {wanted} power cuts, nothing lost, nothing half")  # noqa: T201
        next(fates)  # so that each operation meets each fate
    assert len(finished) > 30

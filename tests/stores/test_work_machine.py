from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from flue.durable.port import DurableStore
from flue.stores import MemoryStore, SqliteStore
from tests.stores.work_machine import WorkMachine

# Without shrinking, which on a disk takes longer than a test may: the steps of a failure are printed as they were.
QUICK = settings(
    max_examples=8,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)


class MemoryMachine(WorkMachine):
    def make_store(self, directory: Path) -> DurableStore:
        # Both stores are one: there is nothing outside the process to share.
        if not hasattr(self, "shared"):
            self.shared = MemoryStore()
        return self.shared


class SqliteMachine(WorkMachine):
    def make_store(self, directory: Path) -> DurableStore:
        return SqliteStore(directory / "flue.db")


TestMemoryMachine = MemoryMachine.TestCase
TestMemoryMachine.settings = settings(QUICK, max_examples=10, phases=tuple(Phase))


class LongMemoryMachine(MemoryMachine):
    pass


class LongSqliteMachine(SqliteMachine):
    pass


for_longer = pytest.mark.timeout(300)
TestLongMemoryMachine = pytest.mark.faults(for_longer(LongMemoryMachine.TestCase))
TestLongMemoryMachine.settings = settings(QUICK, max_examples=150, stateful_step_count=60)
TestLongSqliteMachine = pytest.mark.faults(for_longer(LongSqliteMachine.TestCase))
TestLongSqliteMachine.settings = settings(QUICK, max_examples=40, stateful_step_count=60)

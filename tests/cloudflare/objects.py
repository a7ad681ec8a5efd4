"""Stores of Durable Objects over stand-ins of their storage."""

from __future__ import annotations

from pathlib import Path

import pytest

from flue.cloudflare.storage.store import DurableObjectStore
from flue.engine.pruning import KeepFor
from flue.testing import VirtualClock
from tests.cloudflare.standin.storage import Disk, Storage

FOREVER = KeepFor(runs=None, prompts=None, deltas=None, keys=None)
"""For tests whose clock jumps to the next alarm: it is not that of deleting what has ended."""


class InObjects:
    """Makes the stores of a contract: those of one directory share an object's data."""

    @pytest.fixture(autouse=True)
    def _disks(self) -> None:
        self._by_directory: dict[Path, Disk] = {}

    def make_store(self, directory: Path) -> DurableObjectStore:
        clock = VirtualClock()
        disk = self._by_directory.setdefault(directory, Disk())
        return DurableObjectStore(Storage(disk, now=clock.now_ms), clock)

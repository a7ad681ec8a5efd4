"""A fleet of servers on one store, its clients, and the reckoning."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from flue.stores.sql.store import SqlStore
from flue.testing import ProviderServer
from tests.faults.checker import come_to_rest, faults_of, read_office
from tests.faults.clients import Clients
from tests.faults.fleet import Fleet, Server, fleet
from tests.faults.ledger import Ledger
from tests.faults.model import Model
from tests.faults.office import Setting

PATIENCE = 60.0


@dataclass
class Scene:
    """Servers and clients over a store that the test may look into. `chances` come from the seed."""

    folder: Path
    seed: str
    store: SqlStore
    servers: Fleet
    clients: Clients
    ledger: Ledger
    chances: random.Random
    began: float = field(default_factory=time.monotonic)

    async def reckon(self, living: Sequence[Server], story: str) -> None:
        """Let everything come to rest, end the servers, and raise what is wrong."""
        took = time.monotonic() - self.began
        done = sum(ask.ended is not None for ask in self.ledger.asks.values())
        waiting = [f"{name} waits for ever" for name in await self.clients.finish(PATIENCE)]
        await come_to_rest(self.store, PATIENCE)
        for server in living:
            assert await server.stop() == 128 + signal.SIGTERM
        rested = time.monotonic() - self.began - took
        ledger = self.ledger
        office = await read_office(self.store, ledger, self.folder / "outside")
        faults = [*waiting, *await faults_of(office)]
        errors = self.servers.errors.read_text()
        if "Traceback" in errors:
            faults.append(f"a server raised: {errors[-4000:]}")
        accepted = sum(ask.accepted for ask in ledger.asks.values())
        interrupted = sum(bool(submission.interruptions) for submission in office.submissions.values())
        resumed = sum(ask.connections > 1 for ask in ledger.asks.values())
        print(  # noqa: T201 - the figures of the long run
            f"\nFLUE_SEED={self.seed}: {story} in {took:.1f} s, at rest {rested:.1f} s later."
            f" {accepted} accepted, {done} answered meanwhile, {len(office.submissions)} submissions"
            f" ({interrupted} interrupted), {len(office.outside)} effects, {ledger.lost} connections broken,"
            f" {resumed} streams resumed:"
            f" {len(faults)} faults"
        )
        assert not faults, f"FLUE_SEED={self.seed}, see {self.folder}:\n" + "\n".join(faults[:40])


@asynccontextmanager
async def scene(
    folder: Path, seed: str, address: str, store: SqlStore, *, each: int = 2, lease: float = 30.0
) -> AsyncIterator[Scene]:
    """Open a scene with so many clients of each kind; no server runs yet. `address` is that of `store`."""
    model, ledger = Model(random.Random(f"{seed} model")), Ledger()  # noqa: S311
    async with ProviderServer(model, record=False) as provider:
        setting = Setting(address, provider.base_url("anthropic-messages"), str(folder / "outside"), lease)
        async with fleet(setting, folder / "errors.log") as servers:
            clients = Clients(servers.address, ledger, seed)
            clients.start(each)
            yield Scene(folder, seed, store, servers, clients, ledger, random.Random(seed))  # noqa: S311

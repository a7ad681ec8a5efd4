"""A fleet of servers on one store, its clients, and the reckoning."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import astuple, dataclass, field
from pathlib import Path

from flue.messages import AssistantMessage
from flue.stores.sql.store import SqlStore
from flue.testing import ProviderServer
from tests.faults.checker import come_to_rest, faults_of, read_office
from tests.faults.clients import Clients
from tests.faults.fleet import Fleet, Server, fleet
from tests.faults.ledger import Ledger
from tests.faults.model import Model
from tests.faults.office import Setting

PATIENCE = 60.0


@dataclass(frozen=True)
class Figures:
    """What went on in a scene."""

    seconds: float = 0
    accepted: int = 0
    submissions: int = 0
    interrupted: int = 0
    turns: int = 0
    effects: int = 0
    broken: int = 0
    resumed: int = 0

    def __add__(self, other: Figures) -> Figures:
        return Figures(*(mine + its for mine, its in zip(astuple(self), astuple(other), strict=True)))

    def __str__(self) -> str:
        return (
            f"{self.accepted} accepted, {self.submissions} submissions ({self.interrupted} interrupted),"
            f" {self.turns} turns, {self.effects} effects outside, {self.broken} connections broken,"
            f" {self.resumed} streams resumed, in {self.seconds:.1f} s"
        )


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

    async def reckon(self, living: Sequence[Server], story: str) -> Figures:
        """Let everything come to rest, end the servers, and raise what is wrong."""
        self.clients.stop()
        processes = len(living) * self.servers.workers
        await come_to_rest(self.store, PATIENCE, servers=processes)  # however much a busy machine has to make up for
        waiting = [f"{name} waits for ever" for name in await self.clients.finish(PATIENCE)]
        await come_to_rest(self.store, PATIENCE, servers=processes)
        for server in living:
            assert await server.stop() == 128 + signal.SIGTERM
        ledger = self.ledger
        office = await read_office(self.store, ledger, self.folder / "outside")
        faults = [*waiting, *await faults_of(office)]
        errors = self.servers.errors.read_text()
        if "Traceback" in errors:
            faults.append(f"a server raised: {errors[-4000:]}")
        conversations = office.conversations.values()
        figures = Figures(
            time.monotonic() - self.began,
            sum(ask.accepted for ask in ledger.asks.values()),
            len(office.submissions),
            sum(bool(submission.interruptions) for submission in office.submissions.values()),
            sum(isinstance(message, AssistantMessage) for messages in conversations for message in messages),
            len(office.outside),
            ledger.lost,
            sum(ask.connections > 1 for ask in ledger.asks.values()),
        )
        print(f"\nFLUE_SEED={self.seed}: {story}: {figures}: {len(faults)} faults")  # noqa: T201 - for the long run
        assert not faults, f"FLUE_SEED={self.seed}, see {self.folder}:\n" + "\n".join(faults[:40])
        return figures


@asynccontextmanager
async def scene(
    folder: Path,
    seed: str,
    address: str,
    store: SqlStore,
    *,
    each: int = 2,
    lease: float = 30.0,
    workers: int = 1,
) -> AsyncIterator[Scene]:
    """Open a scene with so many clients of each kind; no server runs yet. `address` is that of `store`."""
    model, ledger = Model(random.Random(f"{seed} model")), Ledger()  # noqa: S311
    async with ProviderServer(model, record=False) as provider:
        setting = Setting(address, provider.base_url("anthropic-messages"), str(folder / "outside"), lease)
        async with fleet(setting, folder / "errors.log", workers) as servers:
            clients = Clients(servers.address, ledger, seed)
            clients.start(each)
            yield Scene(folder, seed, store, servers, clients, ledger, random.Random(seed))  # noqa: S311

"""An object tells the registry how its runs stand: at once where that works, else when its alarm rings."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from typing import Protocol

from flue.cloudflare.identity import Name
from flue.cloudflare.registry.client import Pointer, forget_runs, tell_runs
from flue.durable.records import Run
from flue.errors import DurabilityError
from flue.ports import Clock

logger = logging.getLogger("flue")
PATIENCE = 5.0
"""Seconds that a run's start waits for the registry. The run itself does not wait."""


class Untold(Protocol):
    """Where it stands what the registry does not know."""

    async def untold(self) -> Mapping[str, Run | None]:
        """Return some of the runs that are to be told, by their ids; None for one that is deleted."""
        ...

    def told(self, runs: Mapping[str, Run | None], /) -> Awaitable[None]:
        """Strike runs from the list."""
        ...


class Telling:
    """Keeps the registry's pointers true; `name` is the object's."""

    def __init__(self, store: Untold, clock: Clock, name: Name) -> None:
        self._store = store
        self._clock = clock
        self._name = name
        self._telling: asyncio.Task[None] | None = None
        self._again = False

    async def tell(self) -> None:
        """Tell what is untold; return when that is done, has failed, or takes too long. Never raises."""
        self._again = True
        if self._telling is None or self._telling.done():
            self._telling = asyncio.ensure_future(self._tell())
        patience = asyncio.ensure_future(self._clock.sleep(PATIENCE))
        await asyncio.wait({self._telling, patience}, return_when=asyncio.FIRST_COMPLETED)
        patience.cancel()

    async def _tell(self) -> None:
        try:
            while self._again:
                self._again = False
                while runs := await self._store.untold():
                    there = [Pointer(run, str(self._name)) for run in runs.values() if run is not None]
                    deleted = [run_id for run_id, run in runs.items() if run is None]
                    if there:
                        await tell_runs(there)
                    if deleted:
                        await forget_runs(deleted)
                    await self._store.told(runs)
        except DurabilityError as error:
            logger.warning("The registry of runs could not be told, which is tried again: %s", error)

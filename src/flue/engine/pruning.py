"""Retention: what has ended is deleted after a while, in small steps beside the work."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from flue.durable.port import DurableStore
from flue.durable.records import Retention
from flue.errors import DurabilityError
from flue.ports import Clock

logger = logging.getLogger("flue")
_DAY = 86_400.0
_EVERY = 600.0
_PAUSE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepFor:
    """How long what has ended is kept, in seconds; None is for ever.

    `runs` are recorded runs with their events, `prompts` the records and events of prompts and dispatches (the
    conversations stay), `deltas` the streamed pieces of both, `keys` the idempotency keys.
    """

    runs: float | None = 30 * _DAY
    prompts: float | None = 7 * _DAY
    deltas: float | None = 1 * _DAY
    keys: float | None = 60 * _DAY


class Pruning:
    """Prunes a store when work has ended and some time has passed since it last did; nothing runs when idle."""

    def __init__(self, store: DurableStore, clock: Clock, keep: KeepFor) -> None:
        self._store = store
        self._clock = clock
        self._keep = keep
        self._next = 0.0

    @property
    def due(self) -> bool:
        """Say whether it is time."""
        return self._clock.monotonic() >= self._next

    async def run(self) -> None:
        """Delete what may go, a few hundred things at a time."""
        self._next = self._clock.monotonic() + _EVERY
        now = self._clock.now_ms()
        retention = Retention(
            submissions=_before(now, self._keep.prompts),
            runs=_before(now, self._keep.runs),
            deltas=_before(now, self._keep.deltas),
            receipts=_before(now, self._keep.keys),
        )
        try:
            while await self._store.prune(retention):
                await self._clock.sleep(_PAUSE)
        except DurabilityError as error:
            logger.warning("What is too old to keep could not be deleted: %s", error)


def _before(now: int, seconds: float | None) -> int | None:
    return None if seconds is None else now - round(seconds * 1000)

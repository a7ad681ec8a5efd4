"""A log being written: a store with one claimed submission, its writer, and what was told to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

from flue.durable.outbox import Outbox
from flue.durable.port import DurableStore
from flue.durable.records import NOTHING, Claim, Outcome, Writes
from flue.engine.event_log import LogWriter
from flue.engine.feed import Feed
from flue.engine.log_reader import LoggedEvent, LogReader
from flue.engine.log_settings import LogSettings
from flue.events import Emitter, Event, MessageUpdate, Scope, TextDelta
from flue.harness.answer import PartialAnswer
from flue.messages import Json, TextContent
from flue.ports import Delta
from flue.stores import MemoryStore, SqliteStore
from flue.testing import VirtualClock
from flue.testing.scripted import INFO
from flue.testing.work_contract import LEASE, admission, claimant

T = TypeVar("T")

LOG = "s1"
SCOPE = Scope(instance_id="i1", harness="default", session="default", operation_id="op_1", turn_id="turn_1")


def wire(event: Event) -> Json:
    """Return an event's wire form as JSON values."""
    values: Json = json.loads(json.dumps(event.to_json()))
    return values


def values(logged: Sequence[LoggedEvent]) -> list[Json]:
    return [json.loads(event.data) for event in logged]


def indices(logged: Sequence[LoggedEvent]) -> list[int]:
    return [event.index for event in logged]


class Process:
    """One process: a feed, a reader, and after `claim` a writer. `told` is what was emitted, in its wire form."""

    def __init__(
        self,
        store: DurableStore,
        clock: VirtualClock,
        *,
        log: str = LOG,
        stream: str = "",
        told: bool = True,
        **settings: Any,
    ) -> None:
        self.store = store
        self.clock = clock
        self.log = log
        self.stream = stream
        self.settings = LogSettings(**settings)
        self._told = told
        self.feed = Feed()
        self.reader = LogReader(store, self.feed, clock)
        self.told: list[Json] = []
        self.events: list[Event] = []
        self.outbox: Outbox
        self.writer: LogWriter
        self.emitter: Emitter

    async def claim(self, attempt: str = "a1", *, now: int = 0, reserve: int = 1000) -> None:
        """Claim the submission and begin to write its log."""
        (claim,) = await self.store.claim([claimant(attempt, attempt, now=now)], now=now)
        self.outbox = Outbox(self.store, claim)
        first = await self.store.reserve_indices(self.log, reserve)
        self.writer = LogWriter(
            self.outbox,
            log=self.log,
            stream=self.stream,
            feed=self.feed,
            clock=self.clock,
            store=self.store,
            first=first,
            reserved=first + reserve,
            settings=self.settings,
        )
        self.emitter = Emitter(self.clock, [self._tell, self.writer] if self._told else [self.writer])
        self.emitter.next_index = first

    def emit(self, kind: Callable[..., Event], *values: Any, scope: Scope = SCOPE) -> None:
        self.emitter.emit(scope, kind, *values)

    def stream_text(self, pieces: Sequence[str], *, end: bool = True, partial: PartialAnswer | None = None) -> None:
        """Emit an answer's deltas, as the turn loop does."""
        partial = partial or PartialAnswer(INFO, 5)
        for piece in pieces:
            self.emit_delta(partial, Delta("text_delta", 0, piece))
            self.emit(TextDelta, piece)
        if end:
            self.emit_delta(partial, Delta("text_end", 0, content=TextContent("".join(pieces))))

    def emit_delta(self, partial: PartialAnswer, delta: Delta, scope: Scope = SCOPE) -> None:
        partial.add(delta)
        self.emit(MessageUpdate, delta, partial.message, scope=scope)

    async def settle(self) -> None:
        await self.outbox.settle(Outcome("completed"), now=1)
        self.writer.close()

    async def read(self, *, after: int = -1, **options: Any) -> list[LoggedEvent]:
        """Read a page, or without a limit all there is."""
        if "limit" in options:
            return await self.reader.read(self.log, after=after, **options)
        found: list[LoggedEvent] = []
        while page := await self.reader.read(self.log, after=after, limit=1000, **options):
            found += page
            after = page[-1].index
        return found

    async def follow(self, *, after: int = -1) -> list[LoggedEvent]:
        """Follow the log to its end."""
        return [event async for event in self.reader.follow(self.log, after=after)]

    def _tell(self, event: Event) -> None:
        self.told.append(wire(event))
        self.events.append(event)


@asynccontextmanager
async def open_store(kind: str, directory: Path) -> AsyncIterator[DurableStore]:
    store: DurableStore = MemoryStore() if kind == "memory" else SqliteStore(directory / "work.db")
    try:
        yield store
    finally:
        await store.aclose()


@asynccontextmanager
async def writing(
    kind: str = "memory", directory: Path = Path(), *, store: DurableStore | None = None, **options: Any
) -> AsyncIterator[Process]:
    """Open a store with one submission and a process that writes its log."""
    claim = {name: options.pop(name) for name in ("reserve",) if name in options}
    async with open_store(kind, directory) as opened:
        used = store or opened
        await used.admit(admission(LOG), now=0)
        process = Process(used, VirtualClock(), **options)
        await process.claim(**claim)
        try:
            yield process
        finally:
            process.writer.close()


async def take_over(process: Process, attempt: str, **options: Any) -> Process:
    """Let a process die as it is, and return another one that goes on with its work."""
    process.writer.close()
    heir = Process(process.store, process.clock, log=process.log, stream=process.stream)
    await process.store.take_over(attempt, now=LEASE)
    await heir.claim(attempt, now=LEASE, **options)
    return heir


class SlowStore(MemoryStore):
    """A memory store whose checkpoints and settlements are done when `commit` is called, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Callable[[], None]] = []

    def checkpoint(self, claim: Claim, writes: Writes) -> Awaitable[None]:
        return self.later(lambda: super(SlowStore, self).checkpoint(claim, writes))

    def settle(self, claim: Claim, outcome: Outcome, *, now: int, writes: Writes = NOTHING) -> Awaitable[None]:
        return self.later(lambda: super(SlowStore, self).settle(claim, outcome, now=now, writes=writes))

    def commit(self, count: int | None = None) -> None:
        """Do the next `count` transitions, or all."""
        for work in self.waiting[:count]:
            work()
        del self.waiting[:count]

    def lose(self) -> None:
        """Forget what is not done."""
        self.waiting.clear()

    def later(self, begin: Callable[[], Awaitable[T]]) -> Awaitable[T]:
        """Begin a transition when `commit` is called."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def work() -> None:
            transition = cast("asyncio.Future[T]", begin())
            if done.cancelled():
                return
            if (error := transition.exception()) is not None:
                done.set_exception(error)
            else:
                done.set_result(transition.result())

        self.waiting.append(work)
        return done


async def settled_tasks() -> None:
    """Let everything that is ready run."""
    for _ in range(20):
        await asyncio.sleep(0)


async def collect(process: Process, into: list[LoggedEvent], *, after: int = -1) -> None:
    """Follow a log to its end; what comes is in the list at once."""
    async for event in process.reader.follow(process.log, after=after):
        into.append(event)  # noqa: PERF401 - seen while it grows

"""Reading event logs: a page at a time, or following them to their end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Iterator
from contextlib import contextmanager

from flue.durable.port import DurableStore
from flue.durable.records import StoredEvents, Wake
from flue.engine.delta_reader import DeltaReader
from flue.engine.feed import Feed
from flue.engine.logged import LoggedEvent
from flue.engine.row_reader import RowReader, answers_begun
from flue.errors import DurabilityError
from flue.ports import Clock

__all__ = ["LogReader", "LoggedEvent"]

_ROWS = 50
_FIRST_ROWS = 8
_HELD_CHARACTERS = 512 * 1024
_PAGE_CHARACTERS = 16 * 1024 * 1024
# A wake-up may be lost with a connection; so long at most nobody looks.
_LOOK_AGAIN = 15.0
_KNOWN_LOGS = 10_000
_LOGS = 16


class LogReader:
    """Reads the logs of a store. Those written in this process reach followers through `feed`, others by the store.

    With `looks_again` followers look every few seconds, too.
    """

    def __init__(self, store: DurableStore, feed: Feed, clock: Clock, *, looks_again: bool = True) -> None:
        self._store = store
        self._feed = feed
        self._clock = clock
        self._looks_again = looks_again
        self._streams = Feed()
        """Followers of instances, by stream."""
        self._stream_of: dict[str, str] = {}
        self._lookups: set[asyncio.Task[None]] = set()
        self._followers = 0
        self._unlisten: Callable[[], None] | None = None
        self._watch: asyncio.Task[None] | None = None

    async def read(
        self, log: str, *, after: int = -1, types: Collection[str] | None = None, limit: int = 100
    ) -> list[LoggedEvent]:
        """Return the next events of a log after an index, of certain types, at most `limit`.

        A page ends early when its events are very long; it is empty only when there are no more. Raises
        `DurabilityError`.
        """
        wanted = None if types is None else frozenset(types)
        found: list[LoggedEvent] = []
        room = _PAGE_CHARACTERS
        rows, pages = RowReader(self._store, log), _Pages()
        while page := pages.noted(
            await self._store.read_events(log, start=max(after, rows.last) + 1, limit=pages.limit)
        ):
            for stored in page:
                for event in await rows.open(stored, after=after, types=wanted):
                    found.append(event)
                    room -= len(event.data)
                    if len(found) >= limit or room <= 0:
                        return found
        return found

    async def follow(self, log: str, *, after: int = -1) -> AsyncGenerator[LoggedEvent, None]:
        """Yield the events of a log after an index, and go on as they come until the work has settled.

        Each event comes once, in order (DUR-34); all but deltas are on disk before they come. Ends at once for a log of
        unknown work. A slow consumer delays nobody. Raises `DurabilityError`.
        """
        rows, pages = RowReader(self._store, log), _Pages()
        read = after  # whatever is stored up to here was seen
        with self._following(), self._feed.subscribe(log) as live:
            live.stale = True
            while True:
                event = live.first(max(after, read))
                if event is not None and event.index == max(after, read) + 1:
                    after = event.index
                    yield event
                elif live.stale or live.channel.stored > max(after, read):
                    live.stale = False
                    if rows.last != after:
                        rows = RowReader(self._store, log)
                    read, settled = live.channel.stored, await self._settled(log)
                    while page := pages.noted(await self._store.read_events(log, start=after + 1, limit=pages.limit)):
                        for stored in page:
                            for found in await rows.open(stored, after=after):
                                after = found.index
                                yield found
                            after = stored.row.last
                    if settled:
                        return
                else:
                    await live.changed()

    async def follow_stream(self, stream: str, *, after: int = 0) -> AsyncGenerator[LoggedEvent, None]:
        """Yield the events of all work of an agent instance in rows with offsets above `after`, as they come.

        They come once they are on disk, those of one log in order. Never ends by itself. Raises `DurabilityError`.
        """
        logs: dict[str, RowReader] = {}
        pages = _Pages()
        with self._following(), self._streams.subscribe(stream) as live:
            while True:
                while page := pages.noted(await self._store.read_stream(stream, after=after, limit=pages.limit)):
                    for stored in page:
                        log = stored.row.log
                        rows = logs.pop(log) if log in logs else RowReader(self._store, log)
                        logs[log] = rows
                        if len(logs) > _LOGS:
                            del logs[next(iter(logs))]
                        for event in await rows.open(stored):
                            yield event
                        after = stored.offset
                await live.changed()

    async def streamed_text(self, log: str, turn: str, *, after: int = -1) -> str:
        """Return the text that has arrived of the answer in a turn; empty where a tool call had begun to arrive.

        `after` is the index of an event before it. Where the request was repeated, the last one counts.
        """
        deltas, answer, more = DeltaReader(), -1, True
        while more:
            page = await self._store.read_events(log, start=after + 1, limit=_ROWS)
            for stored in page:
                after = stored.row.last
                if began := answers_begun(stored.row, deltas, turn):
                    answer = began[-1]
            more = len(page) == _ROWS
        return "".join(deltas.texts(answer) or ())

    async def _settled(self, log: str) -> bool:
        found = await self._store.get_submission(log)
        return found is None or found.state == "settled"

    # ---------------------------------------------------------------------------------------- wake-ups

    @contextmanager
    def _following(self) -> Iterator[None]:
        """Hear of changes while there is anybody who follows."""
        if not self._followers:
            self._unlisten = self._store.listen(self._on_wake)
            self._watch = asyncio.create_task(self._look_again()) if self._looks_again else None
        self._followers += 1
        try:
            yield
        finally:
            self._followers -= 1
            if not self._followers:
                assert self._unlisten is not None
                self._unlisten()
                for task in (self._watch, *self._lookups):
                    if task is not None:
                        task.cancel()

    async def _look_again(self) -> None:
        while True:
            await self._clock.sleep(_LOOK_AGAIN)
            self._feed.look()
            self._streams.look()

    def _on_wake(self, wake: Wake) -> None:
        if wake.kind != "events":
            return
        self._feed.changed(wake.key)
        if not wake.key:
            self._streams.look()
        elif self._streams.followed:
            self._on_row(wake.key)

    def _on_row(self, log: str) -> None:
        stream = self._stream_of.get(log)
        if stream is None:
            task = asyncio.create_task(self._find_stream(log))
            self._lookups.add(task)
            task.add_done_callback(self._lookups.discard)
        elif stream:
            self._streams.changed(stream)

    async def _find_stream(self, log: str) -> None:
        """Find out which instance a log belongs to, once."""
        try:
            rows = await self._store.read_events(log, limit=1)
        except DurabilityError:
            return  # its followers look again in a while
        if rows and log not in self._stream_of:
            if len(self._stream_of) >= _KNOWN_LOGS:
                self._stream_of.clear()
            self._stream_of[log] = rows[0].row.stream
        if rows and rows[0].row.stream:
            self._streams.changed(rows[0].row.stream)


class _Pages:
    """How many rows to read next: few at first and where they are long, for whoever reads slowly holds a page."""

    def __init__(self) -> None:
        self.limit = _FIRST_ROWS

    def noted(self, page: list[StoredEvents]) -> list[StoredEvents]:
        """Take note of a page, and return it."""
        characters = sum(len(stored.row.body) for stored in page)
        if characters > _HELD_CHARACTERS:
            self.limit = max(self.limit // 2, 1)
        elif len(page) == self.limit and characters < _HELD_CHARACTERS // 2:
            self.limit = min(self.limit * 2, _ROWS)
        return page

"""The writer of an event log: what a claim's context tells, in order, to disk and to whoever follows it here."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable
from dataclasses import dataclass

from flue.durable.outbox import Outbox
from flue.durable.port import DurableStore
from flue.durable.records import EventRow
from flue.engine.delta_writer import ALONE, DELTAS, Answer, cut, own_text
from flue.engine.feed import Feed
from flue.engine.flood import Flood
from flue.engine.json_text import event_text, scope_text
from flue.engine.log_settings import LogSettings
from flue.engine.logged import LoggedEvent
from flue.engine.record_writer import Line, note
from flue.engine.row_writer import RowWriter
from flue.errors import DurabilityError
from flue.events import Event, Log, MessageEnd, MessageUpdate, Scope
from flue.ports import Clock

__all__ = ["LogSettings", "LogWriter"]

logger = logging.getLogger("flue")

_FIRST_BLOCK = 256
_LARGEST_BLOCK = 8192
_AGAIN = 1.0


@dataclass(frozen=True, slots=True)
class _Block:
    """Reserved indices: the events before `end`, counted as the context counts them, get theirs plus `shift`."""

    end: int
    shift: int


@dataclass(eq=False, slots=True)
class _Batch:
    """Rows on their way: up to which event, and up to where indices were reserved when they left."""

    last: int
    reserved: int
    done: bool = False


# An event that followers here are still to see; of a delta also its answer, and how many deltas of that precede it.
_Held = tuple[Event, Answer | None, int]


class LogWriter:
    """Writes the event log of one claim: a sink of its context's events, and the source of rows of its outbox.

    Deltas are written several to a row, at the latest after `settings.flush_seconds`; other events at the end of the
    tick of the event loop that they came in, or with the write before them, whichever is later. Followers in this
    process see events in the order of the log: what is no delta once it is on disk, a delta at once when everything
    before it is and its index was reserved while the claim surely held. Of lines of the application's log that come
    faster than they can be written only the number is kept (`Flood`).

    `first` is the index of the first event and `reserved` the one up to which indices are reserved; more are when they
    run short, and what comes when there is none waits. `session_prefix` stands before session keys in the store. Once
    a write has failed, nothing more is written or shown. `close()` it when the claim has ended.
    """

    def __init__(
        self,
        outbox: Outbox,
        *,
        log: str,
        stream: str = "",
        feed: Feed,
        clock: Clock,
        store: DurableStore,
        first: int,
        reserved: int,
        settings: LogSettings,
        session_prefix: str = "",
    ) -> None:
        self._outbox = outbox
        self._log = log
        self._feed = feed
        self._clock = clock
        self._store = store
        self._settings = settings
        self._rows = RowWriter(log, stream, settings, session_prefix)
        self._channel = feed.open(log, first - 1)
        self._closed = False
        # Positions below are those of the context's events; `_place` gives the index in the log.
        self._blocks = [_Block(reserved, 0)]
        self._low = (first + reserved) // 2
        self._size = _FIRST_BLOCK
        self._reserving: asyncio.Task[None] | None = None
        self._pending: list[Event | Answer] = []
        self._flood = Flood()
        self._last = first - 1
        self._taken = first - 1
        self._on_way: deque[_Batch] = deque()
        self._durable = first - 1
        self._confirmed = first
        """Below it indices were reserved before a write that succeeded: no later claim can have lower ones."""
        self._urgent = False
        self._armed = False
        self._timer: asyncio.Task[None] | None = None
        self._owner: object = None
        self._answer: Answer | None = None
        self._answers: dict[int, tuple[object, Answer]] = {}
        self._held: deque[_Held] = deque()
        self._lines: dict[int, Line] = {}
        self._scope: Scope | None = None
        self._scope_text = ""
        outbox.rows = self

    def __call__(self, event: Event) -> None:
        """Take in an event. Never raises for what the event holds, and never waits."""
        if self._closed or (type(event) is Log and not self._flood.has_room(event)):
            return
        if self._flood.left_out:
            self._add(self._flood.take_note())
        self._add(event)

    def _add(self, event: Event) -> None:
        self._last = event.index
        if type(event) in DELTAS:
            if type(event) is MessageUpdate:
                self._follow_answer(event)
            self._pending.append(event)
            if self._timer is None:
                self._timer = asyncio.create_task(self._flush_later())
        else:
            self._pending.append(event)
            self._urgent = True
            if type(event) is MessageEnd:
                self._end_answers(event)
            self._arm()
        if event.index >= self._low and self._reserving is None:
            self._reserving = asyncio.create_task(self._reserve())
        if self._channel.subscribers:
            self._hold(event)

    @property
    def reserved(self) -> int:
        """Return the index up to which indices are reserved: whoever reserves next begins there."""
        return self._blocks[-1].end + self._blocks[-1].shift

    async def ready(self) -> None:
        """Wait until every event has an index, so that the next write carries all of them; as a rule they have."""
        while not self._closed and self._last >= self._blocks[-1].end:
            if self._reserving is None:
                self._reserving = asyncio.create_task(self._reserve())
            await asyncio.wait([self._reserving])

    def close(self) -> None:
        """Stop writing. What was not handed to the outbox is forgotten; followers look into the store."""
        if self._closed:
            return
        self._closed = True
        for task in (self._timer, self._reserving):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        self._pending.clear()
        self._held.clear()
        self._lines.clear()
        self._feed.close(self._channel)

    # ---------------------------------------------------------------------------------------- writing

    def take(self) -> tuple[EventRow, ...]:
        """Return rows for what was not handed over yet, as far as indices are reserved."""
        if not self._pending:
            return ()
        items, end = self._pending, self._blocks[-1].end
        reserved = len(items)
        if self._last >= end:
            waiting = (at for at, item in enumerate(items) if not isinstance(item, Answer) and item.index >= end)
            reserved = next(waiting)
        self._pending = items[reserved:]
        self._flood.taken(self._pending)
        self._urgent = bool(self._pending)
        self._taken = min(self._last, end - 1)
        return self._rows.rows(items[:reserved], self._place, self._lines if self._channel.subscribers else None)

    def sent(self, written: Awaitable[object]) -> None:
        """Be told of the write that carries what was just taken."""
        batch = _Batch(self._taken, self._blocks[-1].end)
        self._on_way.append(batch)
        write = asyncio.ensure_future(written)
        if write.done():
            self._written(batch, write)
        else:
            write.add_done_callback(lambda done: self._written(batch, done))

    def _written(self, batch: _Batch, written: asyncio.Future[object]) -> None:
        if self._closed:
            return
        error = None if written.cancelled() else written.exception()
        if error is not None or written.cancelled():
            self._fail(error)
            return
        batch.done = True
        while self._on_way and self._on_way[0].done:
            batch = self._on_way.popleft()
            self._durable = batch.last
            self._confirmed = max(self._confirmed, batch.reserved)
        self._channel.written(self._place(self._durable))
        self._show()
        if self._flood.left_out and not self._pending:
            self._add(self._flood.take_note())
        if self._urgent:
            self._arm()

    def _fail(self, error: BaseException | None) -> None:
        if not (isinstance(error, DurabilityError) and error.code == "attempt_lost"):
            logger.warning("The event log %s ends early, it could not be written: %s", self._log, error)
        self.close()

    def _arm(self) -> None:
        """Write at the end of this tick; while a write is on its way, when that is done."""
        if not self._armed and not self._on_way:
            self._armed = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._armed = False
        if self._taken < min(self._last, self._blocks[-1].end - 1) and not self._on_way and not self._closed:
            self._outbox.write()

    async def _flush_later(self) -> None:
        await self._clock.sleep(self._settings.flush_seconds)
        self._timer = None
        if self._pending:
            self._urgent = True
            self._arm()

    # ---------------------------------------------------------------------------------------- indices

    def _place(self, index: int) -> int:
        """Return the index in the log of an event that has one."""
        for block in self._blocks:
            if index < block.end:
                return index + block.shift
        raise AssertionError(f"event {index} has no index yet")

    async def _reserve(self) -> None:
        """Reserve the next indices, more each time. They go on where the last ones end, unless another took some.

        What comes meanwhile waits, also when that takes several tries: the work goes on, and its log is to have it all.
        """
        try:
            while self._last >= self._low:
                end, shift = self._blocks[-1].end, self._blocks[-1].shift
                size = max(self._size, 2 * (self._last - end))
                try:
                    first = await self._store.reserve_indices(self._log, size)
                except DurabilityError as error:
                    logger.warning("The event log %s waits for the store: %s", self._log, error)
                    await self._clock.sleep(_AGAIN)
                    continue
                if first == end + shift:
                    self._blocks[-1] = _Block(end + size, shift)
                else:
                    self._blocks.append(_Block(end + size, first - end))
                self._low = end + size // 2
                self._size = min(self._size * 2, _LARGEST_BLOCK)
        finally:
            self._reserving = None
        if self._pending and not self._closed:
            # The next write confirms the block: until then its deltas are not shown before they are on disk.
            self._urgent = True
            self._arm()

    # --------------------------------------------------------------------------------------- followers

    def _follow_answer(self, event: MessageUpdate) -> None:
        """Find the answer that a delta belongs to. One whose beginning was not seen is told anew with each delta."""
        owner: object = getattr(event.partial, "__self__", event.partial)
        if owner is not self._owner or (self._answer is not None and self._answer.content is not None):
            self._owner = owner
            known = self._answers.get(id(owner))
            if known is None or known[1].content is not None:
                known = self._answers[id(owner)] = (owner, Answer.begun(event, self._settings.field_limit))
            self._answer = known[1]
            self._pending.append(self._answer)
        assert self._answer is not None
        self._answer.deltas.append(event.delta)

    def _end_answers(self, event: MessageEnd) -> None:
        ended = [key for key, (_, answer) in self._answers.items() if answer.scope is event.scope]
        for key in ended:
            del self._answers[key]
        if ended:
            self._owner = None

    def _hold(self, event: Event) -> None:
        """Show an event, or keep it until it may be shown."""
        answer = self._answer if type(event) is MessageUpdate else None
        held = (event, answer, len(answer.deltas) - 1 if answer is not None else 0)
        if not self._held and self._may_show(event):
            self._publish(held)
        else:
            self._held.append(held)

    def _show(self) -> None:
        """Show what was held and now may be shown."""
        if not self._channel.subscribers:
            self._held.clear()  # who comes later finds the gap, and waits until it is on disk
        while self._held and self._may_show(self._held[0][0]):
            self._publish(self._held.popleft())
        for index in [index for index in self._lines if index <= self._durable]:
            del self._lines[index]

    def _may_show(self, event: Event) -> bool:
        """Say whether an event is on disk; of a delta, whether its index is (DUR-23)."""
        if type(event) in DELTAS:
            return event.index < self._confirmed
        return event.index <= self._durable

    def _publish(self, held: _Held) -> None:
        event = held[0]
        index = self._place(event.index)
        if type(event) in DELTAS:
            text = self._delta_text(held, index)
        elif (line := self._lines.get(event.index)) is not None:
            text = line.shown()
        else:
            return  # it was written while nobody followed: followers read it from the store
        self._channel.publish(LoggedEvent(index, event.type, text))

    def _delta_text(self, held: _Held, index: int) -> str:
        event, answer, before = held
        limit = self._settings.field_limit
        if event.scope is not self._scope:
            self._scope, self._scope_text = event.scope, scope_text(event.scope)
        try:
            if isinstance(event, MessageUpdate):
                assert answer is not None
                own = answer.show(event.delta, before, limit)
            else:
                name = ALONE[type(event)][1]
                own = own_text(name, cut(getattr(event, name), limit), limit) if name else ()
            return event_text(event.type, self._scope_text, own, index, event.at_ms)
        except Exception as error:  # noqa: BLE001 - a follower gets what the log will hold
            return note(event, index, error).shown()

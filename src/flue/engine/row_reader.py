"""Rows of a log read in order: the events they stand for, with everything in place that rows only refer to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from flue.durable.port import DurableStore
from flue.durable.records import EventRow, StoredEvents
from flue.engine.delta_reader import DeltaReader, DeltaRow
from flue.engine.json_text import encode, field, joined, message_json
from flue.engine.logged import LoggedEvent
from flue.errors import DurabilityError
from flue.harness.entries import Entry, StoredEntries

_PAGE = 200
_LINES = 256
_LINE_CHARACTERS = 256 * 1024


class RowReader:
    """Reads one log, row after row in order. What a row refers to is loaded when it is needed."""

    def __init__(self, store: DurableStore, log: str) -> None:
        self.last = -1
        """The index of the last event read."""
        self._store = store
        self._log = log
        self._deltas = DeltaReader()
        self._sessions: dict[str, _Session] = {}
        self._lines: dict[int, str] = {}
        self._held = 0
        self._found: dict[str, str] = {}

    async def open(
        self, stored: StoredEvents, *, after: int = -1, types: frozenset[str] | None = None
    ) -> Iterator[LoggedEvent]:
        """Load what the next row refers to, and return its events after an index."""
        row = stored.row
        kind, held, rest = _parts(row)
        if types is not None and types.isdisjoint(held):
            self.last = row.last
            return iter(())
        if kind == "d1":
            events = await self._delta_events(stored, rest, after, types)
        else:
            events = await self._record_events(stored, held, rest.split("\n"), after, types)
        self.last = row.last
        return events

    async def _delta_events(
        self, stored: StoredEvents, text: str, after: int, types: frozenset[str] | None
    ) -> Iterator[LoggedEvent]:
        row = stored.row
        deltas = DeltaRow(row.first, text)
        if types is None or "message_update" in types:
            start = self._deltas.beginning(deltas)
            if start is not None:
                self._deltas.adopt(await self._read_deltas(start, row.first))
        return self._deltas.events(deltas, after=after, types=types, offset=stored.offset)

    async def _read_deltas(self, start: int, end: int) -> DeltaReader:
        reader = DeltaReader()
        while start < end:
            page = await self._store.read_events(self._log, start=start, limit=_PAGE)
            for stored in page:
                kind, _, rest = _parts(stored.row)
                if kind == "d1" and stored.row.last < end:
                    reader.pass_over(DeltaRow(stored.row.first, rest))
            if not page:
                break
            start = page[-1].row.last + 1
        return reader

    # ------------------------------------------------------------------------------------- references

    async def _record_events(
        self, stored: StoredEvents, held: list[str], lines: list[str], after: int, types: frozenset[str] | None
    ) -> Iterator[LoggedEvent]:
        row = stored.row
        wanted = [
            (index, type, line)
            for index, (type, line) in enumerate(zip(held, lines, strict=True), row.first)
            if index > after and (types is None or type in types)
        ]
        self._remember(row.first, lines)
        found = {}
        for _, _, line in wanted:
            for piece in line.split("\t"):
                if piece[0] in "#&" and piece not in found:
                    found[piece] = await self._resolve(piece)
        return (
            LoggedEvent(index, type, "".join(found.get(piece, piece) for piece in line.split("\t")), stored.offset)
            for index, type, line in wanted
        )

    def _remember(self, first: int, lines: list[str]) -> None:
        for index, line in enumerate(lines, first):
            self._held += len(line) - len(self._lines.get(index, ""))
            self._lines[index] = line
        while len(self._lines) > _LINES or self._held > _LINE_CHARACTERS:
            self._held -= len(self._lines.pop(next(iter(self._lines))))

    async def _resolve(self, piece: str) -> str:
        if piece[0] == "&":
            return await self._messages(json.loads(piece[1:]))
        index, number = map(int, piece[1:].split("."))
        line = self._lines.get(index)
        if line is None:
            page = await self._store.read_events(self._log, start=index, limit=1)
            if not page or page[0].row.first > index:
                return _gone("it was deleted")
            first, lines = page[0].row.first, _parts(page[0].row)[2].split("\n")
            self._remember(first, lines)
            line = lines[index - first]
        return line.split("\t")[number]

    async def _messages(self, wanted: Any) -> str:
        """Return the messages that a model was sent, from the stored session."""
        key = wanted["session"]
        session = self._sessions.setdefault(key, _Session(self._store, key))
        return await session.messages(**{name: wanted[name] for name in ("leaf", "count", "limit", "redacted")})


class _Session:
    """A stored session's entries, as far back as they were asked for, and their messages as text."""

    def __init__(self, store: DurableStore, key: str) -> None:
        self._store = store
        self._key = key
        self._entries = StoredEntries(())
        self._texts: dict[str, str] = {}

    async def messages(self, leaf: str, count: int, limit: int, redacted: bool) -> str:
        path = await self._path(leaf)
        if path is None:
            return _gone("the session was deleted, or is kept elsewhere")
        if len(path) != count:
            return _gone("the session was changed")
        for entry in path:
            if entry.id not in self._texts:
                self._texts[entry.id] = field(message_json(entry.message, redacted=redacted), limit)
        return joined([self._texts[entry.id] for entry in path], limit)

    async def _path(self, leaf: str) -> list[Entry] | None:
        path = self._entries.visible_path(leaf)
        # What the model sees now, and only for an older log all there is.
        for start in (None, 0):
            if path is not None:
                break
            stored = await self._store.load_session(self._key, start=start)
            if stored is None:
                break
            self._entries = StoredEntries(stored.entries)
            path = self._entries.visible_path(leaf)
        return path


def answers_begun(row: EventRow, deltas: DeltaReader, turn: str) -> list[int]:
    """Take a row's deltas in; return where answers of a turn begin in it, -1 for one without a delta yet."""
    kind, types, rest = _parts(row)
    if kind == "d1":
        read = DeltaRow(row.first, rest)
        deltas.pass_over(read)
        return [entry.first for entry in read.table if entry.turn == turn and entry.task is None and entry.first >= 0]
    began = []
    for type, line in zip(types, rest.split("\n"), strict=True):
        if type == "message_start":
            event = json.loads(line.replace("\t", ""))
            if event.get("turnId") == turn and "taskId" not in event and event["message"].get("role") == "assistant":
                began.append(-1)
    return began


def _parts(row: EventRow) -> tuple[str, list[str], str]:
    """Return what kind of row it is, the types of its events, and the rest."""
    head, _, rest = row.body.partition("\n")
    kind, *types = head.split(" ")
    if kind not in ("r1", "d1"):
        raise DurabilityError(
            f"Event {row.first} of log {row.log} is stored in a form that this version cannot read.",
            code="store_newer_format",
            hint="Upgrade flue-agents.",
        )
    return kind, types, rest


def _gone(reason: str) -> str:
    return encode({"truncated": True, "reason": reason})

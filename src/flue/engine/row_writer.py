"""Events of a log put into rows: deltas many to a row, the others a few."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from flue.durable.records import EventRow
from flue.engine.delta_writer import DELTAS, Answer, DeltaWriter
from flue.engine.log_settings import LogSettings
from flue.engine.record_writer import Line, RecordWriter, note
from flue.events import Event

logger = logging.getLogger("flue")

_ROW_CHARACTERS = 64 * 1024
_ROW_EVENTS = 200


class RowWriter:
    """Makes the rows of one log, in order. `session_prefix` stands before session keys in the store."""

    def __init__(self, log: str, stream: str, settings: LogSettings, session_prefix: str = "") -> None:
        self._log = log
        self._stream = stream
        self._deltas = DeltaWriter(settings.field_limit)
        self._records = RecordWriter(settings, session_prefix)
        self._rows: list[EventRow] = []
        self._gathered: list[tuple[Event, int]] = []
        self._lines: list[str] = []
        self._types: list[str] = []
        self._first = 0
        self._length = 0

    def rows(
        self,
        items: Sequence[Event | Answer],
        place: Callable[[int], int],
        shown: dict[int, Line] | None = None,
    ) -> tuple[EventRow, ...]:
        """Return the rows for events; an `Answer` among them says whose deltas come next.

        `place` gives the index in the log for that of an event. Lines are also put into `shown`, by the event's index.
        """
        for item in items:
            if isinstance(item, Answer):
                self._deltas.answer = item
            elif type(item) in DELTAS:
                self._end_record_row()
                self._add_delta(item, place(item.index))
            else:
                self._end_delta_row()
                index = place(item.index)
                line = self._records.line(item, index)
                if shown is not None:
                    shown[item.index] = line
                self._add_line(item.type, line.stored(), index)
        self._end_delta_row()
        self._end_record_row()
        rows, self._rows = tuple(self._rows), []
        return rows

    def _add_line(self, type: str, line: str, index: int) -> None:
        follows = index == self._first + len(self._lines)
        if not follows or self._length >= _ROW_CHARACTERS or len(self._lines) >= _ROW_EVENTS:
            self._end_record_row()
        if not self._lines:
            self._first = index
        self._types.append(type)
        self._lines.append(line)
        self._length += len(line)

    def _end_record_row(self) -> None:
        if self._lines:
            body = "\n".join((f"r1 {' '.join(self._types)}", *self._lines))
            last = self._first + len(self._lines) - 1
            self._rows.append(EventRow(self._log, self._first, last, body, self._stream))
            self._types, self._lines, self._length = [], [], 0

    def _add_delta(self, event: Event, index: int) -> None:
        deltas = self._deltas
        if self._gathered and (index != self._gathered[-1][1] + 1 or deltas.full):
            self._end_delta_row()
        self._gathered.append((event, index))
        try:
            deltas.add(event, index)
        except Exception as error:  # noqa: BLE001 - whatever an event holds must not stop the work
            self._note_deltas(error)

    def _end_delta_row(self) -> None:
        if not self._gathered:
            return
        try:
            body = self._deltas.body()
        except Exception as error:  # noqa: BLE001 - as above
            self._note_deltas(error)
            return
        first, last = self._gathered[0][1], self._gathered[-1][1]
        self._rows.append(EventRow(self._log, first, last, body, self._stream, deltas=True))
        self._gathered = []

    def _note_deltas(self, error: Exception) -> None:
        """Put notes in the place of deltas that cannot be encoded."""
        logger.error("Deltas could not be encoded for the log.", exc_info=error)
        self._deltas.abandon()
        gathered, self._gathered = self._gathered, []
        for event, index in gathered:
            self._add_line(event.type, note(event, index, error).stored(), index)
        self._end_record_row()


def rows_of(
    events: Sequence[Event], log: str, stream: str = "", settings: LogSettings | None = None
) -> tuple[EventRow, ...]:
    """Return the rows for events under the indices they have, for a log that nobody writes. They must not be deltas."""
    return RowWriter(log, stream, settings or LogSettings()).rows(events, lambda index: index)

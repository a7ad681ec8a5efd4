"""Lines of an application's log that come faster than they can be written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from flue.events import Log

WAITING_CHARACTERS = 4 * 1024 * 1024
"""So much of a log may wait for the write before it; encoding it takes some hundredths of a second."""

_LINE = 200
"""What a line costs beside its text, about."""


class Flood:
    """Bounds what waits of one log, by leaving lines out.

    Telling a line cannot wait, so an application that does nothing else would fill the memory, and each write would be
    larger than the one before it. Events other than lines come no faster than the work they tell of.
    """

    def __init__(self) -> None:
        self.left_out = 0
        """How many lines were left out since the last note."""
        self._waiting = 0
        self._last: Log | None = None

    def has_room(self, line: Log) -> bool:
        """Count a line as waiting; or as left out, and return False."""
        size = _size(line)
        if self._waiting and self._waiting + size > WAITING_CHARACTERS:
            self.left_out += 1
            self._last = line
            return False
        self._waiting += size
        return True

    def take_note(self) -> Log:
        """Return what takes the place of the lines that were left out: a line of the last one's index and time."""
        assert self._last is not None
        note = f"{self.left_out} lines were left out here: they came faster than they could be written."
        event = replace(self._last, level="warn", message=note, attributes={"leftOut": self.left_out})
        self.left_out, self._last = 0, None
        return event

    def taken(self, rest: Iterable[object]) -> None:
        """Be told that all but the rest is being written."""
        self._waiting = sum(_size(item) for item in rest if isinstance(item, Log))


def _size(line: Log) -> int:
    """Return about how many characters a line takes: attributes count as far as they are text themselves."""
    values = () if line.attributes is None else line.attributes.values()
    return _LINE + len(line.message) + sum(len(value) for value in values if isinstance(value, str))

"""Rows of deltas read: the events they stand for, with the answer so far. `delta_writer` says what a row holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from flue.engine.answer_text import AnswerText, Piece
from flue.engine.delta_writer import ALONE, REPEATED, own_text
from flue.engine.json_text import encode, event_text
from flue.engine.logged import LoggedEvent

_BY_TAG = {tag: (kind.type, name) for kind, (tag, name) in ALONE.items()}
_FIELDS = dict(_BY_TAG.values())
_REPEATED = {delta: (kind.type, _FIELDS[kind.type]) for delta, kind in REPEATED.items()}
_ANSWERS = 64


class _Entry:
    """Whose deltas these are: the scope of the events, and where the answer begins (-1: no answer)."""

    def __init__(self, scope: Any, first: int, about: Any = None, content: Any = None) -> None:
        self.turn = scope.get("turnId")
        self.task = scope.get("taskId")
        self.scope = encode(scope)[1:-1] + "," if scope else ""
        self.first = first
        self.about = about
        self.content = content


class DeltaRow:
    """A row of deltas. `text` is its second line."""

    def __init__(self, first: int, text: str) -> None:
        self.first = first
        self.limit, self._started, table, self._items = json.loads(text)
        self.table = [_Entry(*entry) for entry in table]

    def items(self) -> Iterator[tuple[str, int, _Entry, str, Piece | str | list[Any]]]:
        """Yield type, time, whose it is, the name of the one field, and its value or the delta."""
        entry, at, type, block = self.table[0], self._started, "", 0
        for item in self._items:
            if isinstance(item, int):
                at += item
            elif isinstance(item, str):
                yield "message_update", at, entry, "", Piece(type, block, item)
                repeated, name = _REPEATED[type]
                yield repeated, at, entry, name, item
            elif len(item) == 1:
                yield "message_update", at, entry, "", Piece(type, block, item[0])
            elif item[0] == "u":
                type, block = item[1], item[2]
                yield "message_update", at, entry, "", Piece(*item[1:])
            elif item[0] == "s":
                entry = self.table[item[1]]
            else:
                alone, name = _BY_TAG[item[0]]
                yield alone, at, entry, name, item[1]


class DeltaReader:
    """Makes events of the delta rows of one log, given to it in order."""

    def __init__(self) -> None:
        self._answers: dict[int, AnswerText] = {}

    def beginning(self, row: DeltaRow) -> int | None:
        """Return the index from which rows must be read before this one; None when nothing is missing."""
        missing = [entry.first for entry in row.table if 0 <= entry.first < row.first]
        return min((first for first in missing if first not in self._answers), default=None)

    def adopt(self, other: DeltaReader) -> None:
        """Take over the answers that another reader knows."""
        self._answers = {**other._answers, **self._answers}

    def pass_over(self, row: DeltaRow) -> None:
        """Take a row in without giving its events."""
        for _ in self.events(row, after=1 << 60):
            pass

    def texts(self, first: int) -> list[str] | None:
        """Return the text blocks of the answer that began at an index; None where there are none, or a tool call."""
        answer = self._answers.get(first)
        return None if answer is None else answer.texts()

    def events(
        self, row: DeltaRow, *, after: int, types: frozenset[str] | None = None, offset: int = 0
    ) -> Iterator[LoggedEvent]:
        """Yield the row's events after an index.

        What needs the answer so far is left out when the beginning of the answer is gone.
        """
        self._begin(row)
        updates = types is None or "message_update" in types
        for index, (type, at, entry, name, value) in enumerate(row.items(), row.first):
            wanted = index > after and (types is None or type in types)
            if isinstance(value, Piece):
                answer = self._answers.get(entry.first) if updates else None
                if answer is None:
                    continue
                answer.add(value, entry.content)
                own = answer.update(value) if wanted else ()
            else:
                own = own_text(name, value, row.limit) if wanted else ()
            if wanted:
                yield LoggedEvent(index, type, event_text(type, entry.scope, own, index, at), offset)

    def _begin(self, row: DeltaRow) -> None:
        for entry in row.table:
            if entry.about is not None:
                self._answers[entry.first] = AnswerText(entry.about, row.limit)
        # Those that have had no delta for long have ended.
        while len(self._answers) > _ANSWERS:
            del self._answers[next(iter(self._answers))]

"""Rows of deltas: many events to a row, without the answer so far that each of them carries on the wire.

A row is a short program. It starts with a time and a table of the answers it belongs to; its items are:

    5                        the time goes on by 5 ms
    "tok"                    a delta like the one before, and the `text_delta` or `thinking_delta` that repeats it
    ["tok"]                  the delta alone
    ["u", type, index, delta, content, more]    a delta of another type or block
    ["t", text]  ["d", delta]  ["b", ""]  ["e", content]    text_delta, thinking_delta, _start, _end by themselves
    ["s", n]                 what follows belongs to entry n of the table, at first to entry 0

The table says where each answer began: to go on from the middle of one, its rows are read from there.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from flue.engine.answer_text import AnswerText, Piece
from flue.engine.json_text import NOT_JSON, encode, truncated
from flue.engine.json_text import field as field_text
from flue.events import Event, MessageUpdate, Scope, TextDelta, ThinkingDelta, ThinkingEnd, ThinkingStart
from flue.messages import Json
from flue.ports import Delta

DELTAS: frozenset[type[Event]] = frozenset((MessageUpdate, TextDelta, ThinkingStart, ThinkingDelta, ThinkingEnd))
"""The events that may be shown before they are on disk, and dropped when their work is done."""

ALONE: dict[type[Event], tuple[str, str]] = {
    TextDelta: ("t", "text"),
    ThinkingDelta: ("d", "delta"),
    ThinkingStart: ("b", ""),
    ThinkingEnd: ("e", "content"),
}
REPEATED: dict[str, type[Event]] = {"text_delta": TextDelta, "thinking_delta": ThinkingDelta}

_ROW_EVENTS = 512
_ROW_CHARACTERS = 64 * 1024
_FRAME = 8


@dataclass(eq=False, slots=True)
class Answer:
    """An answer that streams. `first` is the index in the log of its first delta, once it has one.

    `about` is its JSON without content; `content` is set when its beginning was not seen: what it held after its first
    delta, which is its only one then.
    """

    scope: Scope
    about: Json
    content: list[Json] | None = None
    first: int = -1
    deltas: list[Delta] = field(default_factory=list)
    shown: AnswerText | None = None
    """What followers in this process have seen of it."""

    @classmethod
    def begun(cls, event: MessageUpdate, limit: int) -> Answer:
        """Return the answer whose first delta is in the event, at the time of the event."""
        data = event.partial().to_json()
        answer = cls(event.scope, {**data, "content": []})
        text = AnswerText(answer.about, limit)
        piece = Piece.of(event.delta, limit)
        text.add(piece)
        with suppress(*NOT_JSON):
            if not piece.more and text.message() != _shown(encode(data), limit):
                answer.content = data["content"]
        return answer

    def show(self, delta: Delta, before: int, limit: int) -> tuple[str, ...]:
        """Return the own fields of the `message_update` for a delta that `before` others precede."""
        text = self.shown
        if text is None or text.count != before:
            text = self.shown = AnswerText(self.about, limit)
            for earlier in self.deltas[:before]:
                text.add(Piece.of(earlier, limit), self.content)
        piece = Piece.of(delta, limit)
        text.add(piece, self.content)
        return text.update(piece)


def _shown(text: str, limit: int) -> str:
    return text if len(text) <= limit else truncated(text)


def cut(text: str, limit: int) -> str | list[Any]:
    """Return a text as rows hold it: too long, it is a list of its beginning and how much is missing."""
    return text if len(text) <= limit else [text[:limit], len(text) - limit]


def own_text(name: str, value: str | list[Any], limit: int) -> tuple[str, ...]:
    """Return the one field of an event other than `message_update`, from what `cut` gave."""
    if not name:
        return ()
    text = field_text(value, limit) if isinstance(value, str) else truncated(encode(value[0]), value[1])
    return (f'"{name}":{text},',)


class DeltaWriter:
    """Puts deltas into rows, in the order of the log. `limit` is that of a field, in characters."""

    def __init__(self, limit: int) -> None:
        self.answer: Answer | None = None
        """Whose deltas come next."""
        self._limit = limit
        self._clear()

    def _clear(self) -> None:
        self._count = 0
        self._items: list[Any] = []
        self._table: list[list[Any]] = []
        self._entries: dict[int, int] = {}
        self._types: dict[str, None] = {}
        self._current: Answer | Scope | None = None
        self._like: tuple[str, int] | None = None
        self._update: MessageUpdate | None = None
        """The event just before, where the next may repeat it."""
        self._room = _ROW_CHARACTERS
        self._started = self._at = 0

    @property
    def full(self) -> bool:
        """Say whether the row should end here."""
        return self._room <= 0 or self._count >= _ROW_EVENTS

    def add(self, event: Event, index: int) -> None:
        """Add an event to the row."""
        if not self._count:
            self._started = self._at = event.at_ms
        elif event.at_ms != self._at:
            self._items.append(event.at_ms - self._at)
            self._at = event.at_ms
            self._update = None
        self._count += 1
        self._types[event.type] = None
        if type(event) is MessageUpdate:
            self._add_update(event, index)
        else:
            self._add_other(event)

    def body(self) -> str:
        """Return the row's text, and begin the next row."""
        text = encode([self._limit, self._started, self._table, self._items])
        body = f"d1 {' '.join(self._types)}\n{text}"
        self._clear()
        return body

    def abandon(self) -> None:
        """Begin the next row without this one."""
        self._clear()

    def _add_update(self, event: MessageUpdate, index: int) -> None:
        delta = event.delta
        assert self.answer is not None
        if self.answer is not self._current:
            self._enter(self.answer, self._answer_entry(self.answer, index))
        if delta.content is None and (delta.type, delta.index) == self._like and len(delta.delta) <= self._limit:
            self._items.append([delta.delta])
        else:
            piece = Piece.of(delta, self._limit)
            self._items.append(["u", *piece])
            self._like = (delta.type, delta.index)
            if piece.content is not None:
                self._room -= len(encode(piece.content))
        self._room -= len(delta.delta) + _FRAME
        self._update = event

    def _add_other(self, event: Event) -> None:
        tag, name = ALONE[type(event)]
        value: str = getattr(event, name) if name else ""
        update, self._update = self._update, None
        if update is not None and update.scope is event.scope and REPEATED.get(update.delta.type) is type(event):
            item = self._items[-1]
            if len(item) == 1 and item[0] == value:
                self._items[-1] = value
                return
        if event.scope is not (self._current.scope if isinstance(self._current, Answer) else self._current):
            self._enter(event.scope, [event.scope.to_json(), -1])
        self._items.append([tag, cut(value, self._limit)])
        self._room -= len(value) + _FRAME

    def _enter(self, owner: Answer | Scope, entry: list[Any]) -> None:
        number = self._entries.get(id(owner))
        if number is None:
            number = self._entries[id(owner)] = len(self._table)
            self._table.append(entry)
        if self._current is not None:
            self._items.append(["s", number])
        self._current = owner

    def _answer_entry(self, answer: Answer, index: int) -> list[Any]:
        if answer.first >= 0:
            return [answer.scope.to_json(), answer.first]
        answer.first = index
        return [answer.scope.to_json(), index, answer.about, answer.content]

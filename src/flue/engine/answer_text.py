"""An answer while it streams, as JSON text: what `message_update` events carry, at the cost of each new piece.

The harness's `PartialAnswer` decides what a partial answer is; this follows it delta by delta, in the log's terms.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from flue.engine.json_text import NOT_JSON, encode, truncated
from flue.engine.json_text import field as field_text
from flue.messages import Json
from flue.ports import Delta

_TEXT_KEYS = {"text": "text", "thinking": "thinking"}


class Piece(NamedTuple):
    """A delta as the log keeps it. `more` counts characters that were left out at the end of its text or content."""

    type: str
    block: int
    delta: str = ""
    content: Json | None = None
    more: int = 0

    @classmethod
    def of(cls, delta: Delta, limit: int) -> Piece:
        """Return a delta in the log's terms, cut to what can be shown."""
        text, more = delta.delta, 0
        if len(text) > limit:
            text, more = text[:limit], len(text) - limit
        content = None if delta.content is None else delta.content.to_json()
        if content is not None:
            more += _cut(content, limit)
        return cls(delta.type, delta.index, text, content, more)


def _cut(content: Json, limit: int) -> int:
    """Shorten a finished block to `limit` in place; return how many characters went."""
    if content["type"] != "toolCall":
        key = _TEXT_KEYS[content["type"]]
        text = content[key]
        content[key] = text[:limit]
        return max(len(text) - limit, 0)
    try:
        length = len(encode(content["arguments"]))
    except NOT_JSON:
        length = 0
    if 0 < length <= limit:
        return 0
    content["arguments"] = json.loads(field_text(content["arguments"], limit))
    return length


@dataclass(slots=True)
class _Block:
    kind: str
    escaped: str = ""
    """Text as it stands inside a JSON string."""
    pieces: list[str] = field(default_factory=list)
    """Of a tool call: its arguments' JSON, as it arrives."""
    known: Json | None = None
    more: int = 0

    def add(self, piece: Piece) -> None:
        if piece.delta:
            if self.kind == "toolcall":
                self.pieces.append(piece.delta)
            else:
                self.escaped += encode(piece.delta)[1:-1]
        if piece.content is not None:
            self.known = piece.content
            self.more = piece.more
        else:
            self.more += piece.more

    def parts(self) -> tuple[str, ...]:
        """Return its JSON in parts, so that a long text is copied once."""
        if self.kind == "toolcall":
            call = self._call()
            try:
                return (encode(call),)
            except NOT_JSON:
                return (encode({**call, "arguments": {}}),)
        if self.known is not None:
            return (encode(self.known),)
        return (f'{{"type":"{self.kind}","{_TEXT_KEYS[self.kind]}":"', self.escaped, '"}')

    def _call(self) -> Json:
        call: Json = {"type": "toolCall", "id": "", "name": "", "arguments": {}}
        if self.known is not None and self.known["type"] == "toolCall":
            call = self.known
        return call if call["arguments"] else {**call, "arguments": self._arguments()}

    def _arguments(self) -> Any:
        last = next((piece for piece in reversed(self.pieces) if not piece.isspace()), "")
        if not last.rstrip().endswith("}"):
            return {}  # still being written
        self.pieces = ["".join(self.pieces)]
        try:
            value = json.loads(self.pieces[0])
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}


class AnswerText:
    """The answer so far. `about` is its JSON with no content; `limit` that of a field, in characters."""

    def __init__(self, about: Json, limit: int) -> None:
        head, _, tail = encode(about).partition('"content":[]')
        self._head = head + '"content":['
        self._tail = "]" + tail
        self._limit = limit
        self._blocks: dict[int, _Block] = {}
        self._finished: dict[int, str] = {}
        self.count = 0
        """How many pieces were added."""

    def add(self, piece: Piece, content: list[Json] | None = None) -> None:
        """Take in a piece. `content` is what the answer holds after the first one, where that is something else."""
        block = self._blocks.get(piece.block)
        if block is None:
            block = self._blocks[piece.block] = _Block(piece.type.partition("_")[0])
            self._blocks = dict(sorted(self._blocks.items()))
        block.add(piece)
        self._finished.pop(piece.block, None)
        self.count += 1
        if self.count == 1 and content is not None:
            self._blocks = {place: _Block(known["type"].lower(), known=known) for place, known in enumerate(content)}

    def message(self) -> str:
        """Return the message's JSON, or its marker's where it is too long."""
        parts, more, last = [self._head], 0, len(self._blocks) - 1
        for place, (index, block) in enumerate(self._blocks.items()):
            if place:
                parts.append(",")
            if index in self._finished:
                parts.append(self._finished[index])
            else:
                own = block.parts()
                parts += own
                if place != last:
                    self._finished[index] = "".join(own)
            more += block.more
        text = "".join((*parts, self._tail))
        return text if len(text) + more <= self._limit else truncated(text, more)

    def update(self, piece: Piece) -> tuple[str, ...]:
        """Return the own fields of the `message_update` for the piece added last."""
        message = self.message()
        event = f',"assistantMessageEvent":{{"type":"{piece.type}","contentIndex":{piece.block},"partial":'
        return ('"message":', message, event, message, self._detail(piece), "},")

    def texts(self) -> list[str] | None:
        """Return the text blocks; None where there is a tool call."""
        if any(block.kind == "toolcall" for block in self._blocks.values()):
            return None
        blocks = (json.loads("".join(block.parts())) for block in self._blocks.values())
        return [block["text"] for block in blocks if block["type"] == "text"]

    def _detail(self, piece: Piece) -> str:
        if piece.type.endswith("_delta"):
            return f',"delta":{self._shown(piece.delta, piece.more)}'
        if piece.content is None:
            return ""
        if piece.type.startswith("toolcall"):
            return f',"toolCall":{self._shown(piece.content, piece.more)}'
        return f',"content":{self._shown(piece.content.get("text", piece.content.get("thinking", "")), piece.more)}'

    def _shown(self, value: Any, more: int) -> str:
        return truncated(encode(value), more) if more else field_text(value, self._limit)

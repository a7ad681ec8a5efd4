"""Server-sent events: bytes in, events out, at any chunking.

Follows the event-stream grammar of the HTML standard (section 9.2.6). An event at the end of the stream counts without
its closing blank line if the reader calls `close()`: several model providers leave it out.
"""

from __future__ import annotations

BOM = b"\xef\xbb\xbf"
# Longer than any event a provider sends (inline images included), short enough that a broken host cannot fill memory.
EVENT_LIMIT = 64 * 1024 * 1024


Event = tuple[bytes, bytes, bytes]


class EventTooLongError(ValueError):
    """The stream holds an event over the limit."""


class EventParser:
    """Splits a byte stream into `(name, data, last id)`; the name is empty unless the event has one.

    The last id is that of the newest event that had one, empty before. `limit` is the largest event in bytes; a longer
    one raises `EventTooLongError`.
    """

    __slots__ = ("_data", "_id", "_limit", "_name", "_pieces", "_size", "_skip_newline", "_started")

    def __init__(self, limit: int = EVENT_LIMIT) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []  # the unfinished line, as it arrived: joined once, so long lines stay linear
        self._data: list[bytes] = []
        self._name = b""
        self._id = b""
        self._size = 0
        self._skip_newline = False
        self._started = False

    def feed(self, chunk: bytes) -> list[Event]:
        """Take the next bytes and return the events they complete."""
        if self._skip_newline and chunk:
            self._skip_newline = False
            if chunk[:1] == b"\n":
                chunk = chunk[1:]
        if b"\r" in chunk:
            self._skip_newline = chunk[-1:] == b"\r"
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if b"\n" not in chunk:
            self._keep(chunk)
            return []
        lines = chunk.split(b"\n")
        if self._pieces:
            self._pieces.append(lines[0])
            lines[0] = b"".join(self._pieces)
            self._pieces.clear()
        rest = lines.pop()
        events = self._read(lines)
        self._size = sum(map(len, self._data)) if self._data else 0
        if rest or self._size:
            self._keep(rest)
        return events

    def close(self) -> list[Event]:
        """Return the event that the end of the stream completes, if there is one."""
        line = b"".join(self._pieces)
        self._pieces.clear()
        return self._read([line, b""] if line else [b""])

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._limit:
            raise EventTooLongError(f"The stream holds an event longer than {self._limit} bytes.")
        if piece:
            self._pieces.append(piece)

    def _read(self, lines: list[bytes]) -> list[Event]:
        if not self._started and lines:
            self._started = True
            lines[0] = lines[0].removeprefix(BOM)
        events: list[Event] = []
        data = self._data
        for line in lines:
            if not line:
                if data:
                    events.append((self._name, data[0] if len(data) == 1 else b"\n".join(data), self._id))
                    data.clear()
                self._name = b""
            elif line.startswith(b"data:"):
                data.append(line[6:] if line[5:6] == b" " else line[5:])
            elif line.startswith(b"event:"):
                self._name = line[7:] if line[6:7] == b" " else line[6:]
            elif line.startswith(b"id:"):
                if b"\0" not in line:
                    self._id = line[4:] if line[3:4] == b" " else line[3:]
            elif line == b"data":
                data.append(b"")
            elif line == b"event":
                self._name = b""
            elif line == b"id":
                self._id = b""
        return events

"""What a program and its workers say to each other: frames of a number and some byte strings.

Four bytes length, four bytes number of the call, and each field as four bytes length and its bytes, all little-endian.
Reading one can do nothing but fail, whatever a worker that has been taken over may send.
"""

from __future__ import annotations

MAX_FRAME = 64 * 1024 * 1024
"""Bytes of one frame: more than the largest file, and than both streams of a command's output."""

_LENGTH = 4  # bytes of a number
_HEAD = 2 * _LENGTH


class FrameError(Exception):
    """What arrived is no frame."""


def encode(call: int, *fields: bytes) -> bytes:
    """Return a frame as bytes."""
    parts = [b""]
    for field in fields:
        parts += (_packed(len(field)), field)
    parts[0] = _packed(sum(map(len, parts))) + _packed(call)
    return b"".join(parts)


def number(value: float) -> bytes:
    """Return a number as a field."""
    return repr(value).encode()


class Frames:
    """Takes bytes as they come and gives whole frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes | memoryview) -> list[tuple[int, list[bytes]]]:
        """Return the frames that are complete now, each as its number and its fields. Raises `FrameError`."""
        buffer = self._buffer
        buffer += data
        frames, at = [], 0
        while len(buffer) - at >= _HEAD:
            length, call = _number_at(buffer, at), _number_at(buffer, at + _LENGTH)
            if length > MAX_FRAME:
                raise FrameError(f"a frame of {length} bytes")
            end = at + _HEAD + length
            if len(buffer) < end:
                break
            with memoryview(buffer) as view:
                frames.append((call, _fields(view, at + _HEAD, end)))
            at = end
        if at:
            del buffer[:at]
        return frames


def _fields(buffer: memoryview, at: int, end: int) -> list[bytes]:
    fields = []
    while at < end:
        if end - at < _LENGTH:
            raise FrameError("a field without its length")
        start = at + _LENGTH
        at = start + _number_at(buffer, at)
        if at > end:
            raise FrameError("a field that is longer than its frame")
        fields.append(bytes(buffer[start:at]))
    return fields


# `struct` would take longer to import than all of this package.
def _packed(value: int) -> bytes:
    return value.to_bytes(_LENGTH, "little")


def _number_at(buffer: bytearray | memoryview, at: int) -> int:
    return int.from_bytes(buffer[at : at + _LENGTH], "little")

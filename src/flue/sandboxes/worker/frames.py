"""What a program and its workers say to each other: frames of a number and some byte strings.

Four bytes length, four bytes number of the call, and each field as four bytes length and its bytes, all little-endian.
Reading one can do nothing but fail, whatever a worker that has been taken over may send.
"""

from __future__ import annotations

import struct

MAX_FRAME = 64 * 1024 * 1024
"""Bytes of one frame: more than the largest file, and than both streams of a command's output."""

_HEAD = struct.Struct("<II")
_LENGTH = struct.Struct("<I")


class FrameError(Exception):
    """What arrived is no frame."""


def encode(call: int, *fields: bytes) -> bytes:
    """Return a frame as bytes."""
    parts = [b""]
    for field in fields:
        parts += (_LENGTH.pack(len(field)), field)
    parts[0] = _HEAD.pack(sum(map(len, parts)), call)
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
        while len(buffer) - at >= _HEAD.size:
            length, call = _HEAD.unpack_from(buffer, at)
            if length > MAX_FRAME:
                raise FrameError(f"a frame of {length} bytes")
            end = at + _HEAD.size + length
            if len(buffer) < end:
                break
            frames.append((call, _fields(buffer, at + _HEAD.size, end)))
            at = end
        if at:
            del buffer[:at]
        return frames


def _fields(buffer: bytearray, at: int, end: int) -> list[bytes]:
    fields = []
    while at < end:
        if end - at < _LENGTH.size:
            raise FrameError("a field without its length")
        start = at + _LENGTH.size
        at = start + _LENGTH.unpack_from(buffer, at)[0]
        if at > end:
            raise FrameError("a field that is longer than its frame")
        fields.append(bytes(buffer[start:at]))
    return fields

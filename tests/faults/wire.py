"""The client's end of a connection, byte by byte: it may say anything, at any pace, and leave in any way."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

_STATUS = re.compile(rb"HTTP/1\.1 (\d{3})[^\r\n]*\r\n")
_SMALLEST = 2048
"""Bytes of a client's receive buffer that soon has no room."""


class Wire:
    """A connection. `received` is all that has come so far, `ended` whether nothing more will."""

    def __init__(self, sock: socket.socket) -> None:
        self.received = b""
        self.ended = False
        self._socket = sock
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def open(cls, port: int, *, narrow: bool = False) -> Self:
        """Connect; `narrow` leaves next to no room for what comes back."""
        sock = socket.socket()
        sock.setblocking(False)
        if narrow:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALLEST)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        return cls(sock)

    async def send(self, data: bytes, seconds: float = 90.0) -> bool:
        """Send; say whether the server took it all in that time."""
        try:
            async with asyncio.timeout(seconds):
                await self._loop.sock_sendall(self._socket, data)
        except (OSError, TimeoutError):
            return False
        return True

    async def read(self, until: Callable[[], bool], seconds: float) -> bool:
        """Read until a condition holds, the end, or so long; say whether it holds."""
        end = time.monotonic() + seconds
        while not until() and not self.ended:
            try:
                async with asyncio.timeout(end - time.monotonic()):
                    data = await self._loop.sock_recv(self._socket, 65536)
            except TimeoutError:
                break
            except OSError:
                data = b""
            self.received += data
            self.ended = not data
        return until()

    async def read_to_end(self, seconds: float) -> bool:
        """Read until the server has closed the connection, or so long; say whether it has."""
        await self.read(lambda: False, seconds)
        return self.ended

    @property
    def statuses(self) -> list[int]:
        """Return the status of every response so far."""
        return [int(found) for found in _STATUS.findall(self.received)]

    def half_close(self) -> None:
        """Say that nothing more will be sent."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self, *, reset: bool = False) -> None:
        """Leave; with `reset` not even a goodbye is sent."""
        if reset and self._socket.fileno() >= 0:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


# ------------------------------------------------------------------------------------------------ WebSockets

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA
KEY = b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
UPGRADE = b"host: x\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n"


def handshake(path: str, more: bytes = b"") -> bytes:
    """Return the request that opens a WebSocket."""
    return b"GET " + path.encode() + b" HTTP/1.1\r\n" + UPGRADE + KEY + more + b"\r\n"


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    final: bool = True,
    reserved: int = 0,
    masked: bool = True,
    length: int | None = None,
    width: int | None = None,
) -> bytes:
    """Return a frame. `length` is the one it claims, `width` the bytes that this is written in (0, 2 or 8)."""
    claimed = len(payload) if length is None else length
    width = (0 if claimed < 126 else 2 if claimed < 65536 else 8) if width is None else width
    head = bytes([final << 7 | reserved << 4 | opcode])
    mark = masked << 7
    head += bytes([mark | claimed]) if width == 0 else bytes([mark | (126 if width == 2 else 127)])
    head += claimed.to_bytes(width, "big") if width else b""
    if not masked:
        return head + payload
    mask = os.urandom(4)
    repeated = int.from_bytes((mask * (len(payload) // 4 + 1))[: len(payload)], "big")
    return head + mask + (int.from_bytes(payload, "big") ^ repeated).to_bytes(len(payload), "big")


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame of the server's."""

    opcode: int
    payload: bytes

    @property
    def code(self) -> int | None:
        """Return the code of a closing frame."""
        return int.from_bytes(self.payload[:2], "big") if self.opcode == CLOSE and self.payload else None


def frames(data: bytes) -> list[Frame]:
    """Return the whole frames of a server's bytes after the handshake. Raises `ValueError` for what servers may not."""
    found, place = [], data.index(b"\r\n\r\n") + 4
    while place + 2 <= len(data):
        first, second = data[place : place + 2]
        if first & 0x70 or second & 0x80:
            raise ValueError(f"the server sent a frame that begins {data[place : place + 2]!r}")
        place += 2
        length = second
        if second > 125:
            width = 2 if second == 126 else 8
            length = int.from_bytes(data[place : place + width], "big")
            place += width
        if place + length > len(data):
            break
        found.append(Frame(first & 0x0F, data[place : place + length]))
        place += length
    return found

"""What a program and its fork server say to each other, see `fork_server`."""

from __future__ import annotations

ORDER_SIZE, ENDED_SIZE = 9, 16


def order(kind: bytes, pid: int = 0) -> bytes:
    """Return what a program says: a letter and the process that it is about."""
    return kind + pid.to_bytes(8, "little")


def ended(pid: int, code: int) -> bytes:
    """Return what a fork server says: which worker has ended and its exit code, negative for a signal."""
    return pid.to_bytes(8, "little") + code.to_bytes(8, "little", signed=True)


def read_order(message: bytes) -> tuple[bytes, int]:
    """Return the letter and the process of an order."""
    return message[:1], int.from_bytes(message[1:], "little")


def read_ended(message: bytes) -> tuple[int, int]:
    """Return which worker has ended and its exit code."""
    return int.from_bytes(message[:8], "little"), int.from_bytes(message[8:], "little", signed=True)

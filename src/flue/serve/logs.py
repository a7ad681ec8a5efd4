"""What a server process writes to stderr: one line a record, and the traceback where there is one."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_LOGGERS = ("flue", "uvicorn.error", "asyncio")
# Said by asyncio for each piece of an answer whose client has just left; nobody needs to do anything about it.
_CLIENT_LEFT = "socket.send() raised exception."


def say(text: str) -> None:
    """Write a line of Flue's own to stderr, in one piece: several processes may write there."""
    sys.stderr.write(f"[flue] {text}\n")
    sys.stderr.flush()


def say_received(number: int) -> None:
    """Write that a signal came and what follows, to the descriptor: its handler may have interrupted a write."""
    with suppress(OSError):  # nobody reads it any more
        os.write(2, f"\n[flue] Received {signal.Signals(number).name}, shutting down…\n".encode())


@contextmanager
def logging_to_stderr() -> Iterator[None]:
    """Inside the block write warnings and errors of Flue, the HTTP server and asyncio to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line("[flue] %(levelname)s: %(message)s"))
    handler.addFilter(lambda record: record.msg != _CLIENT_LEFT)
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


class _Line(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is the standard library's
        return f"[flue] {record.levelname.lower()}: {' '.join(record.getMessage().split())}"

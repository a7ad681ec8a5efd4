"""Logs over server-sent events, over as many connections as it takes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

from flue.sdk.errors import FlueApiError, FlueTransportError, not_the_protocol
from flue.sdk.requests import Stream
from flue.sse import EventParser, EventTooLongError

# Servers cut events at 1 MiB; old ones did not.
MAX_EVENT_BYTES = 16 * 1024 * 1024
_RETRIED = frozenset({408, 429, 500, 502, 503, 504})

Opening = Callable[[str | None], AbstractAsyncContextManager[Stream]]
"""Opens a stream after the event with an id, or from the start."""


class Frame(NamedTuple):
    """One event of a stream: its id, and its JSON object."""

    id: str
    event: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a stream is opened again without a new event, and after how many milliseconds first, then doubled.

    A connection that held for `steady_seconds` counts as much as an event: some proxies cut every connection in time.
    """

    max_retries: int = 3
    initial_ms: int = 250
    steady_seconds: float = 10.0


async def frames_of(stream: Stream) -> AsyncIterator[Frame]:
    """Yield the frames of one connection; one that the end cuts off is none.

    Raises `FlueApiError` for an error that the server sends as an event, `FlueTransportError` for a broken connection
    and for what is no event.
    """
    parser = EventParser(MAX_EVENT_BYTES)
    async for chunk in stream.chunks():
        try:
            for name, data, id in parser.feed(chunk):
                frame = Frame(id.decode(errors="replace"), _object(data))
                if name == b"error":
                    raise FlueApiError(200, frame.event)
                yield frame
        except EventTooLongError as error:
            raise not_the_protocol(str(error)) from None


def _object(data: bytes) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict):
        raise not_the_protocol("The stream holds an event that is no JSON object.")
    return event


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """A log to follow.

    `open` gives a stream of it; None when it cannot be had a second time. `last` is the type of its last event, empty
    when it never ends. With `stop_at_last` that event is the end; without, it is when the stream ends after it.
    `is_over` asks the server whether the work behind the log has ended.
    """

    open: Opening | None
    last: str = ""
    stop_at_last: bool = False
    is_over: Callable[[], Awaitable[bool]] | None = None

    def is_last(self, event: dict[str, Any]) -> bool:
        """Say whether an event may be the last; those of a task are in the middle of another's work."""
        return event.get("type") == self.last and "taskId" not in event

    def closed(self) -> FlueTransportError:
        """Return the error for a stream that ended too early."""
        before = f" before {self.last}" if self.last else ""
        return FlueTransportError(f"SSE stream closed{before}.", code="stream_closed")


async def follow(
    log: Log, retry: Retry, *, last_id: str | None = None, first: Stream | None = None
) -> AsyncGenerator[Frame, None]:
    """Yield a log's events after `last_id`, each once; `first` is a connection that is open already.

    Raises `FlueTransportError` when connections broke too often with no new event in between, `FlueApiError` when the
    server refuses.
    """
    failures = 0
    position = _Position(last_id)
    over = False
    while True:
        began = asyncio.get_running_loop().time()
        before = position.id
        try:
            async with _connection(log, position.id, first) as stream:
                first = None
                async for frame in frames_of(stream):
                    if log.last and not position.is_new(frame):
                        continue
                    position.move(frame)
                    failures = 0
                    yield frame
                    if log.stop_at_last and log.is_last(frame.event):
                        return
            # A log that was complete when it was opened, and has nothing new, has been read to its end.
            if (over and position.id == before) or (log.last and log.is_last(position.event)):
                return
            over = log.is_over is not None and log.open is not None and await log.is_over()
            if over:
                continue
            problem: FlueTransportError | FlueApiError = log.closed()
        except (FlueTransportError, FlueApiError) as error:
            if log.open is None or not _may_pass(error):
                raise
            problem = error
        if asyncio.get_running_loop().time() - began >= retry.steady_seconds:
            failures = 0
        failures += 1
        if log.open is None or failures > retry.max_retries:
            raise _given_up(log, problem)
        await asyncio.sleep(retry.initial_ms / 1000 * 2 ** (failures - 1))


class _Position:
    """How far a log has been read."""

    def __init__(self, last_id: str | None) -> None:
        self.id = last_id
        self.event: dict[str, Any] = {}
        self._index = int(last_id) if last_id and last_id.isdecimal() else -1

    def is_new(self, frame: Frame) -> bool:
        """Say whether an event comes after what was read: servers that know no `Last-Event-ID` start again."""
        index = frame.event.get("eventIndex")
        return not isinstance(index, int) or index > self._index

    def move(self, frame: Frame) -> None:
        index = frame.event.get("eventIndex")
        if isinstance(index, int):
            self._index = index
        self.event = frame.event
        self.id = frame.id or self.id


def _connection(log: Log, last_id: str | None, first: Stream | None) -> AbstractAsyncContextManager[Stream]:
    if first is not None:
        return nullcontext(first)
    assert log.open is not None
    return log.open(last_id)


def _may_pass(error: FlueTransportError | FlueApiError) -> bool:
    """Say whether the same request may succeed later."""
    if isinstance(error, FlueTransportError):
        return error.retryable
    # An error inside a stream is the end of the work when it is an event of it, else trouble with the stream itself.
    if error.status == 200:
        return not (isinstance(error.body, dict) and error.body.get("type") == "error")
    return error.status in _RETRIED


def _given_up(log: Log, problem: FlueTransportError | FlueApiError) -> FlueTransportError | FlueApiError:
    if isinstance(problem, FlueTransportError) and problem.code in ("connection_broken", "timeout"):
        closed = log.closed()
        closed.__cause__ = problem
        return closed
    return problem

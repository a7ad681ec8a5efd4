"""Web streams: one with a reader and one with a writer at each end, with the backpressure of the standard."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from tests.cloudflare.standin.owners import Owner, current_owner
from tests.cloudflare.standin.values import JsException, JsObject, JsProxy, Promise, Uint8Array, crossing, type_error


class ReadableStream(JsProxy):
    """A stream of byte chunks. Nothing is buffered: a chunk is taken from its writer when somebody reads."""

    js_name = "ReadableStream"

    def __init__(self) -> None:
        self.reader = self.writer = current_owner()
        if self.writer is not None:
            self.writer.at_end.append(lambda: self.stop(JsException(f"{self.writer} is gone, and what it streamed.")))
        self.locked = False
        self.disturbed = False
        self.waiting: deque[Promise] = deque()
        self.offered: deque[tuple[Any, Promise]] = deque()
        self.ended = False
        self.failure: JsException | None = None
        self.closing: Promise | None = None
        self.on_cancel: list[Promise] = []

    @classmethod
    def of(cls, *chunks: bytes) -> ReadableStream:
        """Return a stream that has these chunks."""
        stream = cls()
        for chunk in chunks:
            stream.offered.append((Uint8Array(chunk), Promise()))
        stream.end()
        return stream

    def give(self, reader: Owner | None) -> None:
        """Have somebody else read it: it went through the platform."""
        self.reader = reader

    def getReader(self) -> Reader:  # noqa: N802
        self._touch(self.reader)
        if self.locked:
            raise type_error("This ReadableStream is currently locked to a reader.")
        self.locked = True
        return Reader(self)

    def cancel(self, reason: Any = None) -> Promise:
        self.stop(JsException(str(reason or "the stream was cancelled")))
        return _resolved()

    def _touch(self, owner: Owner | None) -> None:
        if owner is not None:
            owner.touch(self)

    def offer(self, chunk: Any) -> Promise:
        self._touch(self.writer)
        taken = Promise()
        if self.failure is not None:
            taken.reject(self.failure)
        elif self.waiting:
            self.waiting.popleft().resolve(JsObject({"done": False, "value": chunk}))
            taken.resolve()
        else:
            self.offered.append((chunk, taken))
        return taken

    def end(self) -> Promise:
        self.closing = Promise()
        self._finish()
        return self.closing

    def _finish(self) -> None:
        if self.closing is not None and not self.offered and not self.ended:
            self.ended = True
            self.closing.resolve()
            for promise in self.on_cancel:
                promise.resolve()
        while self.ended and self.waiting:
            self.waiting.popleft().resolve(JsObject({"done": True, "value": None}))

    def stop(self, failure: JsException) -> None:
        """End it from the reader's side, or by an error of the writer's."""
        self.disturbed = True
        if self.ended or self.failure is not None:
            return
        self.failure = failure
        for _, taken in self.offered:
            taken.reject(failure)
        self.offered.clear()
        for promise in self.on_cancel:
            promise.reject(failure)
        while self.waiting:
            self.waiting.popleft().reject(failure)

    def take(self) -> Promise:
        self._touch(self.reader)
        self.disturbed = True
        promise = Promise()
        if self.failure is not None:
            promise.reject(self.failure)
        elif self.offered:
            chunk, taken = self.offered.popleft()
            taken.resolve()
            promise.resolve(JsObject({"done": False, "value": chunk}))
            self._finish()
        else:
            self.waiting.append(promise)
            self._finish()
        return promise


class Reader(JsProxy):
    """What `getReader` gives."""

    js_name = "ReadableStreamDefaultReader"

    def __init__(self, stream: ReadableStream) -> None:
        self._stream = stream

    def read(self) -> Promise:
        return self._stream.take()

    def cancel(self, reason: Any = None) -> Promise:
        return self._stream.cancel(reason)

    def releaseLock(self) -> None:  # noqa: N802
        self._stream.locked = False


class Writer(JsProxy):
    """What `getWriter` gives."""

    js_name = "WritableStreamDefaultWriter"

    def __init__(self, stream: ReadableStream) -> None:
        self._stream = stream
        self.closed = Promise()
        stream.on_cancel.append(self.closed)

    def write(self, chunk: Any) -> Promise:
        crossing([chunk])
        if not isinstance(chunk, Uint8Array):
            raise type_error("This TransformStream is being used as a byte stream, but received an object.")
        return self._stream.offer(chunk)

    def close(self) -> Promise:
        if self._stream.failure is not None:
            raise self._stream.failure
        return self._stream.end()

    def abort(self, reason: Any = None) -> Promise:
        self._stream.stop(JsException(str(reason)))
        return _resolved()


class _Writable(JsProxy):
    js_name = "WritableStream"

    def __init__(self, stream: ReadableStream) -> None:
        self._stream = stream

    def getWriter(self) -> Writer:  # noqa: N802
        return Writer(self._stream)


class TransformStream(JsProxy):
    """An identity transform."""

    js_name = "TransformStream"

    def __init__(self) -> None:
        self.readable = ReadableStream()
        self.writable = _Writable(self.readable)


def _resolved() -> Promise:
    promise = Promise()
    promise.resolve()
    return promise


async def read_all(stream: Any) -> bytes:
    """Read a stream to its end."""
    data, reader = bytearray(), stream.getReader()
    while not (result := await reader.read()).done:
        data += result.value.to_bytes()
        await asyncio.sleep(0)
    return bytes(data)

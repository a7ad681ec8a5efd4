"""What the sockets of agents and of workflows share: reading messages, and who waits for which answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, TypeGuard

from flue.server import json_text
from flue.server.routing import has_control_characters
from flue.server.sockets.frames import MAX_MESSAGE_BYTES, VERSION, Action, closing, frame, malformed, spliced

MAX_REQUEST_ID = 128
"""Bytes of a `requestId`, which also has no control characters: the ids of all requests in flight stand in the
attachment, which has to stay small."""
ID_RULE = f"1 to {MAX_REQUEST_ID} bytes, without control characters"


@dataclass(slots=True)
class Pending:
    """A request that is not answered yet.

    `work_id` is its submission's id, empty until that is known; `after` the index of the last event sent, or -1.
    """

    work_id: str = ""
    after: int = -1


class SocketMachine(ABC):
    """One connection. Every method returns what the driver has to do, in order; none raises for what a client sent.

    The driver calls `open` once, `message` for each message, and for each request that it was told to start
    `accepted`, `event`…, `completed`, or `failed` at any time. Calls for a request that has its answer, or after the
    end, give nothing to do. After the connection has gone the driver calls `closed`.
    """

    target: str

    def __init__(self, name: str) -> None:
        self.name = name
        self.pending: dict[str, Pending] = {}
        self.is_open = True

    @abstractmethod
    def open(self) -> list[Action]:
        """Greet the client."""

    @abstractmethod
    def attachment(self) -> dict[str, Any]:
        """Return what has to be kept to go on after an eviction: JSON values, no text and no secret of the client's."""

    @abstractmethod
    def _received(self, message: dict[str, Any]) -> list[Action]: ...

    def message(self, data: str | bytes) -> list[Action]:
        """Take a message."""
        if not self.is_open:
            return []
        if isinstance(data, bytes):
            return [malformed("Send text messages."), *self.close(1003, "Binary messages are not supported")]
        encoded = data.encode("utf-8", "surrogatepass")
        if len(encoded) > MAX_MESSAGE_BYTES:
            return self.close(1009, "Message too large")
        try:
            message = json_text.decode(encoded)
        except ValueError as error:
            return [malformed(f"A message must be a JSON object: {error}.")]
        if not isinstance(message, dict):
            return [malformed("A message must be a JSON object.")]
        return self._received(message)

    def accepted(self, request_id: str, work_id: str) -> list[Action]:
        """Take note that a request was accepted: what follows from it survives the connection."""
        waiting = self.pending.get(request_id)
        if waiting is None or waiting.work_id:
            return []
        waiting.work_id = work_id
        return [frame("started", requestId=request_id, **self._run(waiting))]

    def event(self, request_id: str, index: int, data: str) -> list[Action]:
        """Pass on an event of a request's work; `data` is its JSON text. One that was passed on is skipped."""
        waiting = self.pending.get(request_id)
        if waiting is None or index <= waiting.after:
            return []
        waiting.after = index
        return [spliced("event", "event", data, requestId=request_id, **self._run(waiting))]

    def completed(self, request_id: str, result: str) -> list[Action]:
        """Answer a request with its result, as JSON text."""
        waiting = self.pending.pop(request_id, None)
        if waiting is None:
            return []
        answer = spliced("result", "result", result, requestId=request_id, **self._run(waiting))
        return [answer, *self._after_result()]

    def failed(self, request_id: str, error: dict[str, Any]) -> list[Action]:
        """Answer a request with an error: `{type, message, details, …}`."""
        waiting = self.pending.pop(request_id, None)
        if waiting is None:
            return []
        return [frame("error", requestId=request_id, **self._run(waiting), error=error), *self._after_failure()]

    def close(self, code: int, reason: str) -> list[Action]:
        """End the connection from this side, once. What was accepted goes on."""
        was_open = self.is_open
        self.closed()
        return [closing(code, reason)] if was_open else []

    def closed(self) -> None:
        """Take note that the connection has gone. What was accepted goes on."""
        self.is_open = False
        self.pending.clear()

    def _wait_for(self, request_id: str) -> None:
        self.pending[request_id] = Pending()

    def _attachment(self, **own: Any) -> dict[str, Any]:
        requests = {request_id: [waiting.work_id, waiting.after] for request_id, waiting in self.pending.items()}
        return {"version": VERSION, "target": self.target, "name": self.name, **own, "requests": requests}

    def _run(self, waiting: Pending) -> dict[str, str]:
        """Return the fields by which frames name the work."""
        return {}

    def _after_result(self) -> list[Action]:
        return []

    def _after_failure(self) -> list[Action]:
        return []


def is_request_id(value: Any) -> TypeGuard[str]:
    """Say whether a message's `requestId` is one."""
    return isinstance(value, str) and 0 < len(value.encode()) <= MAX_REQUEST_ID and not has_control_characters(value)


def speaks(message: dict[str, Any], *types: str) -> bool:
    """Say whether a message is of this protocol and of one of these types."""
    version = message.get("version")
    return version == VERSION and version is not True and message.get("type") in types

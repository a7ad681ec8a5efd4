"""The body of a request: read once, no further than a limit, whoever reads it first."""

from __future__ import annotations

from typing import Any

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from flue.server import json_text
from flue.server.problems import Problem, invalid_json, shortened

DEFAULT_LIMIT = 10 * 1024 * 1024


class Body:
    """One request's body. Give `receive` to those who may read it; `json()` works all the same afterwards.

    Whoever reads more than `limit` bytes gets a `Problem` (413); nothing is read after that.
    """

    limit: int

    def __init__(self, headers: Headers, receive: Receive, limit: int) -> None:
        self._headers = headers
        self._receive = receive
        self.limit = limit
        self._data = bytearray()
        self._complete = False

    async def receive(self) -> Message:
        """Receive the next message for the application, remembering what it carries of the body."""
        message = await self._receive()
        if message["type"] == "http.request" and not self._complete:
            self._data += message.get("body", b"")
            self._complete = not message.get("more_body", False)
            if len(self._data) > self.limit:
                self._data.clear()
                raise _too_large(self.limit)
        return message

    async def client_gone(self) -> None:
        """Wait until the client has gone; what it still sends is nobody's."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def replay(self) -> Receive:
        """Return a `receive` that gives the body once more."""
        messages: list[Message] = [{"type": "http.request", "body": bytes(self._data), "more_body": False}]

        async def receive() -> Message:
            return messages.pop() if messages else {"type": "http.disconnect"}

        return receive

    def check_announced(self) -> None:
        """Raise `Problem` when the client says that it will send too much."""
        announced = self._headers.get("content-length", "")
        if announced.isascii() and announced.isdigit() and (len(announced) > 18 or int(announced) > self.limit):
            raise _too_large(self.limit)

    async def read(self) -> bytes:
        """Return the whole body. Raises `Problem` (413) and `ClientDisconnect`."""
        self.check_announced()
        while not self._complete:
            if (await self.receive())["type"] == "http.disconnect":
                raise ClientDisconnect
        return bytes(self._data)

    async def json(self) -> Any:
        """Return the payload: an empty object without a body, else its JSON.

        Raises `Problem`: 413, `unsupported_media_type`, `invalid_json`.
        """
        kind, length = self._headers.get("content-type"), self._headers.get("content-length")
        if length == "0" or (kind is None and length is None):
            return {}
        if kind is None or "application/json" not in kind.lower():
            raise _unsupported(kind)
        try:
            return json_text.decode(await self.read())
        except ValueError as error:
            reason = str(error).rstrip(".")
            raise invalid_json(
                f"{reason[:1].upper()}{reason[1:]}. Leave the body out if there is no payload."
            ) from None


def _too_large(limit: int) -> Problem:
    return Problem(
        413,
        "payload_too_large",
        "The request's body is too large.",
        f"At most {limit} bytes are accepted.",
        headers={"Connection": "close"},
    )


def _unsupported(kind: str | None) -> Problem:
    said = "there is none" if kind is None else f'it is "{shortened(kind)}"'
    return Problem(
        415,
        "unsupported_media_type",
        "A request's body must be JSON.",
        f'Send it with "Content-Type: application/json" ({said}), or send neither body nor Content-Type.',
    )

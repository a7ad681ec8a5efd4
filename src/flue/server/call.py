"""One HTTP request on its way to a handler."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from flue.engine.logged import LoggedEvent
from flue.engine.service import Service
from flue.project.modules import Exposure
from flue.server.application import Application
from flue.server.body import Body
from flue.server.event_stream import EventStream, Failure, frame
from flue.server.json_text import encode, text_of
from flue.server.middleware import through
from flue.server.problems import invalid_request, problem_of
from flue.server.routing import has_control_characters

T = TypeVar("T")
MAX_ID_BYTES = 512
MAX_KEY_LENGTH = 255
UNWATCHED_SECONDS = 1.0
"""For so long nobody looks whether a client that waits is still there: most answers are there by then."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request, its body, and the application that it is for. `runs` is how the routes below `/runs` are reached."""

    application: Application
    request: Request
    body: Body
    runs: Exposure

    async def service(self) -> Service:
        """Return the engine."""
        return await self.application.service()

    def replay(self) -> Request:
        """Return the request for the function that it starts, which may look at it after it has been answered."""
        return Request(self.request.scope, self.body.replay())

    @property
    def wants_stream(self) -> bool:
        """Say whether the client asks for server-sent events."""
        return "text/event-stream" in self.request.headers.get("accept", "").lower()

    @property
    def idempotency_key(self) -> str | None:
        """Return the client's own name for what it asks for. Raises `Problem` for one that is too long."""
        key = self.request.headers.get("idempotency-key", "").strip()
        if len(key) > MAX_KEY_LENGTH:
            raise invalid_request(f"Idempotency-Key has more than {MAX_KEY_LENGTH} characters.")
        return key or None

    async def awaited(self, work: Awaitable[T]) -> T:
        """Return what `work` gives; once the client has gone it is given up, and `ClientDisconnect` raised."""
        waiting = asyncio.ensure_future(work)
        try:
            await asyncio.wait({waiting}, timeout=UNWATCHED_SECONDS)
            if not waiting.done():
                await self._until_gone(waiting)
        finally:
            if not waiting.done():
                waiting.cancel()
                await asyncio.wait({waiting})
            if not waiting.cancelled():
                waiting.exception()  # raised below, or nobody's: the request may have been cancelled in that moment
        if waiting.cancelled():
            raise ClientDisconnect
        return waiting.result()

    async def _until_gone(self, waiting: asyncio.Future[Any]) -> None:
        leaving = asyncio.create_task(self.body.client_gone())
        try:
            await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            await asyncio.wait({leaving})

    async def guarded(
        self,
        exposure: Exposure,
        work: Callable[[], Awaitable[Response]],
        *,
        failure_headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Return the answer of `work` behind a module's middleware; what `work` raises is an answer, too.

        `failure_headers` are added to that one.
        """

        async def handler() -> Response:
            try:
                return await work()
            except ClientDisconnect:
                raise
            except Exception as error:  # noqa: BLE001 - logged where it is not the client's own
                response = self.failed(error)
                response.headers.update(failure_headers or {})
                return response

        return await through(exposure, self.request, handler)

    def failed(self, error: BaseException) -> Response:
        """Return an error's envelope."""
        return problem_of(error).response(local=self.application.local)

    def stream(self, frames: AsyncGenerator[bytes, None], failure: Failure) -> EventStream:
        """Return server-sent events."""
        return EventStream(frames, self.application.clock, failure)

    def run_failure(self, error: BaseException) -> bytes:
        """Return the last frame of a run's stream that broke off."""
        return frame("error", text_of(problem_of(error).to_json(local=self.application.local)))


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return JSON values as a response."""
    return Response(encode(value), status, headers, "application/json")


def spliced(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return text that is JSON already as a response."""
    return Response(text, status, headers, "application/json")


async def frames_of(events: AsyncIterator[LoggedEvent]) -> AsyncGenerator[bytes, None]:
    """Yield the frames of a log, numbered as its events are."""
    # What a log gives is a generator: the subscription behind it ends when it is closed.
    async with aclosing(cast("AsyncGenerator[LoggedEvent, None]", events)):
        async for event in events:
            yield frame(event.type, event.data, event.index)


def check_id(id: str, what: str) -> str:
    """Return an id from a path. Raises `Problem` (400) for one that is blank, too long or has control characters."""
    if not id.strip():
        raise invalid_request(f"The {what} must not be blank.")
    if len(id.encode("utf-8", "surrogatepass")) > MAX_ID_BYTES:
        raise invalid_request(f"The {what} has more than {MAX_ID_BYTES} bytes.")
    if has_control_characters(id):
        raise invalid_request(f"The {what} must not contain control characters.")
    return id

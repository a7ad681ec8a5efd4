"""An application's own start and end: the `lifespan` of the ASGI specification."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from starlette.types import ASGIApp, Message

from flue.errors import ConfigError


class Lifespan:
    """What one application does around its requests. `state` is what it wants each of them to have."""

    def __init__(self, app: ASGIApp) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._asked = False
        self._failure: str | None = None
        self._up = asyncio.Event()
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the application; one that knows no lifespan is left alone.

        Raises `ConfigError` (`app_failed`) when it says that it cannot start.
        """
        self._task = asyncio.create_task(self._run())
        await self._up.wait()
        if self._failure is not None:
            # Starlette puts a whole traceback here, which ends with the exception.
            reason = (self._failure.strip().splitlines() or ["it gives no reason"])[-1].strip().rstrip(".")
            raise ConfigError(
                f"The application in app.py cannot start: {reason}.",
                code="app_failed",
                hint="Look at what its lifespan does first.",
            )

    async def end(self) -> None:
        """Have the application end what it started; when this is cancelled, it is left where it is."""
        self._stop.set()
        if self._task is not None:
            try:
                await asyncio.wait({self._task})
            finally:
                self._task.cancel()

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            with contextlib.suppress(Exception):  # so says an application that it knows no lifespan
                await self._app(scope, self._receive, self._send)
        finally:
            self._up.set()

    async def _receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "lifespan.startup"}
        await self._stop.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "lifespan.startup.failed":
            self._failure = str(message.get("message", ""))
        self._up.set()

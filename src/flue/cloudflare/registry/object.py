"""The registry: one object that knows where every run is, and that fires the project's schedules.

It forgets runs when their objects delete them, a few whenever it is told of some or lists them; nothing wakes it up for
that alone.
"""

from __future__ import annotations

import logging
from typing import Any

from flue.cloudflare.asking import ASK, json_answer
from flue.cloudflare.isolate import Isolate
from flue.cloudflare.platform.js_classes import State
from flue.cloudflare.platform.js_http import Native, Request
from flue.cloudflare.platform.js_sockets import HibernatingSocket
from flue.cloudflare.registry.client import Pointer
from flue.cloudflare.registry.clockwork import Clockwork
from flue.cloudflare.registry.pointers import Pointers
from flue.durable.records import RunQuery

logger = logging.getLogger("flue")
# How long a registry that cannot look at its schedules waits before it tries again, in milliseconds.
_TRY_AGAIN = 60_000
# How long a run that has ended is remembered at least, in seconds: what was said before may arrive after it.
_LATE = 60.0


class Registry:
    """The registry's object while it lives; see `ObjectHandlers`."""

    def __init__(self, isolate: Isolate, state: State) -> None:
        self._isolate = isolate
        self._state = state
        self._pointers = Pointers(state.storage)
        self._clockwork: Clockwork | None = None

    async def fetch(self, request: Request) -> Native:
        """Answer what the Worker or an object asks."""
        return json_answer(await self._answer(request.header(ASK), await request.json()))

    async def alarm(self) -> None:
        """Fire what is due."""
        try:
            await self._clock().look()
        except Exception:
            # Raising would have the platform call again a few times, and then give up.
            logger.exception("The schedules could not be looked at.")
            await self._state.storage.setAlarm(self._isolate.clock.now_ms() + _TRY_AGAIN)

    async def socket_message(self, socket: HibernatingSocket, message: str | bytes) -> None:
        """Do nothing: it accepts no sockets."""

    async def socket_closed(self, socket: HibernatingSocket, code: int, reason: str) -> None:
        """Do nothing: it accepts no sockets."""

    async def socket_failed(self, socket: HibernatingSocket) -> None:
        """Do nothing: it accepts no sockets."""

    async def _answer(self, what: str, body: Any) -> Any:
        match what:
            case "tell":
                self._pointers.tell(Pointer.of_json(values) for values in body)
                self._forget()
            case "forget":
                self._pointers.drop(body)
            case "find":
                found = self._pointers.find(body)
                return None if found is None else found.to_json()
            case "list":
                self._forget()
                query = RunQuery(**{**body, "before": tuple(body["before"]) if body["before"] else None})
                return [Pointer(run, "").to_json()["run"] for run in self._pointers.page(query)]
            case "wake":
                await self._clock().start()
            case _:
                raise ValueError(f"The registry is asked {what!r}.")
        return None

    def _forget(self) -> None:
        """Forget some of what the runs' objects have deleted by now: they go by the same time."""
        keep = self._isolate.bundle.keep.runs
        if keep is not None:
            now = self._isolate.clock.now_ms()
            self._pointers.forget(ended_before=now - round(max(keep, _LATE) * 1000))

    def _clock(self) -> Clockwork:
        if self._clockwork is None:
            self._clockwork = Clockwork(self._isolate, self._isolate.store(self._state))
        return self._clockwork

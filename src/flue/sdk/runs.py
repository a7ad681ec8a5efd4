"""`client.runs`: what became of runs, and what happens in them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, cast

from flue.sdk.events import Event
from flue.sdk.records import RunRecord
from flue.sdk.requests import Requests
from flue.sdk.streams import Log, Retry, follow
from flue.sdk.urls import path_of

RUN_ID = "X-Flue-Run-Id"
LAST_EVENT_ID = "Last-Event-ID"


class Runs:
    """Runs of workflows and of function agents, by id."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    async def get(self, run_id: str) -> RunRecord:
        """Return a run's record. Raises `FlueApiError` (`run_not_found`)."""
        return cast("RunRecord", (await self._requests.send("GET", path_of("runs", run_id))).body)

    async def events(
        self,
        run_id: str,
        *,
        after: int | None = None,
        types: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> list[Event]:
        """Return a page of a run's events: those after an index, of some types, at most `limit` (1 to 1000; 100)."""
        query = {"after": after, "types": ",".join(types) if types else None, "limit": limit}
        answer = await self._requests.send("GET", path_of("runs", run_id, "events"), query=query)
        return cast("list[Event]", answer.field("events", list))

    async def stream(
        self, run_id: str, *, last_event_id: str | None = None, max_retries: int = 3, initial_retry_ms: int = 250
    ) -> AsyncGenerator[Event, None]:
        """Yield a run's events, each once, until `run_end`; `last_event_id` is the index of the last one known.

        A connection that breaks is opened again, `max_retries` times without a new event in between, first after
        `initial_retry_ms`, then after twice as long each time. Raises `FlueTransportError` (`stream_closed`) when that
        does not help, `FlueApiError` when the server refuses.
        """
        retry = Retry(max_retries, initial_retry_ms)
        async with aclosing(follow(self.log(run_id), retry, last_id=last_event_id)) as frames:
            async for frame in frames:
                yield cast("Event", frame.event)

    async def abort(self, run_id: str, *, reason: str | None = None) -> RunRecord:
        """End a run; one that has ended stays as it is."""
        body = {} if reason is None else {"reason": reason}
        answer = await self._requests.send("POST", path_of("runs", run_id, "abort"), body=body)
        return cast("RunRecord", answer.body)

    async def send_event(self, run_id: str, name: str, payload: Any = None, *, key: str | None = None) -> None:
        """Give a run the event that it waits for, or will wait for. The same `key` is taken once."""
        path = path_of("runs", run_id, "events", name)
        await self._requests.send("POST", path, body=payload, headers=key_header(key))

    def log(self, run_id: str) -> Log:
        """Return a run's log, to follow."""
        path = path_of("runs", run_id, "stream")

        async def is_over() -> bool:
            return (await self.get(run_id)).get("status") in ("completed", "errored")

        return Log(
            open=lambda after: self._requests.stream("GET", path, headers=after_header(after)),
            last="run_end",
            stop_at_last=True,
            is_over=is_over,
        )


def key_header(key: str | None) -> dict[str, str]:
    """Return the header that makes a request count once."""
    return {} if key is None else {"Idempotency-Key": key}


def after_header(last_id: str | None) -> dict[str, str]:
    """Return the header that goes on after an event."""
    return {} if last_id is None else {LAST_EVENT_ID: last_id}

"""A run's record and events, wherever they are: on a server, or in the project's own store."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Protocol

from flue.cli.render import WireEvent
from flue.errors import UsageError

if TYPE_CHECKING:
    from flue.durable.port import DurableStore
    from flue.sdk import AsyncClient

PAGE = 1000


class RunLog(Protocol):
    """One run."""

    async def record(self) -> Mapping[str, Any]:
        """Return the run's record as it stands. Raises `FlueError` (`run_not_found`)."""
        ...

    async def page(self, after: int, types: frozenset[str] | None, limit: int) -> list[WireEvent]:
        """Return the next events after an index, of some types, `limit` at most; none when there are no more."""
        ...

    def follow(self, after: int) -> AsyncGenerator[WireEvent, None]:
        """Yield the events after an index as they come, until the run has ended."""
        ...


async def replay(
    run: RunLog, after: int, types: frozenset[str] | None, limit: int | None
) -> AsyncGenerator[WireEvent, None]:
    """Yield the events that there are after an index, page by page."""
    while limit is None or limit > 0:
        page = await run.page(after, types, PAGE if limit is None else min(PAGE, limit))
        if not page:
            return
        for event in page:
            yield event
        after = index_after(page, after)
        limit = None if limit is None else limit - len(page)


def index_after(page: list[WireEvent], after: int) -> int:
    """Return the index to go on after. Raises `UsageError` when the events do not go on."""
    index = page[-1].get("eventIndex")
    if not isinstance(index, int) or index <= after:
        raise UsageError(
            "The run's events have no order.", code="server_protocol", hint="Check that --server names a Flue server."
        )
    return index


class RemoteRun:
    """A run on a server."""

    def __init__(self, client: AsyncClient, run_id: str) -> None:
        self._runs = client.runs
        self._id = run_id

    async def record(self) -> Mapping[str, Any]:
        """See `RunLog`."""
        record: Any = await self._runs.get(self._id)
        return dict(record)

    async def page(self, after: int, types: frozenset[str] | None, limit: int) -> list[WireEvent]:
        """See `RunLog`."""
        wanted = None if types is None else sorted(types)
        found: list[Any] = await self._runs.events(
            self._id, after=None if after < 0 else after, types=wanted, limit=limit
        )
        return [event for event in found if isinstance(event, dict)]

    async def follow(self, after: int) -> AsyncGenerator[WireEvent, None]:
        """See `RunLog`."""
        last = None if after < 0 else str(after)
        events: Any = self._runs.stream(self._id, last_event_id=last)
        async with aclosing(events):
            async for event in events:
                yield event


class StoredRun:
    """A run in a store."""

    def __init__(self, store: DurableStore, run_id: str) -> None:
        from flue.engine.feed import Feed
        from flue.engine.log_reader import LogReader
        from flue.host import SystemClock

        self._store = store
        self._reader = LogReader(store, Feed(), SystemClock())
        self._id = run_id

    async def record(self) -> Mapping[str, Any]:
        """See `RunLog`."""
        from flue.engine.wire_records import run_record

        run = await self._store.get_run(self._id)
        if run is None:
            raise UsageError(
                f"There is no run {self._id} in the store.",
                code="run_not_found",
                hint="It may be older than what is kept, or of another project.",
            )
        return run_record(run)

    async def page(self, after: int, types: frozenset[str] | None, limit: int) -> list[WireEvent]:
        """See `RunLog`."""
        found = await self._reader.read(self._id, after=after, types=types, limit=limit)
        return [json.loads(event.data) for event in found]

    async def follow(self, after: int) -> AsyncGenerator[WireEvent, None]:
        """See `RunLog`."""
        events = self._reader.follow(self._id, after=after)
        async with aclosing(events):
            async for event in events:
                yield json.loads(event.data)

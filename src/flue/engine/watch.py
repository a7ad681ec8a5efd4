"""Waiting for work to come to rest, wherever it runs: whoever waits looks when something changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flue.durable.port import DurableStore
from flue.durable.records import Outcome, Submission, Wake
from flue.errors import UsageError
from flue.ports import Clock

# A wake-up may be lost with a connection; so long at most nobody looks.
_LOOK_AGAIN = 15.0


class Watches:
    """Who waits for which submission. What changes here is told at once; what changes elsewhere, by the store.

    With `looks_again` whoever waits looks every few seconds, too.
    """

    def __init__(self, store: DurableStore, clock: Clock, *, looks_again: bool = True) -> None:
        self._store = store
        self._clock = clock
        self._looks_again = looks_again
        self._watches: dict[str, list[asyncio.Event]] = {}
        self._unlisten: Callable[[], None] | None = None
        self._closed = False

    def changed(self, submission_id: str) -> None:
        """Have those who wait look again; an empty id means everybody."""
        for id in (submission_id,) if submission_id else tuple(self._watches):
            for watch in self._watches.get(id, ()):
                watch.set()

    def close(self) -> None:
        """Let nobody wait any more: what has not ended will not be worked on here."""
        self._closed = True
        self.changed("")

    async def outcome(
        self, submission_id: str, *, until: Callable[[Submission], bool] | None = None
    ) -> Outcome | Submission:
        """Wait for the end of a submission and return its outcome.

        With `until` also return, with the submission as it stands, when that says so of one that has not ended.
        Raises `UsageError` (`submission_not_found`, `shutting_down`).
        """
        with self._watching(submission_id) as changed:
            while True:
                changed.clear()
                found = await self._store.get_submission(submission_id)
                if found is None:
                    raise unknown_submission(submission_id)
                if found.outcome is not None:
                    return Outcome(found.outcome, found.result, found.error)
                if until is not None and until(found):
                    return found
                if self._closed:
                    raise UsageError(
                        "The server is shutting down.",
                        code="shutting_down",
                        hint="The work goes on after its next start; ask for its outcome then.",
                    )
                await self._wait(changed)

    @contextmanager
    def _watching(self, submission_id: str) -> Iterator[asyncio.Event]:
        changed = asyncio.Event()
        if self._unlisten is None:
            self._unlisten = self._store.listen(self._on_wake)
        self._watches.setdefault(submission_id, []).append(changed)
        try:
            yield changed
        finally:
            watches = self._watches[submission_id]
            watches.remove(changed)
            if not watches:
                del self._watches[submission_id]
            if not self._watches and self._unlisten is not None:
                self._unlisten()
                self._unlisten = None

    def _on_wake(self, wake: Wake) -> None:
        if wake.kind == "events":
            self.changed(wake.key)

    async def _wait(self, changed: asyncio.Event) -> None:
        tasks: list[asyncio.Task[object]] = [asyncio.create_task(changed.wait())]
        if self._looks_again:
            tasks.append(asyncio.create_task(self._clock.sleep(_LOOK_AGAIN)))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()


def unknown_submission(submission_id: str) -> UsageError:
    """Return the error for an id that no accepted work has, or has any more."""
    return UsageError(f"There is no submission {submission_id}.", code="submission_not_found")

"""Where the context of an attempt writes. It is handed on when the same work goes on under another claim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace as with_changes
from typing import Any

from flue.durable.claimed_store import ClaimedStore
from flue.durable.port import DurableStore
from flue.engine.attempt import Attempt
from flue.engine.catalog import Deployment
from flue.engine.event_log import LogSettings, LogWriter
from flue.engine.feed import Feed
from flue.events import Emitter, Event, RunEnd, Scope
from flue.harness.agent_store import AgentStore
from flue.harness.context import FlueContext
from flue.harness.runtime import Runtime
from flue.harness.step_log import StepLog
from flue.ports import Clock

# Indices that are reserved for every submission when it is accepted, and for each later attempt when it is claimed: see
# `Admission.reserve` and `Claimant.reserve`.
RESERVED = 1024


@dataclass(frozen=True, slots=True)
class Site:
    """What every attempt of an engine shares."""

    store: DurableStore
    clock: Clock
    feed: Feed
    log: LogSettings


class Place:
    """A context's way to the disk.

    The end of a run is held back until the run settles: nobody is to see an end that a crash could still undo.
    """

    def __init__(self, site: Site, *, agent: str = "", instance: str = "") -> None:
        self.run_end: RunEnd | None = None
        self._site = site
        self._agent = agent
        self._stream = f"{agent}/{instance}" if agent else ""
        self._store: ClaimedStore | None = None
        self._log: LogWriter | None = None

    async def enter(self, attempt: Attempt) -> int:
        """Make an attempt the one that writes; return the index of its first event."""
        site, id = self._site, attempt.claim.id
        attempt.outbox.close()
        first, attempt.index = attempt.index, None
        if first is None:
            first = await site.store.reserve_indices(id, RESERVED)
        self._log = LogWriter(
            attempt.outbox,
            log=id,
            stream=self._stream,
            feed=site.feed,
            clock=site.clock,
            store=site.store,
            first=first,
            reserved=first + RESERVED,
            settings=site.log,
            session_prefix=f"{self._agent}/" if self._agent else "",
        )
        if self._store is None:
            self._store = ClaimedStore(site.store, attempt.outbox)
        self._store.outbox = attempt.outbox
        return first

    def is_next(self, attempt: Attempt) -> bool:
        """Say whether nobody has worked since the last one who entered.

        Each attempt gets indices of the event log, without a gap to those before. With a gap, as another process makes
        it, what is in memory here may be out of date in ways that no write shows, such as a decision that was taken.
        """
        return attempt.index is None or (self._log is not None and attempt.index == self._log.reserved)

    def __call__(self, event: Event) -> None:
        """Take in an event."""
        if isinstance(event, RunEnd):
            self.run_end = event
        elif self._log is not None:
            self._log(event)

    def end_run(self) -> None:
        """Let the end of the run go into the log, with the write that settles it."""
        if self.run_end is not None and self._log is not None:
            self._log(self.run_end)

    def last_words(self, emitter: Emitter) -> Emitter:
        """Return an emitter that goes on where another is, into the log alone; that takes in nothing else any more."""
        log, self._log = self._log, None
        last = Emitter(emitter.clock, () if log is None else (log,))
        last.next_index = emitter.next_index
        return last

    def runtime(self, deployment: Deployment) -> Runtime:
        """Return the deployment's runtime with this place as its store; of an agent, with the agent's part of it."""
        assert self._store is not None
        runtime, agent = deployment.runtime, self._agent
        if not agent:
            return with_changes(runtime, store=self._store, persist=deployment.persist)
        return with_changes(
            runtime,
            store=AgentStore(self._store, agent),
            persist=lambda own: AgentStore(deployment.persist(own), agent),
        )

    def context(
        self,
        attempt: Attempt,
        deployment: Deployment,
        *,
        id: str,
        payload: Any,
        scope: Scope,
        first: int,
        steps: StepLog | None = None,
        sinks: Sequence[Any] = (),
    ) -> FlueContext:
        """Return a context that writes here; its events are numbered from `first`."""
        context = FlueContext(
            id=id,
            payload=payload,
            env=deployment.env,
            runtime=self.runtime(deployment),
            scope=scope,
            sinks=(*sinks, self),
            req=attempt.request,
            steps=steps,
            lineage_id=attempt.submission.address if steps is not None else None,
        )
        context.emitter.next_index = first
        return context

"""The service: everything that can be asked of a running project; HTTP, the CLI and `dispatch` are faces of it.

What it accepts is on disk when the call returns, and is done whatever becomes of the caller.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from flue.definitions.agent import Agent
from flue.definitions.budget import as_budget
from flue.durable.port import DurableStore
from flue.durable.records import Admission, Admitted, Message, Outcome, Run, RunQuery, Submission
from flue.engine.admissions import Admissions, json_input, session_lane
from flue.engine.attempt import Attempt, Ending
from flue.engine.catalog import Catalog, Deployment
from flue.engine.engine import Engine, EngineSettings
from flue.engine.event_log import LogSettings
from flue.engine.feed import Feed
from flue.engine.log_reader import LoggedEvent, LogReader
from flue.engine.messages import APPROVAL, approval_message, budget_message, event_message
from flue.engine.place import Site
from flue.engine.prompts import Prompts
from flue.engine.runs import Runs
from flue.engine.schedules import Schedules
from flue.engine.watch import unknown_submission
from flue.errors import SessionError, UsageError
from flue.events import iso_time
from flue.harness.env import SessionEnv
from flue.harness.keywords import Busy
from flue.messages import ImageContent
from flue.registrations import Registrations


@dataclass(frozen=True, slots=True)
class DispatchReceipt:
    """What `dispatch` gives: the id by which the input is known, and when it was accepted (ISO 8601)."""

    dispatch_id: str
    accepted_at: str


class Ticket:
    """Work that was accepted. `id` is the run's or the submission's; `accepted_at` is in milliseconds.

    `created` is False when the same key had been accepted before; `ahead` is how many of its lane come first.
    """

    def __init__(self, engine: Engine, reader: LogReader, admitted: Admitted) -> None:
        self.id = admitted.id
        self.accepted_at = admitted.accepted_at
        self.created = admitted.created
        self.ahead = admitted.ahead
        self._engine = engine
        self._reader = reader

    async def outcome(self) -> Outcome:
        """Wait until the work has ended, wherever it runs."""
        outcome = await self._engine.outcome(self.id)
        assert isinstance(outcome, Outcome)
        return outcome

    async def rest(self) -> Outcome | Submission:
        """Wait until the work has ended, or waits for a person; then return the submission as it stands."""
        return await self._engine.outcome(self.id, until=waits_for_person)

    def events(self, after: int = -1) -> AsyncGenerator[LoggedEvent, None]:
        """Yield the work's events after an index, live ones included, until it has ended."""
        return self._reader.follow(self.id, after=after)


def waits_for_person(submission: Submission) -> bool:
    """Say whether work waits for an approval or a larger budget."""
    return submission.state == "parked" and submission.park_reason in ("approval", "budget")


def _other_approvals(submission: Submission, message: Message) -> list[str]:
    """Return the tool calls that wait for a decision, when `message` is one on none of them.

    While the prompt runs nobody knows: a call of the same turn may wait soon.
    """
    if submission.state != "parked" or submission.park_reason != "approval" or not message.name.startswith(APPROVAL):
        return []
    waiting = submission.waiting_for
    return [] if message.name in waiting else [name.removeprefix(APPROVAL) for name in waiting]


class Service:
    """A project at work on one store, in one event loop.

    `project` names it among those that share the store; its schedules are kept under that name.
    """

    def __init__(
        self,
        store: DurableStore,
        deployment: Deployment,
        *,
        settings: EngineSettings | None = None,
        log: LogSettings | None = None,
        project: str = "",
        runs_changed: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        runtime = deployment.runtime
        self.store = store
        self.deployment = deployment
        feed = Feed()
        settings = settings or EngineSettings()
        self.log = LogReader(store, feed, runtime.clock, looks_again=not settings.hibernates)
        self.log_settings = log or LogSettings()
        site = Site(store, runtime.clock, feed, self.log_settings)
        self._prompts = Prompts(site, self.log)
        self._runs = Runs(site, runtime.ids)
        self._clock = runtime.clock
        self._ids = runtime.ids
        owner = runtime.ids.ulid()
        self._admissions = Admissions(lambda: self.catalog, runtime.ids, owner)
        self._schedules = Schedules(store, runtime.clock, self._admissions.scheduled, project=project)
        self.engine = Engine(
            store,
            runtime.clock,
            runtime.ids,
            self._drive,
            owner=owner,
            fire_due=self._schedules.fire_due,
            runs_changed=runs_changed,
            settings=settings,
        )
        self._starting: asyncio.Future[None] | None = None
        self._driven_with: dict[Attempt, Deployment] = {}

    @property
    def catalog(self) -> Catalog:
        """Return the agents and workflows that can be asked for."""
        return self.deployment.catalog

    @property
    def registrations(self) -> Registrations:
        """Return the registrations of the project."""
        return self.deployment.runtime.registrations

    async def dispatcher(self) -> Service:
        """Return the service itself, started."""
        await self.start()
        return self

    async def start(self) -> None:
        """Begin to work: take up what was left, and what is due. Does nothing the second time."""
        if self._starting is None:
            self._starting = asyncio.ensure_future(self._start())
        await asyncio.shield(self._starting)

    async def _start(self) -> None:
        try:
            if self.engine.fires_schedules:
                await self._schedules.load(self.registrations.schedules)
            await self.engine.start()
        except BaseException:
            self._starting = None
            raise

    async def deploy(self, deployment: Deployment) -> None:
        """Go on with another version of the project; what is under way stays with the one that it began with.

        What waits for a person goes on with the new one.
        """
        self.deployment = deployment
        await self._prompts.close()
        await self._schedules.load(self.registrations.schedules)
        self.engine.look()

    async def at_rest(self, deployment: Deployment) -> None:
        """Wait until nothing is under way with a version of the project that is no longer the newest."""
        while tasks := [attempt.task for attempt, used in self._driven_with.items() if used is deployment]:
            await asyncio.wait([task for task in tasks if task is not None])

    async def drain(self, timeout: float = 5.0) -> None:
        """Stop in good order within about `timeout` seconds; what is unfinished goes on after the next start."""
        await self.engine.drain(timeout)
        await self._prompts.close()

    async def _drive(self, attempt: Attempt) -> Ending:
        driver = self._runs if attempt.submission.kind == "workflow" else self._prompts
        self._driven_with[attempt] = deployment = self.deployment
        try:
            ending = await driver.drive(attempt, deployment)
        finally:
            del self._driven_with[attempt]
        if deployment is not self.deployment:
            await self._prompts.close()  # it may have begun to wait for a person
        return ending

    # -------------------------------------------------------------------------------------- accepting

    async def prompt(
        self,
        agent: str,
        instance: str,
        message: str,
        *,
        session: str = "default",
        images: Sequence[ImageContent] = (),
        busy: Busy = "queue",
        key: str | None = None,
    ) -> Ticket:
        """Accept a message for a session of an agent's instance.

        Messages to one session are answered one after the other; `busy="reject"` refuses to wait. The same `key` with
        the same content is accepted once. Raises `UsageError` (`agent_not_found`, `invalid_id`, `invalid_text`),
        `SessionError` (`session_busy`, `invalid_session_name`) and `DurabilityError` (`idempotency_conflict`).
        """
        alone = busy == "reject"
        return await self._accept(
            self._admissions.prompt(agent, instance, message, session=session, images=images, key=key, alone=alone)
        )

    async def dispatch(
        self,
        agent: Agent | str,
        instance: str,
        input: Any,
        *,
        session: str = "default",
        dispatch_id: str | None = None,
    ) -> DispatchReceipt:
        """Accept input (a JSON value) for a session of an agent's instance, and return without waiting for its answer.

        The same `dispatch_id` with the same input is accepted once, and gives the first receipt. Raises as `prompt`,
        and `UsageError` (`invalid_input`) for input without a JSON form.
        """
        admission = self._admissions.dispatch(agent, instance, input, session=session, dispatch_id=dispatch_id)
        await self.start()
        admitted = await self.engine.admit(admission)
        return DispatchReceipt(json.loads(admission.payload)["dispatchId"], iso_time(admitted.accepted_at))

    async def start_workflow(
        self,
        name: str,
        payload: Any = None,
        *,
        key: str | None = None,
        request: Any = None,
        run_id: str | None = None,
    ) -> Ticket:
        """Accept a run of a workflow; the ticket's id is the run's. `request` is what `ctx.req` gives in this process.

        A caller that gives the run's id sees to it that it is a new one, or the same for the same `key`.

        Raises `UsageError` (`workflow_not_found`, `invalid_input`) and `DurabilityError`.
        """
        return await self._accept(self._admissions.workflow(name, payload, key=key, run_id=run_id), request)

    async def start_agent(
        self, name: str, instance: str, payload: Any = None, *, key: str | None = None, request: Any = None
    ) -> Ticket:
        """Accept a run of a function agent for an instance; runs of one instance follow each other.

        Raises `UsageError` (`agent_not_found`, `agent_not_runnable`, `invalid_id`, `invalid_input`).
        """
        return await self._accept(self._admissions.agent_run(name, instance, payload, key=key), request)

    async def _accept(self, admission: Admission, request: Any = None) -> Ticket:
        await self.start()
        return Ticket(self.engine, self.log, await self.engine.admit(admission, request=request))

    async def ticket(self, submission_id: str) -> Ticket:
        """Return the ticket of work that was accepted before. Raises `UsageError` (`submission_not_found`)."""
        await self.start()
        found = await self.store.get_submission(submission_id)
        if found is None:
            raise unknown_submission(submission_id)
        return Ticket(self.engine, self.log, Admitted(found.id, found.accepted_at, created=False))

    # --------------------------------------------------------------------------------------- steering

    async def abort(self, submission_id: str, reason: str = "Aborted.") -> Submission | None:
        """Have a prompt or a run aborted; return it as it then stands, None when it is unknown."""
        found = await self.store.get_submission(submission_id)
        events = () if found is None else self._runs.log_unbegun(found, Outcome.aborted(reason))
        return await self.engine.abort(submission_id, reason, events=events)

    async def decide(
        self,
        agent: str,
        instance: str,
        tool_call_id: str,
        *,
        approved: bool,
        reason: str | None = None,
        session: str = "default",
    ) -> None:
        """Decide on a tool call that waits for approval; durable when this returns.

        Raises `SessionError` (`approval_not_found`) when nothing in the session is under way, or what waits is another
        call.
        """
        message = approval_message(self._ids.ulid(), tool_call_id, approved=approved, reason=reason)
        await self._send_to_lane(session_lane(agent, instance, session), message, f'tool call "{tool_call_id}"')

    async def raise_budget(
        self, agent: str, instance: str, budget: Mapping[str, float], *, session: str = "default"
    ) -> None:
        """Let a prompt go on that paused because its budget was used up, with another budget; durable on return.

        Raises `DefinitionError` for a wrong budget and `SessionError` (`approval_not_found`).
        """
        checked = as_budget(budget)
        limits = (
            {} if checked is None else {name: value for name, value in asdict(checked).items() if value is not None}
        )
        message = budget_message(self._ids.ulid(), limits)
        await self._send_to_lane(session_lane(agent, instance, session), message, "budget")

    async def send_event(self, run_id: str, name: str, payload: Any = None, *, id: str | None = None) -> None:
        """Send a workflow's run an event, for `ctx.wait_for_event(name)`; durable when this returns.

        The same `id` is taken once. Raises `UsageError` (`run_not_found`) when there is no such run under way.
        """
        submission = await self.store.get_submission(run_id)
        message = event_message(id or self._ids.ulid(), name, json_input(payload))
        if submission is None or not await self._deliver(submission, message):
            raise UsageError(f"No run {run_id} is under way.", code="run_not_found", hint="It may have ended.")

    async def _send_to_lane(self, lane: str, message: Message, what: str) -> None:
        under_way = await self.store.list_lane(lane)
        others = _other_approvals(under_way[0], message) if under_way else []
        if not under_way or others or not await self._deliver(under_way[0], message):
            waiting = f" What waits: {', '.join(others)}." if others else ""
            raise SessionError(
                f"Nothing in the session waits for a decision on the {what}.",
                code="approval_not_found",
                hint=f"It may have ended, or been decided, meanwhile.{waiting}",
            )

    async def _deliver(self, submission: Submission, message: Message) -> bool:
        delivered = await self.store.deliver(submission.address, message, now=self._clock.now_ms())
        self.engine.poke(submission.address)
        return delivered

    # ---------------------------------------------------------------------------------------- reading

    async def get_run(self, run_id: str) -> Run | None:
        """Return a recorded run."""
        return await self.store.get_run(run_id)

    async def list_runs(self, query: RunQuery) -> list[Run]:
        """Return a page of recorded runs, newest first."""
        return await self.store.list_runs(query)

    async def get_submission(self, submission_id: str) -> Submission | None:
        """Return accepted work as it stands."""
        return await self.store.get_submission(submission_id)

    def sandbox(self, submission_id: str) -> SessionEnv | None:
        """Return the sandbox that a prompt works in, while it runs or waits for a person in this process, else None.

        It ends with the prompt, also while somebody reads: then its methods raise.
        """
        return self._prompts.sandbox(submission_id)

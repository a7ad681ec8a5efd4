"""Driving a run: a workflow's function, or a function agent's, from its payload to its result.

first attempt              the function runs; what it records with `ctx.step` is on disk before it goes on
a long sleep, an event     the function is ended and the run parked; it begins again over its recorded steps (DUR-32)
after an interruption      the run ends as errored, and another takes its place, linked both ways: it has the same
                           payload and the recorded steps, and an id of its own
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

from flue.durable.records import Admission, EventRow, Outcome, Run, Submission
from flue.engine.attempt import (
    EXHAUSTED_ATTEMPTS,
    Attempt,
    Ending,
    Parked,
    Restarted,
    Settled,
    describe,
    error_info,
    failed,
    failure,
)
from flue.engine.catalog import AgentEntry, Deployment, WorkflowEntry
from flue.engine.place import RESERVED, Place, Site
from flue.engine.row_writer import rows_of
from flue.engine.run_steps import RunSteps
from flue.errors import DurabilityError, OperationError, UsageError
from flue.events import Emitter, RunEnd, RunResume, Scope, iso_time
from flue.harness.context import FlueContext
from flue.harness.runs import agent_owner, run_agent, run_workflow, workflow_owner
from flue.ports import Ids
from flue.registrations import using_registrations


class Runs:
    """Drives the runs of workflows and function agents."""

    def __init__(self, site: Site, ids: Ids) -> None:
        self._site = site
        self._ids = ids

    async def drive(self, attempt: Attempt, deployment: Deployment) -> Ending:
        """Bring a run to rest."""
        submission = attempt.submission
        linked = submission.address != submission.id or not attempt.fresh
        record = await self._site.store.get_run(submission.id) if linked else None
        steps = await RunSteps.load(self._site.store, attempt)
        agent = submission.target if submission.instance else ""
        place = Place(self._site, agent=agent, instance=submission.instance)
        first = await place.enter(attempt)
        context = place.context(
            attempt,
            deployment,
            id=submission.instance or submission.id,
            payload=json.loads(submission.payload),
            scope=_scope(submission),
            first=first,
            steps=steps,
        )
        run = _Run(attempt, deployment, place, context, steps, record)
        attempt.on_force = run.forced
        if submission.cancel_reason is not None:
            return run.ended(Outcome.aborted(submission.cancel_reason))
        if submission.interruptions:
            return run.interrupted(self._replacement(attempt))
        with using_registrations(deployment.runtime.registrations):
            return await run.drive()

    def log_unbegun(self, submission: Submission, outcome: Outcome) -> tuple[EventRow, ...]:
        """Return the whole log of a run that ends before it began; nothing for what is no run."""
        if submission.kind != "workflow":
            return ()
        stream = f"{submission.target}/{submission.instance}" if submission.instance else ""
        end = RunEnd(_scope(submission), 0, self._site.clock.now_ms(), True, 0, None, error_info(outcome.error or ""))
        return rows_of([end], submission.id, stream, self._site.log)

    def _replacement(self, attempt: Attempt) -> Admission:
        submission = attempt.submission
        fresh = f"run_{self._ids.ulid()}" if submission.instance else f"workflow:{submission.target}:{self._ids.ulid()}"
        return Admission(
            id=fresh,
            lane=submission.lane if submission.instance else fresh,
            kind=submission.kind,
            target=submission.target,
            payload=submission.payload,
            instance=submission.instance,
            recorded="agent" if submission.instance else "workflow",
            max_attempts=submission.max_attempts,
            timeout_ms=submission.time_left_ms,
            reserve=RESERVED,
        )


def _scope(submission: Submission) -> Scope:
    return Scope(run_id=submission.id, instance_id=submission.instance or None)


class _Run:
    """One attempt at one run."""

    def __init__(  # noqa: PLR0917 - private, and each once
        self,
        attempt: Attempt,
        deployment: Deployment,
        place: Place,
        context: FlueContext,
        steps: RunSteps,
        record: Run | None,
    ) -> None:
        self._attempt = attempt
        self._submission = attempt.submission
        self._deployment = deployment
        self._place = place
        self._context = context
        self._steps = steps
        self._record = record
        self._started = context.clock.monotonic()

    async def drive(self) -> Ending:
        """Run the function until it ends or waits."""
        try:
            result = await self._call()
        except asyncio.CancelledError:
            return self._suspended()
        except DurabilityError as error:
            if error.code == "attempt_lost":
                raise
            return self.ended(failure(error), error)
        except SystemExit as stop:
            return self.ended(failure(OperationError(f"The run ended itself with exit status {stop.code}.")))
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - what the user's function raises is how the run ended
            return self.ended(failure(error), error)
        return self.ended(Outcome("completed", result=json.dumps(result)))

    async def _call(self) -> Any:
        entry, submission = self._entry(), self._submission
        if entry.run is None:
            raise OperationError(f'Agent "{entry.name}" has no run of its own any more.', code="agent_not_runnable")
        restarted_from = self._record.restarted_from if self._record is not None else None
        call = run_agent if submission.instance else run_workflow
        return await call(
            self._context,
            entry.run,
            name=entry.name,
            restarted_from=restarted_from,
            resumed=not self._attempt.fresh,
        )

    def _entry(self) -> AgentEntry | WorkflowEntry:
        catalog, target = self._deployment.catalog, self._submission.target
        return catalog.agent(target) if self._submission.instance else catalog.workflow(target)

    def _suspended(self) -> Ending:
        if self._attempt.stopped is not None or self._steps.wait is None:
            self._place.end_run()
            raise asyncio.CancelledError
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
        return Parked(self._steps.wait)

    def ended(self, outcome: Outcome, error: BaseException | None = None) -> Settled:
        """Return the end of the run; its last event goes with the settlement."""
        if self._place.run_end is None:
            self._announce_end(self._context.emitter, outcome.error)
        self._place.end_run()
        return Settled(outcome, error)

    def forced(self, outcome: Outcome) -> None:
        """Write the end of the run, whose function goes on."""
        log = self._place.last_words(self._context.emitter)
        if self._place.run_end is None:
            self._announce_end(log, outcome.error)

    def interrupted(self, replacement: Admission) -> Ending:
        """Return how a run ends whose process died: replaced by another, or for good (DUR-31)."""
        self._announce_resume()
        generation = self._record.generation if self._record is not None else 0
        if generation + 1 >= self._submission.max_attempts:
            return self.ended(EXHAUSTED_ATTEMPTS)
        try:
            entry = self._entry()
        except UsageError as unknown:  # to this version of the project
            return self.ended(failure(unknown))
        if isinstance(entry, WorkflowEntry) and entry.on_interrupt == "fail":
            message = "The run was interrupted, and its workflow asks for no restart."
            return self.ended(failed(message, code="interrupted"))
        message = f'Flue workflow execution was interrupted and restarted as run "{replacement.id}".'
        error = json.dumps({**describe(OperationError(message)), "code": "interrupted"})
        self._announce_end(self._context.emitter, error)
        self._place.end_run()
        return Restarted(replacement, error)

    def _announce_resume(self) -> None:
        submission, context = self._submission, self._context
        named = "agent_name" if submission.instance else "workflow_name"
        owner = agent_owner if submission.instance else workflow_owner
        context.emitter.emit(
            replace(context.scope, instance_id=context.id),
            RunResume,
            started_at=iso_time(context.clock.now_ms()),
            owner=owner(context.id, submission.target),
            **{named: submission.target},
        )

    def _announce_end(self, emitter: Emitter, error: str | None) -> None:
        info = None if error is None else error_info(error)
        milliseconds = round((self._context.clock.monotonic() - self._started) * 1000)
        emitter.emit(self._context.scope, RunEnd, info is not None, milliseconds, None, info)

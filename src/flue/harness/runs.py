"""Runs: one call of a workflow's `run(ctx)`, or of a function agent's, between `run_start` and `run_end`."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from flue.errors import OperationError
from flue.events import ErrorInfo, Idle, RunEnd, RunResume, RunStart, iso_time
from flue.harness.call import cancellations
from flue.harness.context import FlueContext
from flue.harness.json_values import json_result
from flue.messages import Json

Run = Callable[[FlueContext], Any]


async def run_workflow(
    context: FlueContext, run: Run, *, name: str, restarted_from: str | None = None, resumed: bool = False
) -> Any:
    """Run a workflow's function, sync or async, and return its result as JSON values.

    `run_start` is the first event, `idle` and `run_end` are the last: when the function returns or raises, calls that
    it left running are aborted and every conversation is put in order before the end is announced. What the function
    raised is announced and raised; so is `UsageError` (`invalid_result`) for a result without a JSON form.
    `restarted_from` is the id of the interrupted run that this one repeats. With `resumed` the run has begun before,
    and goes on over its recorded steps: `run_resume` takes the place of `run_start`.
    """
    return await _run(context, run, workflow_owner(context.id, name), resumed, restarted_from, workflow_name=name)


async def run_agent(
    context: FlueContext, run: Run, *, name: str, restarted_from: str | None = None, resumed: bool = False
) -> Any:
    """Run a function agent for one request, as `run_workflow` does; the context is that of the agent's instance."""
    return await _run(context, run, agent_owner(context.id, name), resumed, restarted_from, agent_name=name)


def workflow_owner(run_id: str, name: str) -> Json:
    """Return whose a workflow's run is, as events and records say it."""
    return {"kind": "workflow", "workflowName": name, "instanceId": run_id}


def agent_owner(instance: str, name: str) -> Json:
    """Return whose a function agent's run is, as events and records say it."""
    return {"kind": "agent", "agentName": name, "instanceId": instance}


async def _run(
    context: FlueContext, run: Run, owner: Json, resumed: bool, restarted_from: str | None, **name: str
) -> Any:
    clock, emit, scope = context.clock, context.emitter.emit, context.scope
    started = clock.monotonic()
    begun = iso_time(clock.now_ms())
    start = replace(scope, instance_id=context.id)
    if resumed:
        emit(start, RunResume, started_at=begun, owner=owner, **name)
    else:
        more = {"restarted_from_run_id": restarted_from, **name}
        emit(start, RunStart, started_at=begun, payload=context.payload, owner=owner, **more)
    result: Any = None
    failure: BaseException | None = None
    try:
        result = await _settled(context, run)
    except BaseException as error:
        failure = error
        raise
    finally:
        milliseconds = round((clock.monotonic() - started) * 1000)
        info = None if failure is None else _describe(failure)
        if context.emitter.last != Idle.type:  # a run's last event but one, also where no session did anything
            emit(scope, Idle)
        emit(scope, RunEnd, failure is not None, milliseconds, result, info)
    return result


async def _settled(context: FlueContext, run: Run) -> Any:
    before = cancellations()
    try:
        value = run(context)
        return json_result(await value if inspect.isawaitable(value) else value)
    except asyncio.CancelledError:
        if cancellations() > before:
            raise
        # Nobody ended the run: the function awaited something that was cancelled, and let that out.
        raise OperationError("The run was cancelled by its own code.") from None
    finally:
        # Calls that nobody awaited would announce themselves after the end.
        await context.close()


def _describe(error: BaseException) -> ErrorInfo:
    if isinstance(error, asyncio.CancelledError):
        return ErrorInfo("AbortError", "The run was aborted.")
    return ErrorInfo.of(error)

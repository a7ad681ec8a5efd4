"""Runs: one call of a workflow's `run(ctx)`, or of a function agent's, between `run_start` and `run_end`."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from flue.events import ErrorInfo, RunEnd, RunStart, iso_time
from flue.harness.context import FlueContext
from flue.harness.json_values import json_result
from flue.messages import Json

Run = Callable[[FlueContext], Any]


async def run_workflow(context: FlueContext, run: Run, *, name: str, restarted_from: str | None = None) -> Any:
    """Run a workflow's function, sync or async, and return its result as JSON values.

    `run_start` is the first event and `run_end` the last: when the function returns or raises, calls that it left
    running are aborted and every conversation is put in order before the end is announced. What the function raised is
    announced and raised; so is `UsageError` (`invalid_result`) for a result without a JSON form. `restarted_from` is
    the id of the interrupted run that this one repeats.
    """
    owner = {"kind": "workflow", "workflowName": name, "instanceId": context.id}
    return await _run(context, run, owner, workflow_name=name, restarted_from_run_id=restarted_from)


async def run_agent(context: FlueContext, run: Run, *, name: str) -> Any:
    """Run a function agent for one request, as `run_workflow` does; the context is that of the agent's instance."""
    owner = {"kind": "agent", "agentName": name, "instanceId": context.id}
    return await _run(context, run, owner, agent_name=name)


async def _run(context: FlueContext, run: Run, owner: Json, **more: Any) -> Any:
    clock, emit, scope = context.clock, context.emitter.emit, context.scope
    started = clock.monotonic()
    begun = iso_time(clock.now_ms())
    start = replace(scope, instance_id=context.id)
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
        emit(scope, RunEnd, failure is not None, milliseconds, result, info)
    return result


async def _settled(context: FlueContext, run: Run) -> Any:
    try:
        value = run(context)
        return json_result(await value if inspect.isawaitable(value) else value)
    finally:
        # Calls that nobody awaited would announce themselves after the end.
        await context.close()


def _describe(error: BaseException) -> ErrorInfo:
    if isinstance(error, asyncio.CancelledError):
        return ErrorInfo("AbortError", "The run was aborted.")
    return ErrorInfo.of(error)

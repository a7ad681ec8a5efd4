"""Durable steps: `ctx.step`, `ctx.sleep` and `ctx.wait_for_event`."""

from __future__ import annotations

import asyncio
import inspect
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from datetime import datetime
from typing import Any

from flue.errors import OperationTimeoutError, UsageError
from flue.harness.attempts import Attempts, Duration, check_name, may_go_better, seconds_of, timeout_of
from flue.harness.call import CallHandle
from flue.harness.json_values import as_json
from flue.harness.operations import inside_operation
from flue.harness.step_log import StepLog
from flue.harness.waits import Waits
from flue.messages import Json
from flue.ports import Clock

LONGEST_SLEEP = 100 * 366 * 86_400.0

_inside: ContextVar[tuple[Steps, ...]] = ContextVar("flue_steps", default=())


class Steps:
    """The steps of one run. `warn` is told of attempts that failed and are made again.

    `calls` gives the calls on sessions that are under way: a run is not given up under them.
    """

    def __init__(
        self,
        log: StepLog,
        clock: Clock,
        *,
        calls: Callable[[], Sequence[CallHandle[Any]]],
        warn: Callable[[str, Json], None],
    ) -> None:
        self._log = log
        self._clock = clock
        self._warn = warn
        self._names: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._waits = Waits(log, clock, calls)
        self._taking = asyncio.Lock()
        self._running: set[CallHandle[Any]] = set()

    async def step(
        self,
        name: str,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        *,
        retries: int,
        delay: Duration,
        backoff: float,
        timeout: Duration | None,
    ) -> Any:
        """See `FlueContext.step`."""
        attempts = Attempts.of(name, fn, retries=retries, delay=delay, backoff=backoff, timeout=timeout)
        key = self._take("step", name)
        recorded = self._log.find(key)
        if recorded is not None:
            return json.loads(recorded)
        with self.busy():
            try:
                body = _encoded(name, await self._run(name, fn, args, attempts))
                await self._log.record(key, body)
            except BaseException:
                self._names.discard(key)
                raise
        return json.loads(body)

    async def sleep(self, duration: Duration | None, until: datetime | None, name: str | None) -> None:
        """See `FlueContext.sleep`."""
        wake_at = self._wake_time(duration, until)
        key = self._number("sleep") if name is None else self._take("sleep", name)
        with self.busy():
            wake_at = await self._recorded_time(key, wake_at)
            while self._clock.now_ms() < wake_at:
                await self._waits.rest(wake_at)

    async def wait_for_event(self, name: str, timeout: Duration | None) -> Any:
        """See `FlueContext.wait_for_event`."""
        check_name(name, "wait_for_event()")
        limit = timeout_of(timeout, f'wait_for_event("{name}")')
        if self in _inside.get() or inside_operation():
            raise UsageError(
                f'wait_for_event("{name}") was called inside a step or a tool.',
                code="wait_in_step",
                hint="A run is given up while it waits: wait in its own function, before or after. "
                "For a tool that needs a person's consent there is approval=.",
            )
        key = self._number(f"event:{name}")
        with self.busy():
            recorded = self._log.find(key)
            if recorded is None:
                recorded = await self._event(key, name, limit)
        outcome = json.loads(recorded)
        if "timedOut" in outcome:
            raise OperationTimeoutError(f'No event "{name}" came within {outcome["timedOut"]:g} s.')
        return outcome["payload"]

    def busy(self) -> AbstractContextManager[None]:
        """Keep the run from being given up inside the block."""
        return self._waits.busy()

    async def close(self) -> None:
        """Abort steps that nobody waits for any more."""
        for call in tuple(self._running):
            call.abort("The run has ended.")
            await call.settle()

    # ------------------------------------------------------------------------------------------------- names

    def _take(self, kind: str, name: str) -> str:
        check_name(name, f"{kind}()")
        key = f"{kind}:{name}"
        if key in self._names:
            raise UsageError(
                f'There is already a {kind} named "{name}" in this run.',
                code="step_exists",
                hint=f'What is recorded is found by its name: give each its own, in a loop f"{name}-{{i}}".',
            )
        self._names.add(key)
        return key

    def _number(self, prefix: str) -> str:
        self._counts[prefix] += 1
        return f"{prefix}#{self._counts[prefix]}"

    # ------------------------------------------------------------------------------------------------ running

    async def _run(self, name: str, fn: Callable[..., Any], args: tuple[Any, ...], attempts: Attempts) -> Any:
        made = 1
        while True:
            try:
                return await CallHandle(
                    self._attempt(fn, args),
                    label=f'Step "{name}"',
                    clock=self._clock,
                    running=self._running,
                    timeout=attempts.timeout,
                )
            except Exception as error:
                if made > attempts.retries or not may_go_better(error):
                    raise
                pause = attempts.pause(made)
                made += 1
                text = f'Step "{name}" failed; attempt {made} of {attempts.retries + 1} begins in {pause:g} s.'
                self._warn(text, {"step": name, "attempt": made, "error": error})
            await self._clock.sleep(pause)

    async def _attempt(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        _inside.set((*_inside.get(), self))
        value = fn(*args)
        return await value if inspect.isawaitable(value) else value

    # ------------------------------------------------------------------------------------------------ waiting

    def _wake_time(self, duration: Duration | None, until: datetime | None) -> int:
        if (duration is None) == (until is None):
            raise UsageError("sleep() takes either a duration or until=, and one of them.", code="invalid_step")
        if duration is not None:
            seconds = seconds_of(duration, "sleep()", "the duration")
            if seconds > LONGEST_SLEEP:
                raise UsageError(f"sleep() cannot wait for {seconds:g} s: that is over a century.", code="invalid_step")
            return self._clock.now_ms() + math.ceil(seconds * 1000)
        if not isinstance(until, datetime) or until.tzinfo is None:
            raise UsageError(
                f"sleep(): until must be a datetime with a time zone, got {until!r}.",
                code="invalid_step",
                hint="Write datetime(2027, 1, 1, 9, tzinfo=ZoneInfo('Europe/Berlin')), for example.",
            )
        return math.ceil(until.timestamp() * 1000)

    async def _recorded_time(self, key: str, time: int) -> int:
        recorded = self._log.find(key)
        if recorded is not None:
            return int(recorded)
        await self._log.record(key, str(time))
        return time

    async def _event(self, key: str, name: str, limit: float | None) -> str:
        deadline = None
        if limit is not None:
            # Kept by itself: a run that begins again must not wait for the whole time again.
            deadline = await self._recorded_time(f"{key}:deadline", self._clock.now_ms() + math.ceil(limit * 1000))
        while True:
            told = self._waits.told
            # One at a time, or two that wait for one name take the same message.
            async with self._taking:
                message = await self._log.find_message(name)
                if message is not None:
                    body = json.dumps({"payload": json.loads(message.body)})
                    await self._log.record(key, body, consumed=message.id)
                    return body
            if deadline is not None and self._clock.now_ms() >= deadline:
                body = json.dumps({"timedOut": limit})
                await self._log.record(key, body)
                return body
            await self._waits.rest(deadline, (name,), told=told)


def _encoded(name: str, value: Any) -> str:
    try:
        return json.dumps(as_json(value))
    except ValueError as error:
        raise UsageError(
            f'The result of step "{name}", of type {type(value).__name__}, cannot be written as JSON: {error}.',
            code="invalid_result",
            hint="Return JSON values, pydantic models or dataclasses.",
        ) from error

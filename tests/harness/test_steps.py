"""Durable steps, sleeps and waits: in one process, and over attempts that begin again."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from flue import FlueContext, create_agent, open_context, tool
from flue.errors import (
    AbortError,
    BudgetExceededError,
    DurabilityError,
    OperationTimeoutError,
    UsageError,
)
from flue.events import Event, Log, Scope
from flue.harness.step_log import StepMessage
from flue.testing import ScriptedModel, SequentialIds, VirtualClock, call, hang
from tests.harness.memory_sandbox import MemorySandbox
from tests.harness.scene import until

Body = Callable[[FlueContext], Awaitable[Any]]


class Parked(BaseException):
    """The attempt was given up."""


@dataclass
class Park:
    """What a run was given up for."""

    wake_at: int | None
    names: tuple[str, ...]


class Lineage:
    """An engine as a run sees it: it records, and gives attempts up to begin them again. It is its own `StepLog`.

    Time goes by itself, except `by_hand`.
    """

    def __init__(self, *, by_hand: bool = False) -> None:
        self.clock = VirtualClock(auto=not by_hand)
        self.recorded: dict[str, str] = {}
        self.writes: list[tuple[str, str | None]] = []
        self.messages: dict[str, tuple[str, str]] = {}
        self.parks: list[Park] = []
        self.events: list[Event] = []
        self.closed: list[FlueContext] = []
        self.came: Callable[[], None] = lambda: None
        self.waits: Callable[[], bool] = lambda: False
        self.write_errors: deque[Exception] = deque()
        self._task: asyncio.Task[Any] | None = None
        self._park: Park | None = None

    # ------------------------------------------------------------------------------------------ StepLog

    def find(self, name: str) -> str | None:
        return self.recorded.get(name)

    async def record(self, name: str, body: str, *, consumed: str | None = None) -> None:
        await asyncio.sleep(0)
        if self.write_errors:
            raise self.write_errors.popleft()
        assert name not in self.recorded
        self.recorded[name] = body
        self.writes.append((name, consumed))
        if consumed is not None:
            del self.messages[consumed]

    async def find_message(self, name: str) -> StepMessage | None:
        await asyncio.sleep(0)
        found = [StepMessage(id, body) for id, (of, body) in self.messages.items() if of == name]
        return found[0] if found else None

    def listen(self, came: Callable[[], None], waits: Callable[[], bool]) -> None:
        self.came, self.waits = came, waits

    async def suspend(self, wake_at: int | None, names: Sequence[str]) -> None:
        if any(of in names for of, _ in self.messages.values()):
            return
        assert self._task is not None
        self._park = Park(wake_at, tuple(names))
        self._task.cancel()
        await asyncio.get_running_loop().create_future()

    # ------------------------------------------------------------------------------------------- engine

    def send(self, name: str, payload: Any = None) -> None:
        self.messages[f"m{len(self.messages) + len(self.writes)}"] = (name, json.dumps(payload))

    async def attempt(self, body: Body) -> Any:
        """Run the body once. Raises `Parked` when it is given up."""
        async with self.opened() as context:
            self._task = asyncio.ensure_future(body(context))
            try:
                return await self._task
            except asyncio.CancelledError:
                park, self._park = self._park, None
                if park is None:
                    raise
                self.parks.append(park)
                raise Parked from None

    async def finish(self, body: Body) -> Any:
        """Run the body to its end; when it is given up, let the time come for which it waits."""
        while True:
            try:
                return await self.attempt(body)
            except Parked:
                wake_at = self.parks[-1].wake_at
                assert wake_at is not None, "it waits for a message that nobody sends"
                await self.clock.advance((wake_at - self.clock.now_ms()) / 1000)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[FlueContext]:
        async with open_context(clock=self.clock, ids=SequentialIds(), env={}) as host:
            context = FlueContext(
                id="run2",
                payload={},
                env={},
                runtime=host._runtime,
                scope=Scope(run_id="run2"),
                sinks=(self.events.append,),
                steps=self,
                lineage_id="run1",
            )
            yield context
            await context.close()
            self.closed.append(context)

    @property
    def warnings(self) -> list[str]:
        return [event.message for event in self.events if isinstance(event, Log) and event.level == "warn"]


@pytest.fixture
def lineage() -> Lineage:
    return Lineage()


@pytest.fixture
async def context() -> AsyncIterator[FlueContext]:
    async with open_context(workflow="w", clock=VirtualClock(auto=True), ids=SequentialIds(), env={}) as context:
        yield context


class Flaky:
    """A function that fails with each of the errors, then returns what it was called with."""

    def __init__(self, *errors: BaseException) -> None:
        self._errors = list(errors)
        self.calls = 0

    async def __call__(self, *args: Any) -> list[Any]:
        self.calls += 1
        if self._errors:
            raise self._errors.pop(0)
        return list(args)


class City(BaseModel):
    name: str


# ------------------------------------------------------------------------------------------------------ steps


async def test_a_step_is_run_once_and_its_recorded_result_returned_in_every_later_attempt(lineage: Lineage) -> None:
    fetch = Flaky()

    async def body(ctx: FlueContext) -> Any:
        return await ctx.step("fetch", fetch, 1, "two")

    assert [await lineage.attempt(body) for _ in range(3)] == [[1, "two"]] * 3
    assert fetch.calls == 1
    assert lineage.recorded == {"step:fetch": '[1, "two"]'}


async def test_a_step_takes_plain_functions_and_whatever_can_be_awaited(context: FlueContext) -> None:
    async def agent() -> str:
        harness = await context.init(create_agent(model=ScriptedModel(["hello"])))
        session = await harness.session()
        return (await context.step("ask", lambda: session.prompt("hi")))["text"]  # type: ignore[no-any-return]

    assert await context.step("plain", max, 1, 2) == 2
    assert await context.step("agent", agent) == "hello"


async def test_the_first_result_has_the_same_form_as_the_recorded_one(lineage: Lineage) -> None:
    async def body(ctx: FlueContext) -> Any:
        return await ctx.step("city", lambda: (City(name="Ulm"), datetime(2026, 1, 1, tzinfo=UTC), {1}))

    assert [await lineage.attempt(body) for _ in range(2)] == [[{"name": "Ulm"}, "2026-01-01T00:00:00Z", [1]]] * 2


async def test_a_step_that_returns_nothing_is_recorded_all_the_same(lineage: Lineage) -> None:
    calls: list[int] = []

    async def body(ctx: FlueContext) -> Any:
        return await ctx.step("note", calls.append, 1)

    assert [await lineage.attempt(body) for _ in range(2)] == [None, None]
    assert calls == [1]


async def test_a_result_without_a_json_form_is_refused_and_names_the_step(lineage: Lineage) -> None:
    open_file = Flaky()

    async def body(ctx: FlueContext) -> Any:
        return await ctx.step("open", object, retries=3)

    with pytest.raises(UsageError, match='The result of step "open", of type object') as error:
        await lineage.attempt(body)
    assert error.value.code == "invalid_result"
    assert (lineage.recorded, lineage.warnings, open_file.calls) == ({}, [], 0)


async def test_a_second_step_of_the_same_name_in_one_run_is_refused(context: FlueContext) -> None:
    await context.step("fetch", str)
    with pytest.raises(UsageError, match='already a step named "fetch"') as error:
        await context.step("fetch", str)
    assert error.value.code == "step_exists"
    await context.sleep(0, name="fetch")
    with pytest.raises(UsageError, match='already a sleep named "fetch"'):
        await context.sleep(0, name="fetch")


async def test_two_steps_of_one_name_at_the_same_time_are_refused_too(context: FlueContext) -> None:
    fetch = Flaky()
    results = await asyncio.gather(context.step("fetch", fetch), context.step("fetch", fetch), return_exceptions=True)
    assert results[0] == []
    assert isinstance(results[1], UsageError)
    assert fetch.calls == 1


async def test_a_loop_names_its_steps_by_number(lineage: Lineage) -> None:
    fetch = Flaky()

    async def body(ctx: FlueContext) -> Any:
        return [await ctx.step(f"fetch-{i}", fetch, i) for i in range(3)]

    assert [await lineage.attempt(body) for _ in range(2)] == [[[0], [1], [2]]] * 2
    assert fetch.calls == 3


async def test_a_failure_is_raised_not_recorded_and_the_step_may_be_called_again(lineage: Lineage) -> None:
    fetch = Flaky(OSError("down"))

    async def body(ctx: FlueContext) -> Any:
        try:
            return await ctx.step("fetch", fetch)
        except OSError:
            assert lineage.recorded == {}
            return await ctx.step("fetch", fetch, "again")

    assert await lineage.attempt(body) == ["again"]


async def test_a_step_whose_record_cannot_be_written_has_not_happened(lineage: Lineage) -> None:
    fetch = Flaky()
    lineage.write_errors.append(DurabilityError("lost", code="attempt_lost"))

    async def body(ctx: FlueContext) -> Any:
        return await ctx.step("fetch", fetch, retries=5)

    with pytest.raises(DurabilityError, match="lost"):
        await lineage.attempt(body)
    assert await lineage.attempt(body) == []
    assert fetch.calls == 2


# ---------------------------------------------------------------------------------------------------- retries


async def test_a_failed_step_is_tried_again_after_growing_pauses() -> None:
    lineage = Lineage(by_hand=True)
    fetch = Flaky(OSError("one"), OSError("two"), OSError("three"))

    async def body(ctx: FlueContext) -> Any:
        return await ctx.step("fetch", fetch, retries=3, delay=timedelta(seconds=2), backoff=3)

    running = asyncio.ensure_future(lineage.attempt(body))
    for pause in (2, 6, 18):
        calls = fetch.calls
        await lineage.clock.advance(pause - 0.001)
        assert fetch.calls == max(calls, 1)
        await lineage.clock.advance(0.001)
    assert await running == []
    assert fetch.calls == 4
    assert lineage.warnings == [
        f'Step "fetch" failed; attempt {number} of 4 begins in {pause} s.'
        for number, pause in [(2, 2), (3, 6), (4, 18)]
    ]


async def test_after_the_last_attempt_its_error_is_raised(context: FlueContext) -> None:
    fetch = Flaky(OSError("one"), OSError("two"), OSError("three"))
    with pytest.raises(OSError, match="two"):
        await context.step("fetch", fetch, retries=1)
    assert fetch.calls == 2


async def test_no_pause_is_longer_than_an_hour(context: FlueContext) -> None:
    fetch = Flaky(*(OSError(str(number)) for number in range(4)))
    began = context.clock.monotonic()
    await context.step("fetch", fetch, retries=4, delay=1000, backoff=1e308)
    assert context.clock.monotonic() - began == 1000 + 3 * 3600


@pytest.mark.parametrize(
    "error",
    [
        UsageError("wrong"),
        AbortError("enough"),
        BudgetExceededError("call", "turns", spent=2, limit=1),
        DurabilityError("lost", code="attempt_lost"),
    ],
    ids=lambda error: error.code,
)
async def test_what_cannot_go_better_is_not_tried_again(error: Exception, context: FlueContext) -> None:
    fetch = Flaky(error)
    with pytest.raises(type(error)):
        await context.step("fetch", fetch, retries=5)
    assert fetch.calls == 1


async def test_a_timeout_ends_an_attempt_and_the_next_one_has_the_whole_time_again(context: FlueContext) -> None:
    calls: list[float] = []

    async def slow() -> str:
        calls.append(context.clock.monotonic())
        await context.clock.sleep(9 if len(calls) < 3 else 4)
        return "done"

    assert await context.step("slow", slow, retries=2, timeout=5, delay=1, backoff=1) == "done"
    assert [call - calls[0] for call in calls] == [0, 6, 12]


async def test_a_timeout_without_retries_left_names_the_step(context: FlueContext) -> None:
    with pytest.raises(OperationTimeoutError, match=r'Step "slow" did not finish within 5 s'):
        await context.step("slow", context.clock.sleep, 9, timeout=timedelta(seconds=5))


async def test_a_timeout_aborts_the_prompt_of_the_step_in_good_order(context: FlueContext) -> None:
    harness = await context.init(create_agent(model=ScriptedModel([["some", hang()], "all"])))
    session = await harness.session()
    reply = await context.step("ask", lambda: session.prompt("hi"), retries=1, timeout=5)
    assert reply["text"] == "all"


async def test_cancelling_who_awaits_a_step_ends_it(context: FlueContext) -> None:
    ended = asyncio.Event()

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    step = asyncio.ensure_future(context.step("slow", slow))
    await until(lambda: not ended.is_set())
    for _ in range(3):
        await asyncio.sleep(0)
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step
    assert ended.is_set()


async def test_a_step_that_nobody_awaits_ends_with_the_context(lineage: Lineage) -> None:
    ended = asyncio.Event()

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def body(ctx: FlueContext) -> None:
        task = asyncio.ensure_future(ctx.step("slow", slow))
        task.add_done_callback(lambda task: task.exception())
        for _ in range(3):
            await asyncio.sleep(0)

    await lineage.attempt(body)
    assert ended.is_set()


# --------------------------------------------------------------------------------------------------- sleeping


async def test_a_sleep_without_an_engine_waits_in_the_process(context: FlueContext) -> None:
    began = context.clock.now_ms()
    await context.sleep(90)
    await context.sleep("1h")
    await context.sleep(timedelta(days=1))
    await context.sleep(until=datetime(2026, 2, 1, tzinfo=UTC))
    assert context.clock.now_ms() == 1_769_904_000_000 > began
    await context.sleep(until=datetime(2026, 1, 1, tzinfo=UTC))
    assert context.clock.now_ms() == 1_769_904_000_000


async def test_a_long_sleep_gives_the_run_up_and_the_next_attempt_waits_only_for_the_rest(lineage: Lineage) -> None:
    async def body(ctx: FlueContext) -> int:
        await ctx.sleep(3600)
        return ctx.clock.now_ms()

    began = lineage.clock.now_ms()
    with pytest.raises(Parked):
        await lineage.attempt(body)
    assert lineage.parks == [Park(began + 3_600_000, ())]
    await lineage.clock.advance(3000)  # the process was restarted, too early
    with pytest.raises(Parked):
        await lineage.attempt(body)
    assert lineage.parks[1] == lineage.parks[0]
    await lineage.clock.advance(7000)
    assert await lineage.attempt(body) == began + 10_000_000 + 2 * 500


async def test_a_short_sleep_keeps_the_run() -> None:
    lineage = Lineage(by_hand=True)

    async def body(ctx: FlueContext) -> None:
        await ctx.sleep(5)

    running = asyncio.ensure_future(lineage.attempt(body))
    await lineage.clock.advance(4.999)
    assert not running.done()
    await lineage.clock.advance(0.001)
    await running
    assert lineage.parks == []
    assert lineage.recorded.keys() == {"sleep#1"}


async def test_sleeps_without_a_name_are_told_apart_by_their_order(lineage: Lineage) -> None:
    async def body(ctx: FlueContext) -> int:
        await ctx.sleep(60)
        await ctx.sleep(60, name="lunch")
        await ctx.sleep(60)
        return ctx.clock.now_ms()

    began = lineage.clock.now_ms()
    assert await lineage.finish(body) == began + 180_000
    assert list(lineage.recorded) == ["sleep#1", "sleep:lunch", "sleep#2"]


async def test_cleanup_code_runs_when_a_run_is_given_up(lineage: Lineage) -> None:
    cleaned: list[bool] = []

    async def body(ctx: FlueContext) -> None:
        try:
            await ctx.sleep(3600)
        finally:
            cleaned.append(True)

    with pytest.raises(Parked):
        await lineage.attempt(body)
    assert cleaned == [True]


async def test_a_run_is_not_given_up_while_one_of_its_steps_works(lineage: Lineage) -> None:
    calls: list[int] = []

    async def work() -> str:
        calls.append(1)
        await lineage.clock.sleep(600)
        return "worked"

    async def body(ctx: FlueContext) -> Any:
        return (await asyncio.gather(ctx.sleep(3600), ctx.step("work", work)))[1]

    began = lineage.clock.now_ms()
    with pytest.raises(Parked):
        await lineage.attempt(body)
    assert lineage.clock.now_ms() == began + 600_500
    assert lineage.recorded["step:work"] == '"worked"'
    assert await lineage.finish(body) == "worked"
    assert calls == [1]


async def test_a_run_is_not_given_up_under_a_prompt_or_while_an_agent_is_made_ready(lineage: Lineage) -> None:
    async def sandbox() -> Any:
        await lineage.clock.sleep(10)
        return MemorySandbox()

    async def body(ctx: FlueContext) -> Any:
        waiting = asyncio.ensure_future(ctx.wait_for_event("go", timeout=3600))
        harness = await ctx.init(create_agent(model=ScriptedModel(["first", "second"]), sandbox=sandbox))
        session = await harness.session()
        replies = [(await session.prompt(text)).text for text in ("one", "two")]
        await ctx.step("told", lambda: replies)
        return await waiting

    with pytest.raises(Parked):
        await lineage.attempt(body)
    assert lineage.recorded["step:told"] == '["first", "second"]'


async def test_a_run_is_not_given_up_in_the_moment_between_two_prompts_or_steps(lineage: Lineage) -> None:
    async def slowly(_request: object) -> str:
        await lineage.clock.sleep(2)
        return "ok"

    async def body(ctx: FlueContext) -> Any:
        waiting = asyncio.ensure_future(ctx.wait_for_event("go", timeout=3600))
        harness = await ctx.init(create_agent(model=ScriptedModel([slowly, slowly])))
        session = await harness.session()
        for _ in range(2):
            await session.prompt("hi")
            await ctx.clock.sleep(0.3)
        for number in range(2):
            await ctx.step(f"work-{number}", ctx.clock.sleep, 2)
            await ctx.clock.sleep(0.3)
        return await waiting

    with pytest.raises(Parked):
        await lineage.attempt(body)
    assert lineage.recorded.keys() >= {"step:work-0", "step:work-1"}
    assert lineage.clock.monotonic() == pytest.approx(4 * 2.3 + 0.2)


async def test_a_run_is_not_given_up_while_what_it_waited_for_is_recorded(lineage: Lineage) -> None:
    at_once = lineage.record

    async def record(name: str, body: str, *, consumed: str | None = None) -> None:
        await lineage.clock.sleep(1)
        await at_once(name, body, consumed=consumed)

    async def body(ctx: FlueContext) -> None:
        await ctx.wait_for_event("go", timeout=1.2)

    lineage.record = record  # type: ignore[method-assign]
    with pytest.raises(OperationTimeoutError):
        await lineage.attempt(body)
    assert lineage.parks == []


async def test_code_of_the_runs_own_beside_a_long_wait_is_cancelled(lineage: Lineage) -> None:
    async def body(ctx: FlueContext) -> Any:
        return await asyncio.gather(ctx.sleep(3600), ctx.clock.sleep(60))

    with pytest.raises(Parked):
        await lineage.attempt(body)
    assert lineage.clock.monotonic() == 0.5


async def test_a_sleep_beside_a_step_ends_in_time(lineage: Lineage) -> None:
    async def body(ctx: FlueContext) -> list[str]:
        order: list[str] = []

        async def note(name: str, work: Awaitable[Any]) -> None:
            await work
            order.append(name)

        long = ctx.step("work", ctx.clock.sleep, 100)
        await asyncio.gather(note("sleep", ctx.sleep(30)), note("work", long))
        return order

    running = asyncio.ensure_future(lineage.attempt(body))
    await lineage.clock.advance(100)
    assert await running == ["sleep", "work"]
    assert lineage.parks == []


async def test_a_run_that_sleeps_twice_at_once_is_given_up_for_the_shorter(lineage: Lineage) -> None:
    async def body(ctx: FlueContext) -> int:
        await asyncio.gather(ctx.sleep(60), ctx.sleep(30), ctx.sleep(90))
        return ctx.clock.now_ms()

    began = lineage.clock.now_ms()
    assert await lineage.finish(body) == began + 90_000
    assert [park.wake_at for park in lineage.parks] == [began + 30_000, began + 60_000, began + 90_000]


async def test_a_sleep_that_is_cancelled_does_not_hold_the_others(lineage: Lineage) -> None:
    async def body(ctx: FlueContext) -> Any:
        long = asyncio.ensure_future(ctx.sleep(3600))
        await ctx.step("first", asyncio.sleep, 0)
        long.cancel()
        return await ctx.step("second", lambda: "done")

    assert await lineage.attempt(body) == "done"
    assert lineage.parks == []


# --------------------------------------------------------------------------------------------------- waiting


async def wait_for_go(ctx: FlueContext) -> Any:
    return await ctx.wait_for_event("go")


async def test_an_event_that_came_before_is_taken_at_once(lineage: Lineage) -> None:
    lineage.send("go", {"by": "Ada"})
    assert await lineage.attempt(wait_for_go) == {"by": "Ada"}
    assert lineage.parks == []


async def test_a_run_that_waits_for_an_event_is_given_up_and_goes_on_with_it(lineage: Lineage) -> None:
    with pytest.raises(Parked):
        await lineage.attempt(wait_for_go)
    assert lineage.parks == [Park(None, ("go",))]
    lineage.send("other", 1)
    lineage.send("go", 2)
    assert await lineage.attempt(wait_for_go) == 2
    assert [of for of, _ in lineage.messages.values()] == ["other"]


async def test_an_event_is_consumed_with_its_record_and_found_there_afterwards(lineage: Lineage) -> None:
    lineage.send("go", "first")
    assert await lineage.attempt(wait_for_go) == "first"
    assert lineage.writes == [("event:go#1", "m0")]
    lineage.send("go", "second")
    assert await lineage.attempt(wait_for_go) == "first"


async def test_waiting_again_takes_the_next_event(lineage: Lineage) -> None:
    async def body(ctx: FlueContext) -> Any:
        return [await ctx.wait_for_event("go"), await ctx.wait_for_event("go")]

    lineage.send("go", 1)
    with pytest.raises(Parked):
        await lineage.attempt(body)
    lineage.send("go", 2)
    assert await lineage.attempt(body) == [1, 2]


async def test_two_that_wait_at_once_take_one_event_each(lineage: Lineage) -> None:
    async def body(ctx: FlueContext) -> Any:
        return await asyncio.gather(ctx.wait_for_event("go"), ctx.wait_for_event("go"))

    lineage.send("go", 1)
    lineage.send("go", 2)
    assert await lineage.attempt(body) == [1, 2]
    assert lineage.messages == {}


async def test_a_run_that_waits_for_several_things_is_given_up_for_whichever_comes_first(lineage: Lineage) -> None:
    async def body(ctx: FlueContext) -> Any:
        await asyncio.gather(ctx.wait_for_event("b", timeout=60), ctx.wait_for_event("a"), ctx.sleep(300))

    began = lineage.clock.now_ms()
    with pytest.raises(Parked):
        await lineage.attempt(body)
    assert lineage.parks == [Park(began + 60_000, ("a", "b"))]


async def test_an_event_that_comes_while_the_run_is_being_given_up_is_not_missed(lineage: Lineage) -> None:
    looked = lineage.find_message

    async def find_message(name: str) -> StepMessage | None:
        found = await looked(name)
        if found is None:
            lineage.send("go", "late")
        return found

    lineage.find_message = find_message  # type: ignore[method-assign]
    assert await lineage.attempt(wait_for_go) == "late"
    assert lineage.parks == []


async def wait_beside_a_step(ctx: FlueContext) -> Any:
    """Wait for an event beside a step that goes on until it is there."""
    heard = asyncio.Event()

    async def wait() -> Any:
        payload = await ctx.wait_for_event("go")
        heard.set()
        return payload

    return await asyncio.gather(wait(), ctx.step("other", heard.wait))


async def test_a_run_that_does_something_else_meanwhile_hears_at_once_of_an_event(lineage: Lineage) -> None:
    """The step goes on until the event is there: a run that waits beside one is not given up."""
    running = asyncio.create_task(lineage.attempt(wait_beside_a_step))
    while not lineage.waits():  # noqa: ASYNC110 - nobody is told when a run begins to wait
        await asyncio.sleep(0)
    lineage.send("go", "now")
    lineage.came()
    assert await running == ["now", True]
    assert not lineage.waits()


async def test_an_event_is_not_missed_that_is_told_of_between_looking_and_waiting(lineage: Lineage) -> None:
    looked = lineage.find_message

    async def find_message(name: str) -> StepMessage | None:
        found = await looked(name)
        if found is None:
            lineage.send("go", "between")
            lineage.came()
        return found

    lineage.find_message = find_message  # type: ignore[method-assign]
    assert await lineage.attempt(wait_beside_a_step) == ["between", True]


async def test_a_wait_that_timed_out_times_out_in_every_later_attempt(lineage: Lineage) -> None:
    async def body(ctx: FlueContext) -> str:
        try:
            return f"got {await ctx.wait_for_event('go', timeout=timedelta(minutes=1))}"
        except TimeoutError as error:
            return str(error)

    began = lineage.clock.now_ms()
    assert await lineage.finish(body) == 'No event "go" came within 60 s.'
    assert lineage.parks == [Park(began + 60_000, ("go",))]
    lineage.send("go", "too late")
    assert await lineage.attempt(body) == 'No event "go" came within 60 s.'


async def test_the_time_to_wait_counts_from_the_first_attempt(lineage: Lineage) -> None:
    async def body(ctx: FlueContext) -> Any:
        return await ctx.wait_for_event("go", 60)

    began = lineage.clock.now_ms()
    for _ in range(2):
        with pytest.raises(Parked):
            await lineage.attempt(body)
        await lineage.clock.advance(30)
    assert [park.wake_at for park in lineage.parks] == [began + 60_000] * 2
    with pytest.raises(OperationTimeoutError):
        await lineage.attempt(body)


async def test_an_event_that_came_in_time_is_taken_however_late_the_run_begins_again(lineage: Lineage) -> None:
    async def body(ctx: FlueContext) -> Any:
        return await ctx.wait_for_event("go", 60)

    with pytest.raises(Parked):
        await lineage.attempt(body)
    lineage.send("go", "in time")
    await lineage.clock.advance(3600)
    assert await lineage.attempt(body) == "in time"


async def test_waiting_inside_a_step_is_refused(lineage: Lineage) -> None:
    async def body(ctx: FlueContext) -> Any:
        async def deeper() -> Any:
            return await asyncio.gather(ctx.wait_for_event("go"))

        return await ctx.step("wait", deeper)

    with pytest.raises(UsageError) as error:
        await lineage.attempt(body)
    assert error.value.code == "wait_in_step"


async def test_waiting_inside_a_tool_is_refused(lineage: Lineage) -> None:
    async def body(ctx: FlueContext) -> Any:
        @tool
        async def ask_boss() -> str:
            """Ask."""
            return str(await ctx.wait_for_event("go"))

        model = ScriptedModel([call("ask_boss", {}), lambda request: str(request.messages[-1])])
        harness = await ctx.init(create_agent(model=model, tools=[ask_boss]))
        session = await harness.session()
        return (await session.prompt("hi")).text

    assert "was called inside a step or a tool" in await lineage.attempt(body)


async def test_without_a_server_no_event_can_come(context: FlueContext) -> None:
    with pytest.raises(UsageError, match='the event "go"') as error:
        await context.wait_for_event("go", timeout=1)
    assert error.value.code == "needs_server"


async def test_what_fails_when_a_run_is_given_up_is_raised_where_it_waits(lineage: Lineage) -> None:
    async def suspend(wake_at: int | None, names: Sequence[str]) -> None:
        raise DurabilityError("lost", code="attempt_lost")

    lineage.suspend = suspend  # type: ignore[method-assign]

    async def body(ctx: FlueContext) -> None:
        await ctx.sleep(3600)

    with pytest.raises(DurabilityError, match="lost"):
        await lineage.attempt(body)


# -------------------------------------------------------------------------------------------------- the rest


async def test_the_lineage_is_the_first_run_of_the_chain(lineage: Lineage, context: FlueContext) -> None:
    async def body(ctx: FlueContext) -> Any:
        return ctx.id, ctx.lineage_id

    assert await lineage.attempt(body) == ("run2", "run1")
    assert context.lineage_id == context.id
    async with open_context(agent="a", run_id="run_7", id="i1") as of_an_agent:
        assert of_an_agent.lineage_id == "run_7"


WRONG: dict[str, tuple[Callable[[FlueContext], Awaitable[Any]], str]] = {
    "no name": (lambda ctx: ctx.step(" ", str), "invalid_step"),
    "a name that is no text": (lambda ctx: ctx.step(str, "x"), "invalid_step"),  # type: ignore[arg-type]
    "a name with half a surrogate pair": (lambda ctx: ctx.step("\ud83d", str), "invalid_step"),
    "a name too long": (lambda ctx: ctx.step("x" * 201, str), "invalid_step"),
    "no function": (lambda ctx: ctx.step("a", 1), "invalid_step"),  # type: ignore[arg-type]
    "retries": (lambda ctx: ctx.step("a", str, retries=-1), "invalid_step"),
    "retries that are no number": (lambda ctx: ctx.step("a", str, retries=True), "invalid_step"),
    "delay": (lambda ctx: ctx.step("a", str, delay=-1), "invalid_step"),
    "delay that is no time": (lambda ctx: ctx.step("a", str, delay="1"), "invalid_step"),
    "backoff": (lambda ctx: ctx.step("a", str, backoff=0.5), "invalid_step"),
    "backoff without end": (lambda ctx: ctx.step("a", str, backoff=float("inf")), "invalid_step"),
    "timeout": (lambda ctx: ctx.step("a", str, timeout=0), "invalid_timeout"),
    "sleep": (lambda ctx: ctx.sleep(), "invalid_step"),
    "sleep twice": (lambda ctx: ctx.sleep(1, until=datetime(2026, 1, 1, tzinfo=UTC)), "invalid_step"),
    "sleep backwards": (lambda ctx: ctx.sleep(-1), "invalid_step"),
    "sleep of no length": (lambda ctx: ctx.sleep(float("nan")), "invalid_step"),
    "sleep too long": (lambda ctx: ctx.sleep(1e10), "invalid_step"),
    "sleep for nothing": (lambda ctx: ctx.sleep("soon"), "invalid_step"),
    "sleep until no time": (lambda ctx: ctx.sleep(until="noon"), "invalid_step"),  # type: ignore[arg-type]
    "sleep until nowhere": (lambda ctx: ctx.sleep(until=datetime(2026, 1, 1)), "invalid_step"),  # noqa: DTZ001
    "sleep without a name": (lambda ctx: ctx.sleep(1, name=""), "invalid_step"),
    "wait for nothing": (lambda ctx: ctx.wait_for_event(""), "invalid_step"),
    "wait for no time": (lambda ctx: ctx.wait_for_event("go", -1), "invalid_timeout"),
}


@pytest.mark.parametrize(("wrong", "code"), WRONG.values(), ids=WRONG.keys())
async def test_what_is_wrong_with_the_arguments_is_said_before_anything_runs(
    wrong: Callable[[FlueContext], Awaitable[Any]], code: str, lineage: Lineage
) -> None:
    with pytest.raises(UsageError) as error:
        await lineage.attempt(wrong)
    assert error.value.code == code
    assert lineage.writes == []

"""What only blocking code can do: use threads, be interrupted, forget to close."""

from __future__ import annotations

import asyncio
import gc
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_type

import pytest
from pydantic import BaseModel

from flue import (
    AbortError,
    PromptResponse,
    ResultResponse,
    SyncContext,
    SyncSession,
    create_agent,
    open_context_sync,
    tool,
)
from flue.errors import FlueError, UsageError
from flue.events import Event
from flue.ports import ExecResult
from flue.sync.portal import Portal
from flue.testing import ScriptedModel, call, hang
from tests.harness.scene import assert_sound

WAIT = 5
VARIABLE: ContextVar[str] = ContextVar("variable", default="not set")


@pytest.fixture
def context() -> Iterator[SyncContext]:
    with open_context_sync(id="i1") as context:
        yield context


@pytest.fixture
def ctrl_c() -> Iterator[Callable[[], None]]:
    """Return a function that presses Ctrl-C, from another thread."""
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals reach the main thread only")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    ident = threading.main_thread().ident
    assert ident is not None
    yield lambda: signal.pthread_kill(ident, signal.SIGINT)
    signal.signal(signal.SIGINT, before)


def opened(context: SyncContext, *steps: Any, **config: Any) -> SyncSession:
    return context.init(create_agent(model=ScriptedModel(list(steps)), **config)).session()


class Hanging:
    """A model's answer that never comes; `begun` is set when it is asked for."""

    def __init__(self) -> None:
        self.begun = threading.Event()

    def __call__(self, _request: object) -> Any:
        self.begun.set()
        return ["some", hang()]


def background_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "flue-sync"]


if TYPE_CHECKING:

    class Number(BaseModel):
        value: int

    def types_are_those_of_the_results(session: SyncSession) -> None:
        assert_type(session.prompt("x"), PromptResponse)
        assert_type(session.prompt("x", timeout=3), PromptResponse)
        assert_type(session.prompt("x", result=Number), ResultResponse[Number])
        assert_type(session.prompt("x", result=Number).data.value, int)
        assert_type(session.prompt("x", result={"type": "string"}), ResultResponse[Any])
        assert_type(session.task("x", result=int, agent="a"), ResultResponse[int])
        assert_type(session.resume(), PromptResponse)
        assert_type(session.shell("x"), ExecResult)
        assert_type(session.fs.read_file("x"), str)


def test_a_script_needs_no_loop(context: SyncContext) -> None:
    assert opened(context, "hello").prompt("hi").text == "hello"


async def test_it_works_where_a_loop_is_running_already() -> None:
    with open_context_sync() as context:
        assert opened(context, "hello").prompt("hi").text == "hello"
    await asyncio.sleep(0)


def test_the_front_has_what_the_context_was_opened_with() -> None:
    with open_context_sync(id="i7", payload={"a": 1}, env={"X": "y"}) as context:
        assert (context.id, context.payload, context.env, context.req) == ("i7", {"a": 1}, {"X": "y"}, None)


def test_a_step_may_block_and_use_the_context(context: SyncContext) -> None:
    session = opened(context, "hello")
    assert context.step("greet", lambda: session.prompt("hi").text) == "hello"


def test_what_is_wrong_with_the_arguments_is_raised_where_it_is_opened() -> None:
    with pytest.raises(UsageError, match="must not be empty"):
        open_context_sync(id=" ")
    assert background_threads() == []


def test_sessions_work_at_the_same_time_in_several_threads(context: SyncContext) -> None:
    meeting = threading.Barrier(2)
    both_asked = asyncio.Event()

    async def ask_both(_request: object) -> str:
        model_calls.append(1)
        if len(model_calls) == 2:
            both_asked.set()
        await both_asked.wait()
        return "met"

    model_calls: list[int] = []
    harness = context.init(create_agent(model=ScriptedModel([ask_both, ask_both])))

    def work(name: str) -> str:
        meeting.wait(WAIT)
        return harness.session(name).prompt("x").text

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(work, ["one", "two"])) == ["met", "met"]


def test_another_thread_aborts_a_call_with_a_reason(context: SyncContext) -> None:
    hanging = Hanging()
    session = opened(context, hanging, "again")

    def abort() -> None:
        assert hanging.begun.wait(WAIT)
        session.abort("enough")

    thread = threading.Thread(target=abort)
    thread.start()
    with pytest.raises(AbortError) as caught:
        session.prompt("x")
    thread.join()
    assert caught.value.reason == "enough"
    assert session.prompt("y").text == "again"


def test_another_thread_aborts_a_command_of_the_harness() -> None:
    started = threading.Event()

    def note(event: Event) -> None:
        if event.type == "tool_start":
            started.set()

    def abort() -> None:
        assert started.wait(WAIT)
        harness.abort("enough")

    with open_context_sync(on_event=note) as context:
        harness = context.init(create_agent(model=False))
        thread = threading.Thread(target=abort)
        thread.start()
        with pytest.raises(AbortError):
            harness.shell("sleep 3600")
        thread.join()


def test_aborting_what_is_not_running_does_nothing(context: SyncContext) -> None:
    session = opened(context, "ok")
    session.abort()
    assert session.prompt("x").text == "ok"


def test_another_thread_approves_a_call_that_waits(context: SyncContext) -> None:
    @tool(approval=True)
    def pay(amount: int) -> str:
        """Pay."""
        return f"paid {amount}"

    session = opened(context, call("pay", {"amount": 3}), "done", tools=[pay])
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(session.prompt, "pay")
        while not session.approvals.pending:
            assert not reply.done()
        (waiting,) = session.approvals.pending
        assert session.approve(waiting.tool_call_id).state == "approved"
        assert reply.result(WAIT).text == "done"


def test_steering_from_another_thread_returns_the_answer_of_the_prompt_it_joined(context: SyncContext) -> None:
    begun, steered = threading.Event(), asyncio.Event()

    @tool
    async def wait() -> str:
        """Wait."""
        begun.set()
        await steered.wait()
        return "waited"

    session = opened(context, call("wait"), "with both", tools=[wait])

    with ThreadPoolExecutor(2) as pool:
        reply = pool.submit(session.prompt, "one")
        assert begun.wait(WAIT)
        other = pool.submit(session.steer, "two")
        # Until the message has arrived, the tool must not end.
        while not session._session._loop or not session._session._loop.steering:
            _ = session.approvals.pending
        session._portal.call(lambda: _set(steered))
        assert reply.result(WAIT).text == other.result(WAIT).text == "with both"


async def _set(event: asyncio.Event) -> None:
    event.set()


def test_ctrl_c_aborts_the_call_and_leaves_the_conversation_in_order(
    context: SyncContext, ctrl_c: Callable[[], None]
) -> None:
    hanging = Hanging()
    session = opened(context, hanging, "again")

    def press() -> None:
        assert hanging.begun.wait(WAIT)
        ctrl_c()

    thread = threading.Thread(target=press)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        session.prompt("x")
    thread.join()
    last = list(session._session.history.transcript)[-1]
    assert getattr(last, "stop_reason", "") == "aborted"
    assert session.prompt("y").text == "again"
    assert_sound(list(session._session.history.transcript))


@pytest.mark.parametrize("handed_over", [True, False])
def test_ctrl_c_before_the_wait_begins_aborts_too(
    context: SyncContext, monkeypatch: pytest.MonkeyPatch, *, handed_over: bool
) -> None:
    hanging = Hanging()
    session = opened(context, hanging, "again")
    loop_thread = context._portal._loop_thread
    hand_over = loop_thread.hand_over

    def interrupted(work: Any) -> None:
        if handed_over:
            hand_over(work)
            assert hanging.begun.wait(WAIT)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop_thread, "hand_over", interrupted)
        with pytest.raises(KeyboardInterrupt):
            session.prompt("x")
    assert hanging.begun.is_set() == handed_over
    if handed_over:
        assert session.prompt("y", busy="reject").text == "again"


def test_a_second_ctrl_c_does_not_wait_for_the_abort(context: SyncContext, ctrl_c: Callable[[], None]) -> None:
    begun, aborting = threading.Event(), threading.Event()
    free = asyncio.Event()

    @tool
    async def stubborn() -> str:
        """Take its time."""
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            aborting.set()
            await free.wait()
        return ""

    session = opened(context, call("stubborn"), tools=[stubborn])

    def press_twice() -> None:
        assert begun.wait(WAIT)
        ctrl_c()
        assert aborting.wait(WAIT)
        ctrl_c()

    thread = threading.Thread(target=press_twice)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        session.prompt("x")
    thread.join()
    assert not free.is_set()
    context._portal.call(lambda: _set(free))


def test_context_variables_of_the_caller_reach_its_tools(context: SyncContext) -> None:
    seen: list[str] = []

    @tool
    def look() -> None:
        """Look."""
        seen.append(VARIABLE.get())

    session = opened(context, call("look"), "ok", tools=[look])
    token = VARIABLE.set("mine")
    session.prompt("x")
    VARIABLE.reset(token)
    assert seen == ["mine"]


def test_a_tool_that_blocks_on_its_own_loop_is_told_what_is_wrong(context: SyncContext) -> None:
    codes: list[str] = []

    @tool
    async def nested() -> str:
        """Ask again."""
        try:
            return session.prompt("y").text
        except FlueError as error:
            codes.append(error.code)
            raise

    session = opened(context, call("nested"), "ok", tools=[nested])
    session.prompt("x")
    assert codes == ["sync_in_loop"]


def test_a_tool_may_use_another_session(context: SyncContext) -> None:
    answers: list[str] = []

    @tool
    def ask() -> None:
        """Ask the other."""
        answers.append(harness.session("other").prompt("Who are you?").text)

    model = ScriptedModel([call("ask"), "The other.", "ok"])
    harness = context.init(create_agent(model=model, tools=[ask]))
    assert harness.session().prompt("Ask.").text == "ok"
    assert answers == ["The other."]


def test_a_closed_context_says_so(context: SyncContext) -> None:
    session = opened(context)
    context.close()
    context.close()
    for use in (lambda: session.prompt("x"), lambda: session.fs.exists("x"), session.abort):
        with pytest.raises(UsageError) as caught:
            use()
        assert caught.value.code == "context_closed"
    assert background_threads() == []


def test_closing_ends_what_other_threads_wait_for() -> None:
    hanging = Hanging()
    context = open_context_sync()
    session = opened(context, hanging)
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(session.prompt, "x")
        assert hanging.begun.wait(WAIT)
        context.close()
        assert isinstance(reply.exception(WAIT), AbortError)


def test_a_call_that_is_no_conversations_ends_with_the_context_too() -> None:
    class Slow:
        """A sandbox whose files never come."""

        begun = threading.Event()

        async def stat(self, path: str) -> Any:
            self.begun.set()
            await asyncio.Event().wait()

    context = open_context_sync()
    slow = Slow()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(context._portal.call, lambda: slow.stat("x"))
        assert slow.begun.wait(WAIT)
        context.close()
        assert isinstance(waiting.exception(WAIT), AbortError)


def test_a_context_that_is_forgotten_closes_itself_but_not_while_a_session_is_in_use() -> None:
    session: SyncSession | None = opened(open_context_sync(), "ok")
    gc.collect()
    assert session is not None
    assert session.prompt("x").text == "ok"
    del session
    gc.collect()
    for thread in background_threads():
        thread.join(WAIT)
    assert background_threads() == []


@pytest.mark.e2e
def test_a_script_that_forgets_to_close_ends_and_keeps_its_conversation(tmp_path: Path) -> None:
    program = """
import flue
context = flue.open_context_sync(id="i1", store="conversations.db")
harness = context.init(flue.create_agent(model="demo/librarian"))
session = harness.session()
print(session.prompt(PROMPT).text)
"""
    for prompt, answer in (("My name is Alice.", "Noted"), ("What is my name?", "Alice")):
        source = program.replace("PROMPT", repr(prompt))
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", source], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert answer in done.stdout


def test_an_error_in_the_block_goes_through_and_closes_it() -> None:
    with suppress(LookupError), open_context_sync():
        raise LookupError
    assert background_threads() == []


def test_a_call_that_the_collector_makes_inside_another_does_not_wait_for_it() -> None:
    """A stream that nobody reads any more is closed by a call, whenever Python looks for what nobody knows."""
    closed = threading.Event()

    @asynccontextmanager
    async def nothing() -> AsyncIterator[None]:
        yield

    async def close() -> None:
        closed.set()

    portal = Portal(nothing())

    def stream() -> Iterator[int]:
        try:
            yield 1
        finally:
            portal.call(close)

    class Forgotten:
        """Knows itself, so that only the collector ends it."""

        def __init__(self) -> None:
            self.itself, self.stream = self, stream()
            next(self.stream)

    loop: Any = portal._loop_thread.loop
    hand_over = loop.call_soon_threadsafe

    def collecting(*given: Any) -> Any:
        gc.collect()
        return hand_over(*given)

    gc.disable()
    try:
        Forgotten()
        loop.call_soon_threadsafe = collecting
        calling = threading.Thread(target=portal.call, args=(lambda: asyncio.sleep(0),), daemon=True)
        calling.start()
        assert closed.wait(5)
    finally:
        gc.enable()
        loop.call_soon_threadsafe = hand_over
    portal.close()

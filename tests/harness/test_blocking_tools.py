"""Tools that are not async: they run in threads, and hold nobody else."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
from contextvars import ContextVar
from functools import partial

import pytest

from flue import CallHandle, FlueContext, PromptResponse, Session, tool
from flue.errors import OperationTimeoutError
from flue.events import Log
from flue.messages import ToolResultMessage
from flue.testing import VirtualClock, call, hang
from flue.threads import Threads
from tests.harness.scene import Scene, scene, until

PATIENCE = 10.0  # seconds after which a thread that would wait for ever gives up
VARIABLE: ContextVar[str] = ContextVar("VARIABLE", default="nothing")


def results(s: Scene) -> list[str]:
    return [
        str(message.content[0].to_json()["text"]) for message in s.messages if isinstance(message, ToolResultMessage)
    ]


# DUR-35
async def test_a_tool_that_blocks_holds_nobody_else() -> None:
    begun, end = threading.Event(), threading.Event()

    @tool
    def blocking() -> str:
        """Block."""
        begun.set()
        assert end.wait(PATIENCE)
        return "done"

    async with scene(call("blocking"), "Here I am.", "It is done.", tools=[blocking]) as s:
        slow = s.session.prompt("Block.")
        await until(begun.is_set)
        other = await s.harness.session("other")
        assert (await other.prompt("Are you there?")).text == "Here I am."
        end.set()
        assert (await slow).text == "It is done."


async def test_calls_of_one_answer_block_beside_each_other() -> None:
    together = threading.Barrier(2)

    @tool
    def meet(name: str) -> str:
        """Wait for the other."""
        together.wait(PATIENCE)
        return name

    async with scene([call("meet", {"name": "a"}), call("meet", {"name": "b"})], "ok", tools=[meet]) as s:
        await s.session.prompt("Meet.")
        assert results(s) == ["a", "b"]


async def test_a_prompt_ends_at_its_time_though_a_tool_hangs() -> None:
    begun, end, ended = threading.Event(), threading.Event(), threading.Event()

    @tool
    def hanging() -> None:
        """Hang."""
        begun.set()
        end.wait(PATIENCE)
        ended.set()

    clock = VirtualClock()
    async with scene(call("hanging"), "And on.", tools=[hanging], clock=clock) as s:
        prompt = s.session.prompt("Hang.", timeout=30)
        await until(begun.is_set)
        await clock.advance(31)
        with pytest.raises(OperationTimeoutError):
            await prompt
        assert (await s.session.prompt("Go on.")).text == "And on."
        assert not ended.is_set()
        end.set()  # what it gives now is dropped


async def test_time_that_moves_by_itself_waits_for_a_tool() -> None:
    end = threading.Event()

    @tool
    def slow() -> str:
        """Take a moment."""
        assert end.wait(PATIENCE)
        return "done"

    async with scene(call("slow"), "ok", tools=[slow]) as s:
        prompt = s.session.prompt("Be slow.", timeout=30)
        before = s.clock.monotonic()
        for _ in range(200):
            await asyncio.sleep(0)
        assert s.clock.monotonic() == before
        end.set()
        assert (await prompt).text == "ok"


async def test_a_tool_sees_the_context_variables_of_its_call() -> None:
    @tool
    def look() -> str:
        """Look."""
        return VARIABLE.get()

    async with scene(call("look"), "ok", tools=[look]) as s:
        VARIABLE.set("mine")
        await s.session.prompt("Look.")
        assert results(s) == ["mine"]


async def test_what_a_tool_logs_stands_before_its_end() -> None:
    contexts: list[FlueContext] = []

    @tool
    def talk() -> None:
        """Say something."""
        contexts[0].log.info("from a thread")

    async with scene(call("talk"), "ok", tools=[talk]) as s:
        contexts.append(s.context)
        await s.session.prompt("Talk.")
        types = s.types()
        assert types.index("tool_start") < types.index(Log.type) < types.index("tool_call")


async def test_a_tool_may_abort_a_call() -> None:
    calls: list[CallHandle[PromptResponse]] = []

    @tool
    def stop() -> None:
        """Stop the other call."""
        calls[0].abort("enough")

    async with scene(hang(), call("stop"), "ok", tools=[stop]) as s:
        calls.append(s.session.prompt("Hang."))
        await until(lambda: s.model.requests)
        await (await s.harness.session("other")).prompt("Stop it.")
        with pytest.raises(Exception, match="enough"):
            await calls[0]


async def test_a_tool_that_needs_the_event_loop_is_told_what_to_write() -> None:
    sessions: list[Session] = []

    @tool
    def ask() -> object:
        """Ask another session."""
        return sessions[0].prompt("Are you there?")

    async with scene(call("ask"), "ok", tools=[ask]) as s:
        sessions.append(await s.harness.session("other"))
        await s.session.prompt("Ask.")
        assert "outside of its event loop" in results(s)[0]


@pytest.mark.parametrize("error", [StopIteration("odd"), KeyError("odd")])
async def test_whatever_a_tool_raises_is_for_the_model(error: Exception) -> None:
    @tool
    def fail() -> None:
        """Fail."""
        raise error

    async with scene(call("fail"), "ok", tools=[fail]) as s:
        assert (await s.session.prompt("Fail.")).text == "ok"
        (result,) = [message for message in s.messages if isinstance(message, ToolResultMessage)]
        assert result.is_error


# ------------------------------------------------------------------------------------------------ the threads


async def test_calls_wait_when_all_threads_are_taken_and_the_log_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    threads, end = Threads(most=1), threading.Event()
    with caplog.at_level(logging.WARNING, "flue"):
        first = asyncio.create_task(threads.run(partial(end.wait, PATIENCE)))
        others = [asyncio.create_task(threads.run(partial(str, number))) for number in range(2)]
        await until(lambda: threads.awaited == 3)
        end.set()
        assert await first
        assert await asyncio.gather(*others) == ["0", "1"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_a_call_that_is_cancelled_while_it_waits_is_never_made() -> None:
    threads, end = Threads(most=1), threading.Event()
    made: list[str] = []
    first = asyncio.create_task(threads.run(partial(end.wait, PATIENCE)))
    second = asyncio.create_task(threads.run(lambda: made.append("second")))
    await until(lambda: threads.awaited == 2)
    second.cancel()
    end.set()
    await first
    await threads.run(lambda: made.append("third"))
    assert made == ["third"]


async def test_where_there_are_no_threads_it_is_called_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert await Threads().run(threading.get_ident) == threading.get_ident()


def run(program: str) -> str:
    command = [sys.executable, "-W", "ignore", "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout


def test_a_process_ends_though_a_tool_hangs() -> None:
    assert (
        run(
            "import asyncio, threading\n"
            "from flue.threads import THREADS\n"
            "async def main():\n"
            "    try:\n"
            "        await asyncio.wait_for(THREADS.run(threading.Event().wait), 0.01)\n"
            "    except TimeoutError:\n"
            "        print('late')\n"
            "asyncio.run(main())\n"
        )
        == "late\n"
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_the_child_of_a_fork_has_threads_of_its_own() -> None:
    assert (
        run(
            "import asyncio, os, threading\n"
            "from flue.threads import THREADS\n"
            "ask = lambda: asyncio.run(THREADS.run(threading.get_ident)) != threading.get_ident()\n"
            "assert ask()\n"
            "if child := os.fork():\n"
            "    os.waitpid(child, 0)\n"
            "else:\n"
            "    print(ask(), flush=True)\n"
            "    os._exit(0)\n"
        )
        == "True\n"
    )

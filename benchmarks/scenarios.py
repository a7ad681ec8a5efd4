"""What is measured, and what every contender is given: the same tool, instructions and questions.

A contender is a module of `benchmarks.contenders` with an async context manager

    conversations(task) -> an async function that opens a new conversation: `say(text) -> answer`

so that each scenario below is written once and means the same for all of them.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

Say = Callable[[str], Awaitable[str]]
NewConversation = Callable[[], Awaitable[Say]]
Conversations = Callable[["Task"], AbstractAsyncContextManager[NewConversation]]
Samples = dict[str, list[float]]

MODEL = "bench-model"
KEY = "bench-key"
INSTRUCTIONS = "You answer questions about a warehouse. Look an item up before you say anything about it."
ITEM = "The shelf holds 42 boxes of blue paint, delivered on Monday and checked by two people on Tuesday. " * 3
DELTAS = 2_000
LOOP_TURNS = 50
LONG_TURNS = 500
EARLY = range(6, 16)  # turns compared with the last ones; by the sixth everything is warm
LATE = range(LONG_TURNS - 9, LONG_TURNS + 1)


class Lane:
    """A conversation that waits in its tool, from the call number `free` on, until it is let go for one more turn."""

    def __init__(self, free: int = sys.maxsize) -> None:
        self.free = free
        self.calls = 0
        self.spent = 0.0  # CPU seconds of the turn that led to the last call
        self._since = 0.0
        self._go = asyncio.Event()
        self._waits = asyncio.Event()

    async def call(self) -> None:
        """Be called, as a tool."""
        self.spent = time.process_time() - self._since
        self.calls += 1
        if self.calls >= self.free:
            self._waits.set()
            await self._go.wait()
            self._go.clear()
        self._since = time.process_time()

    async def reach(self) -> None:
        """Return once the conversation waits."""
        await self._waits.wait()

    async def turn(self) -> float:
        """Let one turn happen and return its CPU in milliseconds."""
        self._waits.clear()
        self.leave()
        await self.reach()
        return self.spent * 1000

    def leave(self) -> None:
        """Let the conversation go on."""
        self._go.set()


lanes: dict[str, Lane] = {}
"""By the item that is looked up."""


async def lookup(item: str, amount: int = 1) -> str:
    """Look an item up.

    Args:
        item: name of the item
        amount: how many are wanted
    """
    await lanes[item].call()
    return ITEM


LOOKUP_SCHEMA = {
    "type": "object",
    "properties": {
        "item": {"type": "string", "description": "name of the item"},
        "amount": {"type": "integer", "description": "how many are wanted", "default": 1},
    },
    "required": ["item"],
    "additionalProperties": False,
}


def looping(item: str, turns: int) -> tuple[str, Lane]:
    """Return a prompt that leads to so many turns with a tool call each, and the lane they take."""
    lane = lanes[item] = Lane()
    return f'[[call lookup {{"item": "{item}", "amount": 2}}]] [[repeat {turns}]]', lane


@dataclass(frozen=True, slots=True)
class Task:
    """One measurement in one process. `url` is the fake provider's address, `variant` what is special about it."""

    scenario: str
    contender: str
    api: str
    url: str = ""
    variant: str = ""
    samples: int = 5
    folder: str = ""


async def stream(task: Task, new: NewConversation) -> Samples:
    """CPU of one prompt whose answer comes in 2,000 deltas."""
    say = await new()
    await say("[[deltas 20]]")
    cpu = []
    for _ in range(task.samples):
        say = await new()
        start = time.process_time()
        answer = await say(f"[[deltas {DELTAS}]]")
        cpu.append((time.process_time() - start) * 1000)
        assert answer.split() == ["word"] * DELTAS, answer[:200]
    return {"cpu_ms": cpu}


async def loop(task: Task, new: NewConversation) -> Samples:
    """CPU of one prompt that leads to 50 turns with a tool call each, and an answer."""
    prompt, _ = looping("paint", 3)
    say = await new()
    await say(prompt)
    cpu, wall = [], []
    for _ in range(task.samples):
        say = await new()
        prompt, lane = looping("paint", LOOP_TURNS)
        start, began = time.process_time(), time.perf_counter()
        await say(prompt)
        cpu.append((time.process_time() - start) * 1000)
        wall.append((time.perf_counter() - began) * 1000)
        assert lane.calls == LOOP_TURNS, lane.calls
    return {"cpu_ms": cpu, "wall_ms": wall}


async def prompts(task: Task, new: NewConversation) -> Samples:
    """CPU of a turn early and late in a conversation of 500 plain prompts.

    The early turns are those of a second conversation, which alternate with the late ones of the first: whatever else
    the machine does then falls on both.
    """
    old, young = await new(), await new()
    for say, turns in ((old, LATE[0]), (young, EARLY[0])):
        for number in range(1, turns):
            await say(f"How many boxes are on shelf {number}?")
    early: list[float] = []
    late: list[float] = []
    for number in EARLY:
        for say, spent in ((young, early), (old, late)):
            start = time.process_time()
            await say(f"How many boxes are on shelf {number}?")
            spent.append((time.process_time() - start) * 1000)
    return {"early_ms": [fmean(early)], "late_ms": [fmean(late)]}


async def calls(task: Task, new: NewConversation) -> Samples:
    """CPU of a turn early and late in one prompt that leads to 500 tool calls; alternating as in `prompts`."""
    running = []
    for item, turns in (("old", LATE), ("young", EARLY)):
        prompt, lane = looping(item, turns[-1])
        lane.free = turns[0] - 1
        running.append((asyncio.ensure_future((await new())(prompt)), lane))
        await lane.reach()
    (_, old), (_, young) = running
    pairs = [(await young.turn(), await old.turn()) for _ in EARLY]
    for answer, lane in running:
        lane.leave()
        await answer
    return {"early_ms": [fmean(one for one, _ in pairs)], "late_ms": [fmean(one for _, one in pairs)]}


async def memory(task: Task, new: NewConversation) -> Samples:
    """Memory and CPU seconds of the whole process once an agent has answered its first prompt."""
    say = await new()
    await say("Hello")
    return {"rss_mb": [_resident_mb()], "cpu_s": [time.process_time()]}


def _resident_mb() -> float:
    statm = Path("/proc/self/statm")
    if statm.exists():
        import os

        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


async def sandbox(task: Task, new: NewConversation) -> Samples:
    """Wall time to create a virtual sandbox and run a first command in it, in a process that has done so before.

    The variant `isolated` takes a worker that waits ready in a pool; `cold` starts the pool's processes, too.
    """
    from flue.sandboxes import WorkerPool, virtual

    wall, cpu, kept = [], [], []

    async def first_command(*, isolated: WorkerPool | bool) -> None:
        start, began = time.process_time(), time.perf_counter()
        env = await virtual(isolated=isolated).create_session_env(id="bench")
        result = await env.exec("echo hello")
        wall.append((time.perf_counter() - began) * 1000)
        cpu.append((time.process_time() - start) * 1000)
        assert result.stdout == "hello\n", result
        kept.append(env)  # ending a worker is not part of it

    if task.variant == "cold":
        for _ in range(task.samples * 5 + 1):
            pool = WorkerPool(spare=0)
            await first_command(isolated=pool)
            await pool.close()
    elif task.variant == "isolated":
        async with WorkerPool(spare=2, most=1000) as pool:
            for _ in range(task.samples * 20 + 1):
                await asyncio.sleep(0.05)
                await first_command(isolated=pool)
    else:
        for _ in range(task.samples * 20 + 1):
            await first_command(isolated=False)
    return {"wall_ms": wall[1:], "cpu_ms": cpu[1:]}


SCENARIOS = {function.__name__: function for function in (stream, loop, prompts, calls, memory, sandbox)}


def run(task: Task, conversations: Conversations) -> Samples:
    """Do one measurement in this process."""

    async def main() -> Samples:
        async with conversations(task) as new:
            return await SCENARIOS[task.scenario](task, new)

    return asyncio.run(main())

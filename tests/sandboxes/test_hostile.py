"""Scripts that err badly: each must end with a result, in time, and leave the process and other sandboxes working.

This is not a defence against scripts written to do harm: what runs in one's own process can always be brought down.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from flue.harness.env import SessionEnv
from flue.sandboxes import Limits, virtual

pytestmark = pytest.mark.faults

SECONDS = 0.3
GRACE = 5.0  # nominally 2; the machine may be busy


async def open_env(**limits: Any) -> SessionEnv:
    return await virtual({"lines": "0123456789abcde\n" * 600_000}, limits=Limits(**limits)).create_session_env(id="x")


class TestLimits:
    async def test_an_endless_loop_ends_at_the_command_limit_and_keeps_its_output(self) -> None:
        result = await (await open_env(commands=500)).exec(
            "echo first; printf 'na\\303\\257ve\\n' >&2; while :; do echo y; done"
        )
        assert result.exit_code == 1
        assert result.stdout.startswith("first\ny\ny\n")
        assert result.stderr.startswith("naïve\n")
        assert "[flue] The command was stopped: maximum command count exceeded (500).\n" in result.stderr

    @pytest.mark.parametrize("command", ["for ((;;)); do :; done", "awk 'BEGIN {while (1) n++}'"])
    async def test_an_endless_loop_ends_at_the_loop_limit(self, command: str) -> None:
        result = await (await open_env(loop_iterations=1000, seconds=5)).exec(command)
        assert result.exit_code in (1, 2)
        assert "(1000)" in result.stderr

    async def test_each_command_has_the_limits_to_itself(self) -> None:
        env = await open_env(commands=50)
        for _ in range(5):
            assert (await env.exec("for i in 1 2 3 4 5 6 7 8 9 10; do echo $i; done | tail -1")).stdout == "10\n"

    async def test_deep_recursion_ends_with_a_message(self) -> None:
        result = await (await open_env()).exec("f() { f; }; echo start; f")
        assert (result.stdout, result.exit_code) == ("start\n", 1)
        assert "function depth" in result.stderr

    async def test_a_pipe_whose_reader_stops_early_ends(self) -> None:
        result = await (await open_env()).exec("yes | head -3")
        assert (result.stdout, result.exit_code) == ("y\ny\ny\n", 0)

    async def test_giant_output_is_cut_and_said_to_be(self) -> None:
        env = await open_env()
        result = await env.exec("cat lines; cat lines >&2; echo end", timeout=15)
        assert len(result.stdout) <= 10 * 1024 * 1024
        assert len(result.stderr) <= 10 * 1024 * 1024
        result = await env.exec("cat lines; cat lines; echo end", timeout=15)
        assert len(result.stdout) == 10 * 1024 * 1024
        assert result.stderr == "[flue] stdout ended here after 10 MiB; the rest was dropped.\n"

    async def test_a_variable_that_doubles_for_ever_ends(self) -> None:
        result = await (await open_env()).exec("x=a; while :; do x=$x$x; done")
        assert result.exit_code == 1
        assert "memory limit" in result.stderr

    @pytest.mark.parametrize(
        "command",
        ["while :; do :; done", "sleep 100", "sleep 100 & wait", "cat <(while :; do :; done)", "x=$(sleep 100)"],
    )
    async def test_the_timeout_ends_what_no_other_limit_does(self, command: str) -> None:
        env = await open_env(commands=10**9, loop_iterations=10**9)
        started = time.monotonic()
        result = await env.exec(f"echo started; {command}", timeout=SECONDS)
        assert time.monotonic() - started < SECONDS + GRACE
        assert (result.stdout, result.exit_code) == ("started\n", 124)

    async def test_the_longest_run_time_holds_without_a_timeout(self) -> None:
        result = await (await open_env(seconds=0.2)).exec("sleep 100")
        assert (result.stderr, result.exit_code) == ("[flue] Command timed out after 0.2 seconds.\n", 124)

    @pytest.mark.parametrize("command", ["sleep 100", "while :; do :; done", "trap 'echo trapped' EXIT; sleep 100"])
    async def test_an_abort_is_quick_and_leaves_no_thread(self, command: str) -> None:
        env = await open_env(commands=10**9, loop_iterations=10**9)
        task = asyncio.ensure_future(env.exec(f"echo > mark; {command}"))
        while not await env.exists("mark"):  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.01)
        started = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - started < 1
        deadline = time.monotonic() + GRACE
        while any(thread.name == "flue-sandbox" for thread in threading.enumerate()):
            assert time.monotonic() < deadline, "the thread goes on"
            await asyncio.sleep(0.01)

    async def test_a_command_that_loops_leaves_the_event_loop_free(self) -> None:
        env = await open_env(commands=10**9, loop_iterations=10**9)
        task = asyncio.ensure_future(env.exec("while :; do echo y; done", timeout=SECONDS))
        ticks = 0
        while not task.done():
            await asyncio.sleep(0.005)
            ticks += 1
        assert ticks > 10


# Nested deeply enough to end a process whose threads have the usual 2 MB of stack.
NESTED = {
    "eval": 'f=\'eval "$f"\'; eval "$f"',
    "env": "env " * 5000 + "true",
    "xargs": "echo x | " + "xargs " * 5000 + "echo",
    "command": "command " * 5000 + "true",
    "timeout": "timeout 5 " * 5000 + "true",
    "parentheses": "(" * 5000 + "echo" + ")" * 5000,
    "substitutions": "echo " + "$(" * 5000 + "echo" + ")" * 5000,
    "jq filter": "jq -n '" + "[" * 5000 + "]" * 5000 + "'",
    "jq input": "echo '" + "[" * 5000 + "]" * 5000 + "' | jq .",
    "find": "find . " + "\\( " * 5000 + "-name x" + " \\)" * 5000,
    "bc": "echo '" + "(" * 5000 + "1" + ")" * 5000 + "' | bc",
    "regular expression": "echo a | grep -E '" + "(" * 5000 + "a" + ")" * 5000 + "'",
    "fork bomb": ":() { :|:& }; :",
    "forking function": "f() { f|f& }; f; wait",
    "background jobs": "while :; do sleep 1 & done",
    "source": "echo '. /tmp/s' > /tmp/s; . /tmp/s",
    "bash": "echo 'bash /tmp/b' > /tmp/b; bash /tmp/b",
    "trap": "trap 'kill -USR1 $$' USR1; kill -USR1 $$",
    "braces": "echo " + "{a,b}" * 20 + " | wc -c",
    "links": "i=0; while [ $i -lt 200 ]; do ln -s /workspace /workspace/l$i; i=$((i+1)); done; find -L / | wc -l",
}
PROGRAM = """
import asyncio, json, sys, time
from flue.sandboxes import virtual

async def run(name, script):
    env = await virtual().create_session_env(id="x")
    started = time.monotonic()
    result = await env.exec(script, timeout=float(sys.argv[1]))
    print(json.dumps([name, result.exit_code, round(time.monotonic() - started, 2)]), flush=True)

async def main():
    runs = [run(*item) for item in json.load(sys.stdin).items()]
    if sys.argv[2] == "together":
        await asyncio.gather(*runs)
    else:
        for one in runs:
            await one
    env = await virtual().create_session_env(id="x")
    print(json.dumps(["after", (await env.exec("echo alive", timeout=5)).stdout, 0]))

asyncio.run(main())
"""


def run_apart(scripts: dict[str, str], how: str) -> dict[str, tuple[Any, float]]:
    """Run scripts in a process of their own and return exit code and seconds of each."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(SECONDS), how],
        input=json.dumps(scripts),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    ran = [line[0] for line in lines]
    assert done.returncode == 0, f"the process died with {done.returncode} after {ran}: {done.stderr[-500:]}"
    return {name: (outcome, seconds) for name, outcome, seconds in lines}


@pytest.mark.timeout(60)
def test_deep_nesting_and_forking_end_with_results() -> None:
    outcomes = run_apart(NESTED, "one after the other")
    assert outcomes.pop("after")[0] == "alive\n"
    assert list(outcomes) == list(NESTED)
    late = {name: seconds for name, (_, seconds) in outcomes.items() if seconds > SECONDS + GRACE}
    assert not late


@pytest.mark.timeout(60)
def test_a_command_that_ignores_its_timeout_is_left_behind_and_stops_nobody_else() -> None:
    # More of them than cores: in bashkit's own thread pool, one a core stops everything.
    count = (os.cpu_count() or 1) + 1
    ignores = {f"uniq {number}": "seq 1 9 > f; uniq -f 99999999999 f" for number in range(count)}
    outcomes = run_apart(ignores, "together")
    assert outcomes.pop("after")[0] == "alive\n"
    assert {outcome for outcome, _ in outcomes.values()} == {124}
    assert max(seconds for _, seconds in outcomes.values()) < SECONDS + GRACE

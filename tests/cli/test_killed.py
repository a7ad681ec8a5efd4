"""Commands over one store that are killed, interrupted, or at work at the same time."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flue.durable.records import Run, RunQuery
from flue.stores import SqliteStore
from tests.cli.conftest import Child, Flue, Write

NIGHTLY = """
import asyncio, pathlib

async def run(ctx):
    with open("ran.txt", "a") as ran:
        print(ctx.id, file=ran)
    ctx.log.info("at work")
    while not pathlib.Path("go").exists():
        await asyncio.sleep(0.01)
    return "done"
"""
HELLO = "async def run(ctx): return 'hello'\n"
TALKER = """
import asyncio, pathlib
from flue import create_agent, tool

@tool
def look(place: str) -> str:
    "Look somewhere."
    return f"nothing in {place}"

@tool
async def wait() -> str:
    "Wait for ever."
    pathlib.Path("waiting").touch()
    await asyncio.Event().wait()

agent = create_agent(model="ollama/test", tools=[look, wait])
"""
LEFT = "A process ended without a word; what it had accepted waits for a server"


def runs(root: Path) -> list[Run]:
    """Return the recorded runs, oldest first."""

    async def read() -> list[Run]:
        store = SqliteStore(root / ".flue-data/flue.db")
        found = [await store.get_run(run.run_id) for run in await store.list_runs(RunQuery())]
        await store.aclose()
        return [run for run in reversed(found) if run is not None]

    return asyncio.run(read())


def killed(child: Child) -> None:
    child.process.kill()
    child.process.wait(timeout=15)


@pytest.mark.e2e
def test_an_interrupted_run_is_recorded_as_aborted(spawn: Callable[..., Child], write: Write) -> None:
    root = write({"workflows/nightly.py": NIGHTLY})
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        child = spawn("run", "nightly", "--json")
        child.until("at work")
        child.process.send_signal(number)
        done = child.finish()
        assert (done.code, done.out, "Traceback" in done.err) == (code, "", False)
    for run in runs(root):
        assert (run.status, json.loads(run.error or "")["message"]) == ("errored", "The command was interrupted.")


@pytest.mark.e2e
def test_no_command_repeats_a_killed_run_and_one_says_that_it_waits(
    spawn: Callable[..., Child], flue: Flue, write: Write, provider: Any
) -> None:
    files = {"workflows/nightly.py": NIGHTLY, "workflows/hello.py": HELLO, "agents/talker.py": TALKER}
    root = write({**files, ".env": provider.env_file})
    child = spawn("run", "nightly")
    child.until("at work")
    killed(child)
    (root / "go").touch()
    first = flue("run", "hello")
    assert (first.code, first.out) == (0, '"hello"\n')
    assert LEFT in first.err
    second = flue("run", "hello")
    assert LEFT not in second.err
    talk = spawn("connect", "talker", "ann")
    talk.type("[[say Hi.]]\n")
    close(talk)
    assert talk.finish().code == 0
    again = flue("run", "nightly")
    assert again.code == 0
    yesterday, *others = (root / "ran.txt").read_text().splitlines()
    assert len(others) == 1, "only the run that was asked for ran"
    assert next(run for run in runs(root) if run.run_id == yesterday).status == "active"


@pytest.mark.e2e
def test_a_server_restarts_a_killed_run_and_links_it(spawn: Callable[..., Child], flue: Flue, write: Write) -> None:
    root = write({"workflows/nightly.py": NIGHTLY})
    child = spawn("run", "nightly")
    child.until("at work")
    killed(child)
    (root / "go").touch()
    server = spawn("mcp", "--transport", "http", "--port", "0")
    server.until("taken up again (1)")
    wait_for(lambda: [run.status for run in runs(root)] == ["errored", "completed"])
    server.process.send_signal(signal.SIGTERM)
    assert server.finish().code == 143
    old, new = runs(root)
    assert (old.restarted_as, new.restarted_from) == (new.run_id, old.run_id)
    logs = flue("logs", "--local", old.run_id)
    assert logs.code == 2
    assert logs.err.splitlines()[-1] == f"[flue] Run {new.run_id} takes its place."


def wait_for(condition: Callable[[], bool]) -> None:
    done = threading.Event()
    while not condition():
        done.wait(0.05)


@pytest.mark.faults
def test_a_killed_run_of_a_function_agent_does_not_hold_up_the_next(
    spawn: Callable[..., Child], flue: Flue, write: Write
) -> None:
    root = write({"agents/clerk.py": NIGHTLY})
    child = spawn("run", "clerk", "--id", "ada")
    child.until("at work")
    killed(child)
    (root / "go").touch()
    done = flue("run", "clerk", "--id", "ada")
    assert (done.code, done.out) == (0, '"done"\n')
    assert len((root / "ran.txt").read_text().splitlines()) == 2
    old, new, replacement = sorted(runs(root), key=lambda run: (run.generation, run.started_at))
    assert (old.status, new.status, replacement.status) == ("errored", "completed", "active")
    assert replacement.restarted_from == old.run_id


@pytest.mark.faults
def test_the_next_command_finishes_a_killed_prompt_before_it_asks_another(
    spawn: Callable[..., Child], write: Write, provider: Any
) -> None:
    write({"agents/talker.py": TALKER, ".env": provider.env_file})
    first = spawn("connect", "talker", "ann")
    first.type('[[call look {"place": "attic"}]][[then]][[hang]]\n')
    first.until("nothing in attic")
    wait_for(lambda: len(provider.server.requests) == 2)
    killed(first)
    second = spawn("connect", "talker", "ann")
    second.until("Going on with what was left: [[call look")
    wait_for(lambda: len(provider.server.requests) == 3)
    second.process.send_signal(signal.SIGINT)
    second.until("Aborted.")
    second.type("[[say Here I am.]]\n")
    assert answer_of(second) == "Here I am."
    looked = json.dumps(provider.server.requests[-1].json["messages"]).count('"nothing in attic"')
    assert looked == 1, "the tool ran once"
    close(second)
    assert second.finish().code == 0


@pytest.mark.faults
def test_prompts_of_three_commands_to_one_session_are_all_answered_one_after_the_other(
    spawn: Callable[..., Child], write: Write, provider: Any
) -> None:
    root = write({"agents/talker.py": TALKER, ".env": provider.env_file})
    children = [spawn("connect", "talker", "ann") for _ in range(3)]
    for number, child in enumerate(children):
        for turn in range(5):
            child.type(f'[[call look {{"place": "{number}-{turn}"}}]][[then]][[say Answer {number}-{turn}.]]\n')
        close(child)
    for number, child in enumerate(children):
        done = child.finish()
        assert done.code == 0, done.err
        assert [json.loads(line)["text"] for line in done.out.splitlines()] == [
            f"Answer {number}-{turn}." for turn in range(5)
        ]
    last = max(provider.server.requests, key=lambda request: len(request.json["messages"]))
    roles = [message["role"] for message in last.json["messages"] if message["role"] != "system"]
    assert roles == [*["user", "assistant", "tool", "assistant"] * 14, "user", "assistant", "tool"]
    assert settled_in_turn(root / ".flue-data/flue.db")


def settled_in_turn(file: Path) -> bool:
    """Say whether the prompts began in the order in which they were accepted, and ended in that order.

    Which of two processes was first only the database knows: the time is that at which each went to it.
    """
    with sqlite3.connect(file) as database:
        rows = database.execute("SELECT started_at, settled_at FROM submissions ORDER BY sequence").fetchall()
    database.close()
    return len(rows) == 15 and all([*times] == sorted(times) for times in zip(*rows, strict=True))


@pytest.mark.faults
def test_a_prompt_behind_one_whose_command_is_killed_is_answered_after_that_was_finished(
    spawn: Callable[..., Child], write: Write, provider: Any
) -> None:
    root = write({"agents/talker.py": TALKER, ".env": provider.env_file})
    first, second = spawn("connect", "talker", "ann"), spawn("connect", "talker", "ann")
    first.type("[[call wait {}]][[then]][[say Found out.]]\n")
    wait_for((root / "waiting").exists)
    second.type("[[say Whole.]]\n")
    wait_for(lambda: accepted(root) == 2)
    killed(first)
    assert answer_of(second) == "Whole."
    close(second)
    assert second.finish().code == 0
    last = json.dumps(provider.server.requests[-1].json["messages"])
    assert "unknown" in last, "the model was told that nobody knows what became of the call"
    assert "Found out." in last


def accepted(root: Path) -> int:
    with sqlite3.connect(root / ".flue-data/flue.db") as database:
        count = database.execute("SELECT count(*) FROM submissions").fetchone()[0]
    database.close()
    return int(count)


def answer_of(child: Child) -> str:
    assert child.process.stdout is not None
    return str(json.loads(child.process.stdout.readline())["text"])


def close(child: Child) -> None:
    """End its standard input."""
    assert child.process.stdin is not None
    child.process.stdin.close()
    child.process.stdin = None

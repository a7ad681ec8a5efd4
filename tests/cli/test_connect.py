from __future__ import annotations

import json
import os
import pty
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

Flue = Callable[..., Any]
Spawn = Callable[..., Any]
Write = Callable[[dict[str, str]], Path]

AGENT = """
from flue import create_agent, tool

@tool
def look(place: str) -> str:
    "Look somewhere."
    return f"nothing in {place}"

agent = create_agent(model="ollama/test", tools=[look])
"""


@pytest.fixture
def type_lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Put text into standard input."""
    with ExitStack() as files:

        def put(text: str) -> None:
            path = tmp_path / "typed.txt"
            path.write_text(text, encoding="utf-8")
            monkeypatch.setattr("sys.stdin", files.enter_context(path.open(encoding="utf-8")))

        yield put


@pytest.fixture
def project(write: Write, provider: Any) -> Write:
    """Write a project whose `ollama` models are the fake provider."""
    return lambda files: write({**files, ".env": provider.env_file})


def test_each_line_is_a_prompt_and_each_answer_a_line_of_json(
    flue: Flue, write: Write, provider: Any, type_lines: Callable[[str], None]
) -> None:
    write({"agents/support.py": AGENT, ".env": provider.env_file})
    type_lines('[[say One.]]\n\n  \n[[call look {"place": "attic"}]][[then]][[say Two.]]')
    done = flue("connect", "support", "c1")
    assert done.code == 0
    answers = [json.loads(line) for line in done.out.splitlines()]
    assert [answer["text"] for answer in answers] == ["One.", "Two."]
    assert answers[0]["model"] == {"provider": "ollama", "id": "test"}
    expected = ["  One.", '[flue] tool:start  look  {"place": "attic"}', "[flue] tool:done   look  nothing in attic"]
    assert [line for line in done.err.splitlines() if line in expected] == expected


def test_a_second_connect_continues_the_conversation(
    flue: Flue, write: Write, provider: Any, type_lines: Callable[[str], None]
) -> None:
    write({"agents/support.py": AGENT, ".env": provider.env_file})
    type_lines("[[say Noted.]] My name is Ada.\n")
    assert flue("connect", "support", "c1").code == 0
    type_lines("[[say Ada.]] Who am I?\n")
    assert flue("connect", "support", "c1").code == 0
    assert "My name is Ada." in _sent(provider, -1)


@pytest.mark.parametrize("other", [["support", "c2"], ["support", "c1", "--session", "other"], ["sales", "c1"]])
def test_another_instance_session_or_agent_has_its_own_conversation(
    flue: Flue, write: Write, provider: Any, type_lines: Callable[[str], None], other: list[str]
) -> None:
    write({"agents/support.py": AGENT, "agents/sales.py": AGENT, ".env": provider.env_file})
    type_lines("[[say Noted.]] My name is Ada.\n")
    assert flue("connect", "support", "c1").code == 0
    type_lines("[[say No idea.]] Who am I?\n")
    assert flue("connect", *other).code == 0
    assert "Who am I?" in _sent(provider, -1)
    assert "Ada" not in _sent(provider, -1)


def test_a_failed_prompt_is_one_line_and_the_next_one_is_answered(
    flue: Flue, write: Write, provider: Any, type_lines: Callable[[str], None]
) -> None:
    write({"agents/support.py": AGENT, ".env": provider.env_file})
    type_lines("[[error 401 bad key]]\n[[say Fine.]]\n")
    done = flue("connect", "support", "c1")
    assert done.code == 1
    assert [json.loads(line)["text"] for line in done.out.splitlines()] == ["Fine."]
    assert len([line for line in done.err.splitlines() if line.startswith("error: ")]) == 1
    assert "Traceback" not in done.err


@pytest.mark.e2e
def test_two_conversations_in_one_session_are_one_and_go_on_from_each_other(
    spawn: Spawn, project: Write, provider: Any
) -> None:
    project({"agents/support.py": AGENT})

    def ask(child: Any, text: str, answer: str) -> None:
        child.type(f"[[say {answer}]] {text}\n")
        assert json.loads(child.process.stdout.readline())["text"] == answer

    first, second = spawn("connect", "support", "c1"), spawn("connect", "support", "c1")
    ask(first, "I am Ada.", "Hi.")
    ask(second, "And I am Ben.", "Noted.")
    ask(first, "Who are we?", "Ada and Ben.")
    assert "And I am Ben." in _sent(provider, -1)
    assert first.finish().code == 0
    assert second.finish().code == 0


def test_an_unknown_agent_lists_those_there_are(flue: Flue, write: Write) -> None:
    write({"agents/support.py": AGENT})
    done = flue("connect", "suport", "c1")
    assert (done.code, done.out) == (1, "")
    assert done.err == 'error: Unknown agent "suport". Did you mean "support"? There are: support. [agent_not_found]\n'


def test_a_function_agent_cannot_be_connected_to(flue: Flue, write: Write) -> None:
    write({"agents/hook.py": "async def run(ctx): ...\n"})
    done = flue("connect", "hook", "c1")
    assert done.code == 1
    assert done.err.startswith("error: agents/hook.py defines `run(ctx)`")


def test_the_cloudflare_target_is_refused_with_a_way_to_call_it(flue: Flue, write: Write) -> None:
    write({"agents/support.py": AGENT})
    done = flue("connect", "support", "c 1", "--target", "cloudflare")
    assert done.code == 1
    assert "curl https://<your-worker>/agents/support/" in done.err


@pytest.mark.e2e
def test_an_interrupt_aborts_the_prompt_and_one_between_prompts_ends(spawn: Spawn, write: Write, provider: Any) -> None:
    write({"agents/support.py": AGENT, ".env": provider.env_file})
    child = spawn("connect", "support", "c1")
    child.type('[[say Before.]]\n[[call look {"place": "x"}]][[then]][[hang]]\n')
    child.until("tool:done")
    child.process.send_signal(signal.SIGINT)
    child.until("Aborted.")
    child.type("[[say After.]]\n")
    answers = [json.loads(child.process.stdout.readline())["text"] for _ in range(2)]
    child.process.send_signal(signal.SIGINT)
    done = child.finish()
    assert (answers, done.code, done.out) == (["Before.", "After."], 130, "")
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("signals", "code"), [(["SIGINT", "SIGINT"], 130), (["SIGTERM"], 143), (["SIGINT", "SIGTERM"], 143)]
)
def test_a_second_interrupt_or_a_termination_ends_a_prompt_that_does_not_stop(
    flue: Flue, project: Write, type_lines: Callable[[str], None], signals: list[str], code: int
) -> None:
    # The tool sends the signals itself, so that each arrives when the one before has been handled.
    stubborn = f"""
import asyncio, os, signal

@tool
async def wait() -> str:
    "Wait, whatever happens."
    for name in {signals}:
        os.kill(os.getpid(), signal.Signals[name])
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
    return "waited"

agent = create_agent(model="ollama/test", tools=[wait])
"""
    project({"agents/support.py": AGENT + stubborn})
    type_lines("[[call wait {}]]\n")
    done = flue("connect", "support", "c1")
    assert (done.code, done.out, "Traceback" in done.err) == (code, "", False)


@pytest.mark.e2e
def test_on_a_terminal_the_answer_stands_once_and_appears_while_it_streams(
    spawn: Spawn, write: Write, provider: Any
) -> None:
    write({"agents/support.py": AGENT, ".env": provider.env_file})
    ours, theirs = pty.openpty()
    child = spawn("connect", "support", "c1", stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    seen = b""

    def until(text: bytes) -> None:
        nonlocal seen
        while text not in seen:
            seen += os.read(ours, 4096)

    until(b"> ")
    os.write(ours, b"[[say Half of a sentence]][[hang]]\n")
    until(b"  Half of")
    child.process.send_signal(signal.SIGINT)
    until(b"Aborted.")
    os.write(ours, b"[[say Hello.]]\n")
    until(b"  Hello.")
    os.write(ours, b"\x04")
    assert child.process.wait(timeout=15) == 0
    os.close(ours)
    assert b'"text"' not in seen


def test_empty_input_ends_at_once(flue: Flue, write: Write, type_lines: Callable[[str], None]) -> None:
    write({"agents/support.py": AGENT})
    type_lines("")
    done = flue("connect", "support", "c1")
    assert (done.code, done.out) == (0, "")


def _sent(provider: Any, index: int) -> str:
    return json.dumps(provider.server.requests[index].json["messages"])

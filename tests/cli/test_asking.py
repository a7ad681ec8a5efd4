"""`flue connect` where a prompt waits for a person: asked on a terminal, told elsewhere."""

from __future__ import annotations

import json
import os
import pty
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flue.cli.waiting import Decision, read_budget, read_decision
from flue.errors import UsageError
from tests.cli.conftest import Flue, Outcome, Write

SHOP = """
from flue import create_agent, tool

@tool(approval=True)
def refund(order: str) -> str:
    "Refund an order."
    return f"{order} is refunded"

agent = create_agent(model="ollama/test", tools=[refund])
"""
THRIFTY = """
from flue import create_agent, tool

@tool
def look(place: str) -> str:
    "Look somewhere."
    return f"nothing in {place}"

agent = create_agent(model="ollama/test", tools=[look], budget={"turns": 1})
"""
REFUND = '[[call refund {"order": "A-1"}]][[then]][[say Done with it.]]'
LOOK = '[[call look {"place": "attic"}]][[then]][[say Nothing there.]]'


@pytest.fixture
def shop(write: Write, provider: Any) -> Path:
    """Write a project with an agent that asks before it refunds, and one with a small budget."""
    return write({"agents/shop.py": SHOP, "agents/thrifty.py": THRIFTY, ".env": provider.env_file})


class Terminal:
    """A `flue connect` on a terminal."""

    def __init__(self, spawn: Callable[..., Any], *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        self.child = spawn("connect", *arguments, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
        os.close(theirs)
        self._seen = ""

    def until(self, text: str) -> str:
        """Read until `text` has appeared, and return what came before it."""
        while text not in self._seen:
            self._seen += os.read(self._ours, 4096).decode(errors="replace")
        before, _, self._seen = self._seen.partition(text)
        return before

    def type(self, line: str) -> None:
        os.write(self._ours, f"{line}\n".encode())

    def leave(self) -> int:
        os.write(self._ours, b"\x04")
        code: int = self.child.process.wait(timeout=15)
        return code

    def close(self) -> None:
        os.close(self._ours)


@pytest.fixture
def terminal(spawn: Callable[..., Any]) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def start(*arguments: str) -> Terminal:
        opened.append(Terminal(spawn, *arguments))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


@pytest.mark.e2e
def test_an_approval_is_asked_for_after_what_led_to_it(shop: Path, terminal: Callable[..., Terminal]) -> None:
    asked = terminal("shop", "ann")
    asked.until("> ")
    asked.type(f"[[say Let me see.]]{REFUND}")
    assert "approval:wait  refund" in asked.until('Allow refund  {"order": "A-1"}? y, or n and why: ')
    asked.type("maybe")
    asked.until("Answer y, or n; a reason may stand after n.")
    asked.until("and why: ")
    asked.type("y")
    assert "A-1 is refunded" in asked.until("  Done with it.")
    asked.until("> ")
    assert asked.leave() == 0


@pytest.mark.e2e
def test_a_refusal_carries_its_reason_to_the_model(
    shop: Path, terminal: Callable[..., Terminal], provider: Any
) -> None:
    asked = terminal("shop", "ann")
    asked.until("> ")
    asked.type(REFUND)
    asked.until("and why: ")
    asked.type("n it was delivered")
    asked.until("approval:no    refund  it was delivered")
    asked.until("> ")
    assert "it was delivered" in json.dumps(provider.server.requests[-1].json["messages"])
    assert asked.leave() == 0


@pytest.mark.e2e
def test_what_waits_is_left_and_asked_about_by_the_next_command(
    shop: Path, terminal: Callable[..., Terminal], provider: Any
) -> None:
    first = terminal("shop", "ann")
    first.until("> ")
    first.type(REFUND)
    first.until("and why: ")
    assert first.leave() == 0
    first.until("It keeps waiting; connect again to decide.")
    second = terminal("shop", "ann")
    second.until("Going on with what was left: [[call refund")
    second.until("and why: ")
    second.type("yes")
    second.until("  Done with it.")
    second.until("> ")
    second.type("[[say Welcome.]] Thanks.")
    second.until("  Welcome.")
    assert second.leave() == 0


@pytest.mark.e2e
def test_of_two_terminals_one_decides_and_the_others_question_goes_away(
    shop: Path, terminal: Callable[..., Terminal]
) -> None:
    first = terminal("shop", "ann")
    first.until("> ")
    first.type(REFUND)
    first.until("and why: ")
    second = terminal("shop", "ann")
    second.until("and why: ")
    second.type("y")
    second.until("> ")
    first.until("  Done with it.")
    first.until("> ")
    first.type("[[say Still here.]]")
    first.until("  Still here.")
    assert (first.leave(), second.leave()) == (0, 0)


@pytest.mark.e2e
def test_an_interrupt_at_the_question_aborts_the_prompt(shop: Path, terminal: Callable[..., Terminal]) -> None:
    asked = terminal("shop", "ann")
    asked.until("> ")
    asked.type(REFUND)
    asked.until("and why: ")
    asked.child.process.send_signal(signal.SIGINT)
    asked.until("Aborted.")
    asked.until("> ")
    asked.type("[[say Fine.]]")
    asked.until("  Fine.")
    assert asked.leave() == 0


@pytest.mark.e2e
def test_a_used_up_budget_is_asked_for(shop: Path, terminal: Callable[..., Terminal]) -> None:
    asked = terminal("thrifty", "ann")
    asked.until("> ")
    asked.type(LOOK)
    asked.until("or n to give up: ")
    asked.type("more")
    asked.until('error: "more" is no limit.')
    asked.until("or n to give up: ")
    asked.type("turns=5")
    asked.until("  Nothing there.")
    asked.until("> ")
    asked.type(LOOK)
    asked.until("or n to give up: ")
    asked.type("n")
    asked.until("Aborted.")
    assert asked.leave() == 0


@pytest.fixture
def ask(flue: Flue, shop: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Connect with text as standard input."""

    def connect(text: str | bytes, *arguments: str) -> Outcome:
        typed = shop / "typed.txt"
        typed.write_bytes(text.encode() if isinstance(text, str) else text)
        with typed.open() as lines:
            monkeypatch.setattr("sys.stdin", lines)
            return flue("connect", *arguments)

    return connect


def test_where_nobody_can_be_asked_it_says_how_to_decide_and_ends(ask: Callable[..., Outcome]) -> None:
    lines = f"[[say Hello.]]\n{REFUND}\n[[say Never sent.]]\n"
    done = ask(lines, "shop", "an n", "--session", "s 1")
    assert done.code == 1
    assert [json.loads(line)["text"] for line in done.out.splitlines()] == ["Hello."]
    last = done.err.splitlines()[-1]
    assert last.startswith("error: The prompt waits for approval of the tool call ")
    assert "`flue connect shop 'an n' --session 's 1'`" in last
    assert last.endswith("[waits_for_person]")
    again = ask("[[say Not before.]]\n", "shop", "an n", "--session", "s 1")
    assert (again.code, again.out) == (1, "")
    assert "Going on with what was left" in again.err
    assert again.err.endswith("[waits_for_person]\n")


def test_records_say_what_a_prompt_waits_for(ask: Callable[..., Outcome]) -> None:
    done = ask(f"[[say Hello.]]\n[[error 401 no]]\n{REFUND}\n", "shop", "ann", "--json")
    answered, failed, waiting = (json.loads(line) for line in done.out.splitlines())
    assert (answered["status"], answered["result"]["text"]) == ("completed", "Hello.")
    assert (failed["status"], "no" in failed["error"]["message"]) == ("failed", True)
    assert waiting["status"] == "waiting"
    assert waiting["waitingFor"]["reason"] == "approval"
    assert waiting["submissionId"].startswith("sub_")
    budget = ask(f"{LOOK}\n", "thrifty", "ann", "--json")
    assert json.loads(budget.out)["waitingFor"] == {"reason": "budget"}
    assert "waits for a larger budget" in budget.err


@pytest.mark.parametrize(
    ("line", "decision"),
    [
        ("y", Decision(True)),
        (" YES ", Decision(True)),
        ("n", Decision(False)),
        ("no  too  much ", Decision(False, "too  much")),
        ("n y", Decision(False, "y")),
        ("yes but", None),
        ("nope", None),
        ("", None),
    ],
)
def test_only_a_plain_yes_is_a_yes(line: str, decision: Decision | None) -> None:
    assert read_decision(line) == decision


def test_a_budget_is_read_from_its_limits() -> None:
    assert read_budget("usd=2.5, turns=40") == {"usd": 2.5, "turns": 40}


@pytest.mark.parametrize("line", ["", "usd", "usd=", "usd=x", "usd=2 turns", "usd=-1", "beer=2", "usd=nan", "=1"])
def test_a_wrong_budget_is_refused(line: str) -> None:
    with pytest.raises(UsageError):
        read_budget(line)


def test_odd_input_is_a_prompt_or_one_error(ask: Callable[..., Outcome]) -> None:
    assert ask(b"\xff\xfe[[say Odd bytes are fine.]]\n\n\0", "shop", "ann").code == 0
    for instance in ("", " ", "x" * 600):
        refused = ask("Hello.\n", "shop", instance)
        assert refused.code == 1
        assert "[invalid_id]" in refused.err

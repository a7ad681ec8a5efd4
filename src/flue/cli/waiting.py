"""Work that waits for a person: what it waits for, how to decide, and how an answer on a terminal is read."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass

from flue.definitions.budget import as_budget
from flue.durable.records import Submission
from flue.engine.messages import APPROVAL
from flue.errors import OperationError, UsageError


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a prompt waits for: the tool call of that id, or with None a larger budget."""

    agent: str
    instance: str
    session: str
    tool_call_id: str | None

    @classmethod
    def of(cls, submission: Submission) -> Waiting:
        """Return what a prompt waits for first."""
        calls = [name.removeprefix(APPROVAL) for name in submission.waiting_for if name.startswith(APPROVAL)]
        session = json.loads(submission.payload)["session"]
        return cls(submission.target, submission.instance, session, calls[0] if calls else None)

    @property
    def error(self) -> OperationError:
        """Return the error for whoever cannot be asked."""
        session = () if self.session == "default" else ("--session", self.session)
        connect = shlex.join(["flue", "connect", self.agent, self.instance, *session])
        route = f"/agents/{self.agent}/{self.instance}"
        if self.tool_call_id is None:
            what, route = "a larger budget", f"{route}/budget"
        else:
            what, route = f"approval of the tool call {self.tool_call_id}", f"{route}/approvals/{self.tool_call_id}"
        return OperationError(
            f"The prompt waits for {what}, and everything after it in its session.",
            code="waits_for_person",
            hint=f"Decide on a terminal with `{connect}`, or have a server decide with POST {route}.",
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person said about a tool call."""

    approved: bool
    reason: str | None = None


def read_decision(line: str) -> Decision | None:
    """Read `y`, or `n` and perhaps a reason; None for anything else."""
    word, _, rest = line.strip().partition(" ")
    if word.lower() in ("y", "yes") and not rest.strip():
        return Decision(approved=True)
    if word.lower() in ("n", "no"):
        return Decision(approved=False, reason=rest.strip() or None)
    return None


def read_budget(line: str) -> dict[str, float]:
    """Read limits as in `usd=2 turns=40`. Raises `UsageError` for anything else."""
    limits = {}
    for part in line.replace(",", " ").split() or [""]:
        name, equals, number = part.partition("=")
        try:
            limits[name] = int(number) if number.isdecimal() else float(number)
        except ValueError:
            equals = ""
        if not equals:
            raise UsageError(f'"{part}" is no limit.', code="invalid_input", hint="Write for example usd=2 turns=40.")
    as_budget(limits)
    return limits

"""`schedule(...)`: what an agent or a workflow is given again and again, or at one time."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from flue.definitions.agent import Agent
from flue.definitions.checks import check_text
from flue.definitions.timing import MISSED, Missed, Timing
from flue.errors import DefinitionError
from flue.registrations import current_registrations

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A schedule as it was defined. Either `agent` (with `instance` and `session`) or `workflow` is given.

    `input` is what the agent is given, or the workflow's payload: JSON values.
    """

    id: str
    timing: Timing
    missed: Missed = "once"
    agent: Agent | str | None = None
    instance: str = ""
    session: str = "default"
    workflow: str | None = None
    input: Any = None


def schedule(
    agent: Agent | str | None = None,
    *,
    id: str,
    cron: str | None = None,
    every: float | str | timedelta | None = None,
    at: datetime | str | None = None,
    input: Any = None,
    instance: str | None = None,
    session: str = "default",
    workflow: str | None = None,
    timezone: str = "UTC",
    missed: Missed = "once",
) -> None:
    """Give an agent `input` whenever it is time, as `dispatch` does, or start a workflow with it as its payload.

    Call it at module level of a project; the project's server keeps the time. `id` names the schedule in the project.

    `cron` is five fields: minute, hour, day of month, month, day of week, in `timezone`. `every` is seconds, a
    timedelta or text like "1h", counted from when the server first sees it. `at` is one time: a datetime or ISO 8601
    text, in `timezone` where it names none of its own; one that is past when the server first sees it never comes.

    `agent` is an agent of the project or its name, `instance` (default: the schedule's id) and `session` say which
    conversation. `workflow` is a workflow's name instead.

    Each time is admitted exactly once, on however many servers, and then survives like everything that was accepted.
    `missed` says what becomes of times when no server ran: "once" makes up for the last of them, "all" for each, the
    last 100 at most, "skip" for none that is more than a minute ago.

    Raises `DefinitionError` with the field's name; `duplicate_schedule` for an id that is taken.
    """
    _check_id(id)
    owner = f'schedule "{id}"'
    _check_target(owner, agent, workflow, instance, session)
    if missed not in MISSED:
        raise DefinitionError(f"{owner}: missed must be one of {', '.join(MISSED)}, got {missed!r}.")
    made = Schedule(
        id=id,
        timing=Timing.of(owner, cron=cron, every=every, at=at, timezone=timezone),
        missed=missed,
        agent=agent,
        instance=(id if instance is None else instance) if workflow is None else "",
        session=session,
        workflow=workflow,
        input=_own_json(input, owner),
    )
    schedules = current_registrations().schedules
    if any(known.id == id for known in schedules):
        raise DefinitionError(
            f"{owner}: there is one with this id already.",
            code="duplicate_schedule",
            hint="Give each schedule of the project an id of its own.",
        )
    schedules.append(made)


def _check_id(id: object) -> None:
    if not isinstance(id, str) or not _ID.match(id):
        raise DefinitionError(
            f"schedule: id must be text of letters, digits and . _ : -, 100 at most, got {id!r}.",
            hint="It begins with a letter or a digit.",
        )


def _check_target(owner: str, agent: object, workflow: object, instance: object, session: object) -> None:
    if (agent is None) == (workflow is None):
        raise DefinitionError(f"{owner}: either an agent or workflow= is needed, and one of them.")
    if workflow is not None:
        check_text(workflow, owner, "workflow")
        if instance is not None or session != "default":
            raise DefinitionError(f"{owner}: instance and session belong to agents; a workflow has neither.")
    elif not isinstance(agent, Agent):
        check_text(agent, owner, "agent")
    if instance is not None:
        check_text(instance, owner, "instance")
    check_text(session, owner, "session")


def _own_json(input: Any, owner: str) -> Any:
    try:
        return json.loads(json.dumps(input, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise DefinitionError(f"{owner}: input cannot be written as JSON: {error}.") from error

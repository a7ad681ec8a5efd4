"""Tasks: work given to a child session, by the application (`session.task`) or by the model (the `task` tool).

A task without a name gets a child of its own. A named one keeps its child: the session remembers it while it is open,
the store after that, and the next task of that name goes on with its conversation.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from flue.definitions.tool import Tool, ToolContext, ToolResult
from flue.errors import SessionError, UsageError
from flue.events import Scope, TaskEnd, TaskStart
from flue.harness.env import SessionEnv
from flue.harness.history import History
from flue.harness.journal import UNJOURNALED
from flue.harness.meter import Meters
from flue.harness.prompting import CallOptions
from flue.harness.responses import PromptResponse, ResultResponse
from flue.harness.results import ResultType
from flue.harness.setup import for_subagent
from flue.messages import Json

if TYPE_CHECKING:
    from flue.harness.session import Session

MAX_DEPTH = 4
# Without colons: the storage name `task:<parent>:<name>` then belongs to one parent and one name only.
TASK_NAME = r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}"


@dataclass(slots=True)
class NamedTask:
    """A named child of a session. One task at a time works in it; others wait in the order they were given."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    child: Session | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is to be done, by whom and where. `from_model` says that the model gave it."""

    text: str
    agent: str | None
    cwd: str | None
    name: str | None
    from_model: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """A task that came back: in which child, under which id, with what."""

    child: Session
    task_id: str
    reply: PromptResponse | ResultResponse[Any]


def check_task_name(name: object) -> None:
    """Raise `UsageError` (code `invalid_task_name`) for a name that no task can have."""
    if name is not None and (not isinstance(name, str) or not re.fullmatch(TASK_NAME, name)):
        raise UsageError(
            f"A task cannot be named {name!r}.",
            code="invalid_task_name",
            hint="Use letters, digits, '_', '-' and '.', 64 at most, beginning with a letter or a digit.",
        )


async def run_task(
    parent: Session, scope: Scope, work: Work, wanted: ResultType | None, options: CallOptions
) -> PromptResponse | ResultResponse[Any]:
    """Run a child session to the end of one prompt and return its answer; its conversation is kept."""
    return (await _run(parent, scope, work, wanted, options)).reply


async def _run(parent: Session, scope: Scope, work: Work, wanted: ResultType | None, options: CallOptions) -> Done:
    if parent.depth >= MAX_DEPTH:
        raise UsageError(f"Maximum task depth ({MAX_DEPTH}) exceeded.", code="task_depth")
    check_task_name(work.name)
    task_id = parent.harness.runtime.ids.uuid()
    if work.name is None:
        child = await _open_new(parent, work, task_id)
        return Done(child, task_id, await _prompt(parent, child, scope, work, task_id, wanted, options))
    named = parent.named_tasks.setdefault(work.name, NamedTask())
    async with named.lock:
        child = named.child = await _open_named(parent, named.child, work, task_id)
        return Done(child, task_id, await _prompt(parent, child, scope, work, task_id, wanted, options))


async def _prompt(  # noqa: PLR0917 - one of each
    parent: Session,
    child: Session,
    scope: Scope,
    work: Work,
    task_id: str,
    wanted: ResultType | None,
    options: CallOptions,
) -> PromptResponse | ResultResponse[Any]:
    clock, emitter = parent.harness.runtime.clock, parent.harness.emitter
    agent = child.history.metadata["agent"]
    task_scope = replace(scope, task_id=task_id, parent_session=parent.name)
    child.operations.scope = replace(child.operations.scope, task_id=task_id)
    started = clock.monotonic()
    emitter.emit(task_scope, TaskStart, work.text, agent, work.cwd)
    reply: PromptResponse | ResultResponse[Any] | None = None
    try:
        with parent.approvals.including(child.approvals):
            reply = await child.start_prompt(work.text, wanted, _options(parent, agent, work, options), "task")
        return reply
    finally:
        milliseconds = round((clock.monotonic() - started) * 1000)
        emitter.emit(task_scope, TaskEnd, reply is None, milliseconds, agent, reply)


def _options(parent: Session, agent: str | None, work: Work, options: CallOptions) -> CallOptions:
    """Return a task's options: what its caller set, and the budget of its subagent.

    Where the model is the caller, model, thinking level and role are those of the prompt that it answers. They reach a
    child unless its profile has its own; the role never reaches a subagent.
    """
    # What a task spends is spent by the session and the call that gave it, too. Its steps are not its giver's.
    options = replace(options, meters=Meters.of((parent.meter, *options.meters)), journal=UNJOURNALED, cut_off="")
    if agent is None:
        return options
    profile = parent.setup.subagent(agent)
    options = replace(options, budget=options.budget or profile.budget)
    if not work.from_model:
        return options
    return replace(
        options,
        role=None,
        model=None if profile.model is not None else options.model,
        thinking_level=None if profile.thinking_level is not None else options.thinking_level,
    )


async def _open_new(parent: Session, work: Work, task_id: str) -> Session:
    if work.agent is not None:
        parent.setup.subagent(work.agent)
    env = parent.setup.env if work.cwd is None else parent.setup.env.scoped(work.cwd)
    runtime, name = parent.harness.runtime, _session_name(parent, work.name or task_id)
    history = History(parent.harness.session_key(name), runtime.store, runtime.clock, runtime.ids)
    history.set_metadata(
        parentSession=parent.name, taskId=task_id, cwd=env.cwd, agent=work.agent, depth=parent.depth + 1
    )
    if not runtime.store.can_list:
        _note(parent, {"session": name, "taskId": task_id, "storageKey": history.key})
    return await _open_child(parent, name, history, env)


def _note(parent: Session, task: Json) -> None:
    """Note a task's session, for the day when the parent is deleted."""
    # A named child is known already when its first task ended before anything of it was stored.
    known = [one for one in parent.history.metadata.get("taskSessions", []) if one["session"] != task["session"]]
    parent.history.set_metadata(taskSessions=[*known, task])
    parent.history.write()


async def _open_named(parent: Session, child: Session | None, work: Work, task_id: str) -> Session:
    """Return the child of that name: the one that is open, else the stored one, else a new one."""
    runtime, name = parent.harness.runtime, _session_name(parent, work.name or task_id)
    if child is not None and child.history.stale:
        child = None  # another process has gone on with it
    if child is None:
        key = parent.harness.session_key(name)
        history = await History.load(key, runtime.store, runtime.clock, runtime.ids)
        if history is None:
            return await _open_new(parent, work, task_id)
    else:
        history = child.history
    begun_by = history.metadata["agent"]
    if work.agent not in (None, begun_by):
        owner = "without a subagent" if begun_by is None else f'by "{begun_by}"'
        raise SessionError(
            f'The task "{work.name}" was begun {owner}, so "{work.agent}" cannot go on with it.',
            code="task_mismatch",
            hint="Leave the agent out to go on, or choose another name.",
        )
    env = parent.setup.env.scoped(history.metadata["cwd"] if work.cwd is None else work.cwd)
    if child is not None and child.setup.env.cwd == env.cwd:
        return child
    history.set_metadata(cwd=env.cwd)
    return await _open_child(parent, name, history, env)


async def _open_child(parent: Session, name: str, history: History, env: SessionEnv) -> Session:
    agent = history.metadata["agent"]
    profile = for_subagent(parent.setup.profile, None if agent is None else parent.setup.subagent(agent))
    scope = replace(parent.harness.scope, parent_session=parent.name)
    # A subagent is somebody else: it has the role that its own task names, or none.
    role = parent.role if agent is None else None
    depth = parent.depth + 1
    return await parent.harness.open_child(name, profile, env, history, depth=depth, scope=scope, role=role)


def _session_name(parent: Session, name: str) -> str:
    return f"task:{parent.name}:{name}"


def is_task_of(name: str, session: str) -> bool:
    """Say whether a session's name is that of a task of `session`, or of a task of such a task."""
    while name.startswith("task:"):
        name = name.removeprefix("task:").rpartition(":")[0]
        if name == session:
            return True
    return False


def task_tool(session: Session, scope: Scope, options: CallOptions) -> Tool:
    """Return the `task` tool: the model gives work to a child session and reads its answer."""
    profile = session.setup.profile
    agents = "; ".join(
        f"{child.name}: {child.description}" if child.description else str(child.name) for child in profile.subagents
    )
    inherited = replace(options, images=(), budget=None)

    async def execute(arguments: Json, _context: ToolContext) -> ToolResult:
        agent, cwd = arguments.get("agent"), arguments.get("cwd")
        work = Work(text=arguments["prompt"], agent=agent, cwd=cwd, name=arguments.get("name"), from_model=True)
        done = await _run(session, scope, work, None, inherited)
        assert isinstance(done.reply, PromptResponse)
        details = {
            "taskId": done.task_id,
            "session": done.child.name,
            "messageId": done.child.history.path[-1].id,
            "agent": agent,
            "cwd": cwd,
        }
        return ToolResult.from_text(done.reply.text or "(task completed with no text)", details)

    return Tool(
        name="task",
        description=(
            "Hand a piece of work to another agent. It has the same files, knows nothing of this conversation, and "
            "answers once, so say in the prompt everything it needs. Give the work a name to ask the same agent more "
            "later: a further task of that name goes on where it left off. "
            + (f"Agents to choose from: {agents}." if agents else "No named agents are declared; leave `agent` out.")
        ),
        parameters={
            "type": "object",
            "properties": {
                "prompt": {"type": "string", "description": "The work, complete with what must be known to do it."},
                "description": {"type": "string", "description": "A few words that name the work."},
                "agent": {"type": "string", "description": "Name of the agent to give it to."},
                "cwd": {"type": "string", "description": "Directory to work in."},
                "name": {
                    "type": "string",
                    "pattern": f"^{TASK_NAME}$",
                    "description": "Name of the conversation with the agent, to go on with it in a later task.",
                },
            },
            "required": ["prompt"],
        },
        execute=execute,
    )

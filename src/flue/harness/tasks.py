"""Tasks: work given to a child session, by the application (`session.task`) or by the model (the `task` tool)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flue.definitions.tool import Tool, ToolContext, ToolResult
from flue.errors import UsageError
from flue.events import Scope, TaskEnd, TaskStart
from flue.harness.history import History
from flue.harness.meter import Meters
from flue.harness.prompting import CallOptions
from flue.harness.responses import PromptResponse, ResultResponse
from flue.harness.results import ResultType
from flue.harness.setup import for_subagent
from flue.messages import Json

if TYPE_CHECKING:
    from flue.harness.session import Session

MAX_DEPTH = 4


async def run_task(
    parent: Session,
    scope: Scope,
    text: str,
    *,
    agent: str | None,
    cwd: str | None,
    wanted: ResultType | None,
    options: CallOptions,
) -> PromptResponse | ResultResponse[Any]:
    """Run a child session to the end of one prompt and return its answer; its conversation is kept."""
    harness = parent.harness
    clock, emitter = harness.runtime.clock, harness.emitter
    task_id = harness.runtime.ids.uuid()
    child = await _open_child(parent, task_id, agent, cwd)
    task_scope = replace(scope, task_id=task_id, parent_session=parent.name)
    started = clock.monotonic()
    emitter.emit(task_scope, TaskStart, text, agent, cwd)
    reply: PromptResponse | ResultResponse[Any] | None = None
    # What a task spends is spent by the session and the call that gave it, too.
    options = replace(options, meters=Meters.of((parent.meter, *options.meters)))
    try:
        reply = await child.start_prompt(text, wanted, options, "task")
        return reply
    finally:
        milliseconds = round((clock.monotonic() - started) * 1000)
        emitter.emit(task_scope, TaskEnd, reply is None, milliseconds, agent, reply)


async def _open_child(parent: Session, task_id: str, agent: str | None, cwd: str | None) -> Session:
    depth = parent.depth + 1
    if depth > MAX_DEPTH:
        raise UsageError(f"Maximum task depth ({MAX_DEPTH}) exceeded.", code="task_depth")
    harness, setup = parent.harness, parent.setup
    profile = for_subagent(setup.profile, None if agent is None else setup.subagent(agent))
    env = setup.env if cwd is None else setup.env.scoped(cwd)
    name = f"task:{parent.name}:{task_id}"
    history = History(harness.session_key(name), harness.runtime.store, harness.runtime.clock, harness.runtime.ids)
    history.set_metadata(parentSession=parent.name, taskId=task_id, cwd=env.cwd, agent=agent, depth=depth)
    known = parent.history.metadata.get("taskSessions", [])
    task = {"session": name, "taskId": task_id, "storageKey": history.key}
    parent.history.set_metadata(taskSessions=[*known, task])
    parent.history.write()
    scope = replace(harness.scope, parent_session=parent.name, task_id=task_id)
    return await harness.open_child(name, profile, env, history, depth=depth, scope=scope)


def task_tool(session: Session, scope: Scope, options: CallOptions) -> Tool:
    """Return the `task` tool: the model gives work to a child session and reads its answer."""
    profile = session.setup.profile
    agents = "; ".join(
        f"{child.name}: {child.description}" if child.description else str(child.name) for child in profile.subagents
    )
    inherited = replace(options, images=(), budget=None)

    async def execute(arguments: Json, _context: ToolContext) -> ToolResult:
        agent = arguments.get("agent")
        reply = await run_task(
            session,
            scope,
            arguments["prompt"],
            agent=agent,
            cwd=arguments.get("cwd"),
            wanted=None,
            options=_for_child(session, agent, inherited),
        )
        assert isinstance(reply, PromptResponse)
        details = {"agent": agent, "cwd": arguments.get("cwd")}
        return ToolResult.from_text(reply.text or "(task completed with no text)", details)

    return Tool(
        name="task",
        description=(
            "Hand a piece of work to another agent. It has the same files, knows nothing of this conversation, and "
            "answers once, so say in the prompt everything it needs. "
            + (f"Agents to choose from: {agents}." if agents else "No named agents are declared; leave `agent` out.")
        ),
        parameters={
            "type": "object",
            "properties": {
                "prompt": {"type": "string", "description": "The work, complete with what must be known to do it."},
                "description": {"type": "string", "description": "A few words that name the work."},
                "agent": {"type": "string", "description": "Name of the agent to give it to."},
                "cwd": {"type": "string", "description": "Directory to work in."},
            },
            "required": ["prompt"],
        },
        execute=execute,
    )


def _for_child(session: Session, agent: str | None, options: CallOptions) -> CallOptions:
    """Return a call's options for a child: its model and thinking level reach it unless its profile has its own."""
    if agent is None:
        return options
    profile = session.setup.subagent(agent)
    return replace(
        options,
        model=None if profile.model is not None else options.model,
        thinking_level=None if profile.thinking_level is not None else options.thinking_level,
    )

"""A project's workflows and agents as tools to be served."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from flue.cli.failures import error_of, report_run
from flue.cli.following import Shown, end
from flue.cli.opening import Opened
from flue.cli.raised import Raised
from flue.cli.waiting import Waiting
from flue.durable.records import Outcome, Submission
from flue.engine.admissions import session_lane
from flue.engine.service import Service, Ticket, waits_for_person
from flue.errors import FlueError
from flue.mcp.serving import Answer, Progress, ServedTool, cancelled_by_client
from flue.messages import Json
from flue.project.described import documentation, payload_schema
from flue.project.modules import AgentModule, WorkflowModule

ANY_OBJECT: Json = {"type": "object", "additionalProperties": True}
AGENT_ARGUMENTS: Json = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "minLength": 1, "description": "Which instance of the agent; it remembers its past."},
        "message": {"type": "string", "minLength": 1, "description": "What to tell or ask the agent."},
        "session": {
            "type": "string",
            "minLength": 1,
            "default": "default",
            "description": "A conversation of that instance, to keep topics apart.",
        },
    },
    "required": ["id", "message"],
    "additionalProperties": False,
}


def served_tools(opened_: Opened, service: Service, raised: Raised, say: Callable[[str], None]) -> list[ServedTool]:
    """Return a tool for every workflow and every agent that holds conversations. Raises `ConfigError`."""
    serving = Serving(opened_, service, raised, say)
    tools = [serving.workflow(module) for module in opened_.project.workflows.values()]
    for module in opened_.project.agents.values():
        if module.agent is not None:
            tools.append(serving.agent(module))
        else:
            say(f"agent {module.name} defines run(ctx), which holds no conversation; it is not served.")
    return tools


class Serving:
    """Has what clients call done by a service: it is accepted, and only a client that cancels its call aborts it."""

    def __init__(self, opened_: Opened, service: Service, raised: Raised, say: Callable[[str], None]) -> None:
        self._opened = opened_
        self._service = service
        self._raised = raised
        self._say = say

    def workflow(self, module: WorkflowModule) -> ServedTool:
        """Return the tool of a workflow; its arguments are the payload."""

        async def run(payload: Json, progress: Progress) -> Answer:
            return await self._reported(module.name, self._run_workflow(module.name, payload, progress))

        description = documentation(module) or f"Runs the workflow {module.name}."
        schema = payload_schema(module, self._opened.project.layout.shown(module.path))
        return ServedTool(module.name, description, schema or ANY_OBJECT, run)

    def agent(self, module: AgentModule) -> ServedTool:
        """Return the tool of an agent."""

        async def run(arguments: Json, progress: Progress) -> Answer:
            return await self._reported(module.name, self._prompt(module.name, arguments, progress))

        described = documentation(module)
        description = f"Sends a message to the agent {module.name} and returns its answer."
        return ServedTool(
            f"agent_{module.name}", f"{description}\n{described}" if described else description, AGENT_ARGUMENTS, run
        )

    async def _run_workflow(self, name: str, payload: Json, progress: Progress) -> Answer:
        id, found = await self._done(self._service.start_workflow(name, payload), progress)
        assert isinstance(found, Outcome), "a run waits for no person"
        if found.kind != "completed":
            raise self._raised.take(id) or error_of(found)
        return Answer.of(json.loads(found.result or "null"))

    async def _prompt(self, name: str, arguments: Json, progress: Progress) -> Answer:
        instance, session = arguments["id"], arguments.get("session", "default")
        for first in (await self._service.store.list_lane(session_lane(name, instance, session)))[:1]:
            if waits_for_person(first):
                # The answer would wait for the same person, and the client for it.
                raise Waiting.of(first).error
        asking = self._service.prompt(name, instance, arguments["message"], session=session)
        _, found = await self._done(asking, progress)
        if isinstance(found, Submission):
            raise Waiting.of(found).error
        if found.kind != "completed":
            raise error_of(found)
        facts = json.loads(found.result or "{}")
        return Answer(facts.pop("text"), meta=facts)

    async def _done(self, asking: Coroutine[Any, Any, Ticket], progress: Progress) -> tuple[str, Outcome | Submission]:
        """Have something accepted, and wait until it has ended, or a prompt waits for a person."""
        accepting = asyncio.ensure_future(asking)
        showing: asyncio.Task[None] | None = None
        try:
            id = (await asyncio.shield(accepting)).id
            showing = asyncio.create_task(Shown(self._service, id, lambda event: _tell(event, progress)).to_the_end())
            found = await self._service.engine.outcome(id, until=waits_for_person)
            if isinstance(found, Outcome):
                await showing
        except asyncio.CancelledError as cancelled:
            if cancelled_by_client(cancelled):
                with contextlib.suppress(FlueError):  # refused: there is nothing to end
                    await end(self._service, (await accepting).id)
            raise
        finally:
            if showing is not None:
                showing.cancel()
        return id, found

    async def _reported(self, name: str, work: Awaitable[Answer]) -> Answer:
        self._say(f"{name}: called")
        try:
            answer = await work
        except asyncio.CancelledError as cancelled:
            self._say(f"{name}: {'cancelled' if cancelled_by_client(cancelled) else 'left, as the server ends'}")
            raise
        except Exception as error:
            report_run(error, self._opened.project, debug=False)
            raise
        self._say(f"{name}: done")
        return answer


def _tell(event: Mapping[str, Any], progress: Progress) -> None:
    match event.get("type"):
        case "tool_start":
            progress(f"tool {event['toolName']}")
        case "task_start":
            progress(f"task {event.get('agent') or ''}".rstrip())
        case "log":
            progress(event["message"])

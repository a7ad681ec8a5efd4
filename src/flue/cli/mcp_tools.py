"""A project's workflows and agents as tools to be served."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from weakref import WeakValueDictionary

from flue.cli.failures import report_run
from flue.cli.opening import Opened
from flue.definitions.agent import Agent
from flue.errors import ConfigError
from flue.events import Event, Log, TaskStart, ToolStart
from flue.harness.runs import run_workflow
from flue.mcp.serving import Answer, Progress, ServedTool
from flue.messages import Json
from flue.ports import Store
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


def served_tools(opened_: Opened, store: Store, say: Callable[[str], None], *, debug: bool) -> list[ServedTool]:
    """Return a tool for every workflow and every agent that holds conversations. Raises `ConfigError`."""
    serving = Serving(opened_, store, say, debug=debug)
    tools = [serving.workflow(module) for module in opened_.project.workflows.values()]
    for module in opened_.project.agents.values():
        if module.agent is not None:
            tools.append(serving.agent(module, module.agent))
        else:
            say(f"agent {module.name} defines run(ctx), which holds no conversation; it is not served.")
    return tools


class Serving:
    """Runs what clients call."""

    def __init__(self, opened_: Opened, store: Store, say: Callable[[str], None], *, debug: bool) -> None:
        self._opened = opened_
        self._store = store
        self._say = say
        self._debug = debug
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    def workflow(self, module: WorkflowModule) -> ServedTool:
        """Return the tool of a workflow; its arguments are the payload."""

        async def run(payload: Json, progress: Progress) -> Answer:
            return await self._reported(module.name, self._run_workflow(module, payload, progress))

        described = _documentation(module.module) or _documentation(module.run)
        description = described or f"Runs the workflow {module.name}."
        return ServedTool(module.name, description, self._payload_schema(module), run)

    def agent(self, module: AgentModule, agent: Agent) -> ServedTool:
        """Return the tool of an agent."""

        async def run(arguments: Json, progress: Progress) -> Answer:
            return await self._reported(module.name, self._prompt(module.name, agent, arguments, progress))

        described = _documentation(module.module)
        description = f"Sends a message to the agent {module.name} and returns its answer."
        return ServedTool(
            f"agent_{module.name}", f"{description}\n{described}" if described else description, AGENT_ARGUMENTS, run
        )

    async def _run_workflow(self, module: WorkflowModule, payload: Json, progress: Progress) -> Answer:
        from flue.host import open_context

        async with open_context(
            workflow=module.name,
            payload=payload,
            env=self._opened.env,
            store=self._store,
            roles=self._opened.project.roles.values(),
            registrations=self._opened.project.registrations,
            on_event=lambda event: _tell(event, progress),
        ) as ctx:
            return Answer.of(await run_workflow(ctx, module.run, name=module.name))

    async def _prompt(self, name: str, agent: Agent, arguments: Json, progress: Progress) -> Answer:
        from flue.host import open_context

        lock = self._locks.setdefault((name, arguments["id"]), asyncio.Lock())
        # Each call has a context of its own; two at once would write to one conversation behind each other's back.
        async with (
            lock,
            open_context(
                agent=name,
                id=arguments["id"],
                env=self._opened.env,
                store=self._store,
                registrations=self._opened.project.registrations,
                on_event=lambda event: _tell(event, progress),
            ) as ctx,
        ):
            harness = await ctx.init(agent)
            session = await harness.session(arguments.get("session", "default"))
            reply = await session.prompt(arguments["message"])
            facts = reply.to_json()
            return Answer(facts.pop("text"), meta=facts)

    async def _reported(self, name: str, work: Awaitable[Answer]) -> Answer:
        self._say(f"{name}: called")
        try:
            answer = await work
        except asyncio.CancelledError:
            self._say(f"{name}: cancelled")
            raise
        except Exception as error:
            report_run(error, self._opened.project, debug=self._debug)
            raise
        self._say(f"{name}: done")
        return answer

    def _payload_schema(self, module: WorkflowModule) -> Json:
        payload = getattr(module.module, "Payload", None)
        if payload is None:
            return ANY_OBJECT
        from pydantic import TypeAdapter
        from pydantic.errors import PydanticUserError

        file = self._opened.project.layout.shown(module.path)
        try:
            schema = TypeAdapter(payload).json_schema()
        except PydanticUserError as error:
            problem = f"{file}: `Payload` has no JSON Schema: {error.message}."
            raise ConfigError(problem, code="invalid_module", hint=_PAYLOAD) from error
        if schema.get("type") != "object":
            raise ConfigError(f"{file}: `Payload` does not describe an object.", code="invalid_module", hint=_PAYLOAD)
        return schema


_PAYLOAD = "Make it a pydantic model, a dataclass or a TypedDict."


def _documentation(thing: object) -> str:
    own = getattr(thing, "__doc__", None)
    return inspect.cleandoc(own) if isinstance(own, str) else ""


def _tell(event: Event, progress: Progress) -> None:
    match event:
        case ToolStart():
            progress(f"tool {event.tool_name}")
        case TaskStart():
            progress(f"task {event.agent or ''}".rstrip())
        case Log():
            progress(event.message)

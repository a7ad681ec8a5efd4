"""`flue run`: one run of a workflow, or of a function agent, in this process.

Its result goes to stdout as JSON, everything else to stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import shlex
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flue.cli.arguments import add_project_options
from flue.cli.failures import report_run
from flue.cli.interrupts import Interrupts
from flue.cli.opening import Opened, opened
from flue.cli.render import Renderer
from flue.errors import ConfigError
from flue.harness.context import FlueContext
from flue.harness.runs import run_agent, run_workflow
from flue.project.loader import Project


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("name", help="a file in workflows/, by its name; with --id one in agents/")
    parser.add_argument("--payload", default="{}", metavar="JSON", help="what the function finds in ctx.payload")
    parser.add_argument("--id", metavar="INSTANCE", help="run the agent's `run(ctx)` for this instance")
    add_project_options(parser)


def execute(args: argparse.Namespace) -> int:
    """Run the function and print its result; nothing when it returned None."""
    payload = _payload(args.payload)
    path = f"workflows/{args.name}?wait=result" if args.id is None else f"agents/{args.name}/{shlex.quote(args.id)}"
    call = f"curl https://<your-worker>/{path} -H 'content-type: application/json' -d {shlex.quote(args.payload)}"
    stdout, interrupts = sys.stdout, Interrupts()
    with opened(args, elsewhere=f"call the deployed Worker: {call}") as project:
        work = _workflow(args.name, project.project) if args.id is None else _agent(args.name, args.id, project.project)
        return interrupts.run(_run(work, payload, project, stdout, interrupts, debug=args.debug))


@dataclass(frozen=True, slots=True)
class _Work:
    """What is run: its kind and name for people, how its context is opened, and the call itself."""

    kind: str
    label: str
    context: Mapping[str, Any]
    call: Callable[[FlueContext], Awaitable[Any]]


def _workflow(name: str, project: Project) -> _Work:
    if name not in project.workflows and (agent := project.agents.get(name)) is not None and agent.run is not None:
        raise ConfigError(
            f'"{name}" is an agent, which runs for an instance.',
            code="workflow_not_found",
            hint=f"Name one: flue run {name} --id <instance-id>.",
        )
    run = project.workflow(name).run
    return _Work("workflow", name, {"workflow": name}, lambda ctx: run_workflow(ctx, run, name=name))


def _agent(name: str, instance: str, project: Project) -> _Work:
    from flue.host import SystemIds

    module = project.agent(name)
    run = module.run
    if run is None:
        raise ConfigError(
            f"{project.layout.shown(module.path)} defines `agent`, which answers prompts and has no run of its own.",
            code="agent_not_runnable",
            hint=f"Talk to it with `flue connect {name} {shlex.quote(instance)}`.",
        )
    context = {"agent": name, "id": instance, "run_id": f"run_{SystemIds().ulid()}"}
    return _Work("agent", f"{name}/{instance}", context, lambda ctx: run_agent(ctx, run, name=name))


async def _run(work: _Work, payload: Any, opened_: Opened, stdout: Any, interrupts: Interrupts, *, debug: bool) -> int:
    from flue.host import open_context

    project = opened_.project
    renderer = Renderer(sys.stderr)
    renderer.say(f"Running {work.kind}: {work.label}")
    context = open_context(
        payload=payload,
        env=opened_.env,
        store=opened_.store,
        roles=project.roles.values(),
        registrations=project.registrations,
        on_event=renderer,
        **work.context,
    )
    try:
        async with context as ctx:
            renderer.say(f"Run ID: {ctx.run_id}")
            result = await work.call(ctx)
    except (Exception, SystemExit, asyncio.CancelledError) as error:
        if interrupts.received is not None:
            raise
        renderer.end_line()
        report_run(error, project, what=work.kind, debug=debug)
        return 1
    renderer.say("Done.")
    if result is not None:
        print(json.dumps(result, indent=2, ensure_ascii=False), file=stdout, flush=True)
    return 0


def _payload(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except ValueError as error:
        raise ConfigError(
            f"--payload is not JSON: {error}.",
            code="invalid_payload",
            hint="""Quote it for the shell, for example --payload '{"name": "Ada"}'.""",
        ) from error


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large for a number")
    return number

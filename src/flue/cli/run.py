"""`flue run <workflow>`: one run in this process; its result as JSON on stdout, everything else on stderr."""

from __future__ import annotations

import argparse
import asyncio
import inspect
import json
import shlex
import sys
from typing import Any

from flue.cli.arguments import add_project_options
from flue.cli.failures import report_run
from flue.cli.interrupts import Interrupts
from flue.cli.opening import Opened, opened
from flue.cli.render import Renderer
from flue.errors import ConfigError
from flue.harness.json_values import json_result
from flue.project.modules import WorkflowModule


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("workflow", help="a file in workflows/, by its name")
    parser.add_argument("--payload", default="{}", metavar="JSON", help="what the workflow finds in ctx.payload")
    add_project_options(parser)


def execute(args: argparse.Namespace) -> int:
    """Run the workflow and print its result; nothing when it returned None."""
    payload = _payload(args.payload)
    call = f"curl https://<your-worker>/workflows/{args.workflow}?wait=result"
    call += f" -H 'content-type: application/json' -d {shlex.quote(args.payload)}"
    stdout, interrupts = sys.stdout, Interrupts()
    with opened(args, elsewhere=f"call the deployed Worker: {call}") as project:
        workflow = project.project.workflow(args.workflow)
        return interrupts.run(_run(workflow, payload, project, stdout, debug=args.debug))


async def _run(workflow: WorkflowModule, payload: Any, opened_: Opened, stdout: Any, *, debug: bool) -> int:
    from flue.host import open_context

    project = opened_.project
    renderer = Renderer(sys.stderr)
    renderer.say(f"Running workflow: {workflow.name}")
    context = open_context(
        workflow=workflow.name,
        payload=payload,
        env=opened_.env,
        store=opened_.store,
        registrations=project.registrations,
        on_event=renderer,
    )
    try:
        async with context as ctx:
            renderer.say(f"Run ID: {ctx.id}")
            value = workflow.run(ctx)
            result = json_result(await value if inspect.isawaitable(value) else value)
    except (Exception, asyncio.CancelledError) as error:
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise
        renderer.end_line()
        report_run(error, project, debug=debug)
        return 1
    renderer.say("Done.")
    if result is not None:
        print(json.dumps(result, indent=2, ensure_ascii=False), file=stdout, flush=True)
    return 0


def _payload(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except ValueError as error:
        raise ConfigError(
            f"--payload is not JSON: {error}.",
            code="invalid_payload",
            hint="""Quote it for the shell, for example --payload '{"name": "Ada"}'.""",
        ) from error


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")

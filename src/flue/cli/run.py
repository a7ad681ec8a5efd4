"""`flue run`: one run of a workflow, or of a function agent, in this process.

Its result goes to stdout as JSON, everything else to stderr. The run is recorded and on disk as every other. It belongs
to this command: Ctrl-C and SIGTERM abort it. What a killed command leaves is for servers to restart, not for the next
`flue run`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import shlex
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TextIO

from flue.cli.arguments import add_json_option, add_project_options
from flue.cli.failures import error_of, report_run
from flue.cli.following import accepted, follow_run
from flue.cli.interrupts import Interrupts
from flue.cli.opening import Opened, opened
from flue.cli.output import write_json
from flue.cli.raised import Raised
from flue.cli.render import Renderer
from flue.durable.records import Outcome, Submission
from flue.engine.service import Service, Ticket
from flue.engine.wire_records import run_record
from flue.errors import ConfigError
from flue.project.catalog import catalog_of
from flue.project.loader import Project


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("name", help="a file in workflows/, by its name; with --id one in agents/")
    parser.add_argument("--payload", default="{}", metavar="JSON", help="what the function finds in ctx.payload")
    parser.add_argument("--id", metavar="INSTANCE", help="run the agent's `run(ctx)` for this instance")
    add_json_option(parser, "print the run's record, with its result or error, on one line")
    add_project_options(parser)


def execute(args: argparse.Namespace) -> int:
    """Run the function and print its result; nothing when it returned None."""
    payload = _payload(args.payload)
    path = f"workflows/{args.name}?wait=result" if args.id is None else f"agents/{args.name}/{shlex.quote(args.id)}"
    call = f"curl https://<your-worker>/{path} -H 'content-type: application/json' -d {shlex.quote(args.payload)}"
    stdout, interrupts = sys.stdout, Interrupts()
    with opened(args, elsewhere=f"call the deployed Worker: {call}") as project:
        if args.id is None:
            work = _workflow(args.name, payload, project.project)
        else:
            work = _agent(args.name, args.id, payload, project.project)
        return interrupts.run(_run(work, project, stdout, args))


@dataclass(frozen=True, slots=True)
class _Work:
    """What is run: its kind and name for people, and how it is started."""

    kind: str
    label: str
    start: Callable[[Service], Coroutine[Any, Any, Ticket]]


def _workflow(name: str, payload: Any, project: Project) -> _Work:
    project.workflow(name)
    return _Work("workflow", name, lambda service: service.start_workflow(name, payload))


def _agent(name: str, instance: str, payload: Any, project: Project) -> _Work:
    module = project.agent(name)
    if module.run is None:
        raise ConfigError(
            f"{project.layout.shown(module.path)} defines `agent`, which answers prompts and has no run of its own.",
            code="agent_not_runnable",
            hint=f"Talk to it with `flue connect {name} {shlex.quote(instance)}`.",
        )
    return _Work("agent", f"{name}/{instance}", lambda service: service.start_agent(name, instance, payload))


async def _run(work: _Work, opened_: Opened, stdout: TextIO, args: argparse.Namespace) -> int:
    renderer, raised = Renderer(sys.stderr), Raised()
    renderer.say(f"Running {work.kind}: {work.label}")
    async with opened_.service(raised.watching(catalog_of(opened_.project))) as service:
        ticket = await accepted(service, work.start(service))
        renderer.say(f"Run ID: {ticket.id}")
        run_id, outcome = await follow_run(service, ticket.id, renderer)
        renderer.end_line()
        if outcome.kind == "completed":
            renderer.say("Done.")
        else:
            error = raised.take(run_id) or error_of(outcome)
            report_run(error, opened_.project, what=work.kind, debug=args.debug)
        await _print(service, run_id, outcome, stdout, as_record=args.json)
        await _finish_dispatched(service, renderer)
    return 0 if outcome.kind == "completed" else 1


async def _print(service: Service, run_id: str, outcome: Outcome, stdout: TextIO, *, as_record: bool) -> None:
    if as_record:
        run = await service.get_run(run_id)
        assert run is not None
        write_json(run_record(run), stdout)
    elif outcome.kind == "completed" and (result := json.loads(outcome.result or "null")) is not None:
        write_json(result, stdout, pretty=True)


async def _finish_dispatched(service: Service, renderer: Renderer) -> None:
    """Wait for what the run has dispatched and is still under way: nobody else may ever do it."""
    while left := [id for id in service.engine.expected if not await _rests(service, id)]:
        renderer.say(f"Waiting for what was dispatched ({len(left)}).")
        try:
            for id in left:
                await service.engine.outcome(id, until=_is_parked)
        except asyncio.CancelledError:
            renderer.say("What is left goes on with a server (flue dev), or the next prompt to its session.")
            raise


async def _rests(service: Service, id: str) -> bool:
    found = await service.get_submission(id)
    return found is None or found.outcome is not None or _is_parked(found)


def _is_parked(submission: Submission) -> bool:
    return submission.state == "parked"


def _payload(text: str) -> Any:
    try:
        value = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
        json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair can be neither stored nor sent on
        return value
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ConfigError(
            f"--payload is not JSON: {reason}.",
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

"""Errors, as the terminal shows them: one line, and a traceback only when it is asked for."""

from __future__ import annotations

import inspect
import json
import sys
import traceback

from flue.durable.records import Outcome
from flue.errors import FlueError, OperationError, error_message
from flue.project.failures import meant, place_of, single_cause
from flue.project.loader import Project


def describe(error: BaseException) -> str:
    """Return what went wrong and what to do next in one line, without the code."""
    error = single_cause(error)
    text = str(error) if isinstance(error, FlueError) else f"{type(error).__name__}: {error_message(error)}"
    return " ".join(text.split()).rstrip(":")


def report(error: BaseException, *, debug: bool) -> None:
    """Write `error: …` to stderr: message, next step and code, which the documentation lists."""
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    code = f" [{error.code}]" if isinstance(error, FlueError) else ""
    more = "" if debug or isinstance(error, FlueError) else " Run it again with --debug for the traceback."
    print(f"error: {describe(error)}{code}{more}", file=sys.stderr)


def error_of(outcome: Outcome) -> FlueError:
    """Return the error of work that did not succeed, from its record; the code of one without is its name."""
    error = json.loads(outcome.error or "{}")
    code = error.get("code") or error.get("name")
    return OperationError(error.get("message") or "no message", code=code, hint=error.get("hint") or "")


def report_run(error: BaseException, project: Project, *, what: str = "workflow", debug: bool) -> None:
    """Write to stderr how a run failed, with the line of the project's own code where it did."""
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    error = single_cause(error)
    kind = error.code if isinstance(error, FlueError) else type(error).__name__
    text = " ".join(error_message(error).split()) or "no message"
    if isinstance(error, SystemExit):
        text = f"sys.exit({error.code!r}) was called; return a result or raise an error instead."
    if isinstance(error, AttributeError) and inspect.iscoroutine(error.obj):
        text += ". Put `await` before the call that gave it."
    elif name := meant(error):
        text = f"{text.removesuffix('.')}. Did you mean {name!r}?"
    place = place_of(error, project.source_root, project.root)
    where = f" ({place})" if place else ""
    more = "" if debug or isinstance(error, FlueError) else " Run it again with --debug for the traceback."
    print(f"[flue] {what.capitalize()} error: [{kind}] {text}{where}{more}", file=sys.stderr)

"""The `flue` command: finds the command, runs it, and says in one line what went wrong.

Exit codes: 0 done, 1 an error, 130 ended by Ctrl-C, 143 by SIGTERM. Results go to stdout, everything else to stderr.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches

COMMANDS = {
    "init": "write a configuration and a first workflow and agent",
    "dev": "serve the project and reload it when a file changes",
    "build": "make of the project what a server or a container starts",
    "start": "serve the project, or what `flue build` made of it",
    "run": "run a workflow or a function agent once and print its result",
    "connect": "talk to an agent, one prompt a line",
    "logs": "print what happened in a run",
    "mcp": "serve the project as tools of an MCP server",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `flue` with these arguments (default: the process's) and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _open_missing_streams()
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output is gone; there is nobody to tell, and the interpreter must not flush again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def _open_missing_streams() -> None:
    """Put the null device where the caller closed a standard stream (`flue … >&-`): Python has None there.

    Left closed, its number would go to the next file that is opened, and output would end up in that.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            stream = open(number, "w" if number else "r", encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


def _dispatch(arguments: list[str]) -> int:
    if not arguments:
        print(_usage(), file=sys.stderr)
        return 1
    name, rest = arguments[0], arguments[1:]
    if name in ("-h", "--help"):
        print(_usage())
        return 0
    if name == "--version":
        from flue import __version__

        print(f"flue {__version__}")
        return 0
    if name not in COMMANDS:
        kind = "option" if name.startswith("-") else "command"
        close = get_close_matches(name, COMMANDS, n=1)
        guess = f' Did you mean "{close[0]}"?' if close else ""
        print(f'error: Unknown {kind} "{name}".{guess} [invalid_arguments]\n{_usage()}', file=sys.stderr)
        return 1
    return _run(name, rest)


def _run(name: str, rest: list[str]) -> int:
    from flue.cli.arguments import ArgumentsError, Parser

    command = importlib.import_module(f"flue.cli.{name}")
    parser = Parser(f"flue {name}", f"{COMMANDS[name].capitalize()}.")
    command.configure(parser)
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    debug = "--debug" in rest
    try:
        code: int = command.execute(parser.parse_args(rest))
    except ArgumentsError as error:
        print(f"error: {error} [{error.code}]\n{error.usage}", end="", file=sys.stderr)
        return 1
    except SystemExit as stop:  # argparse, after --help
        return stop.code if isinstance(stop.code, int) else 0
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, the user gets one line
        from flue.cli.failures import report

        report(error, debug=debug)
        return 1
    return code


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items()]
    return "\n".join(["usage: flue <command> [options]", "", *lines, "", "`flue <command> --help` lists its options."])

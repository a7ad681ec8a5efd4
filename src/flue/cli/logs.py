"""`flue logs <runId>`: what happened in a run, from a server or from the project's own store.

Exit codes: 0, 2 when the run has ended with an error, 1 when it cannot be read, 130 for Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, nullcontext
from difflib import get_close_matches
from typing import Any

from flue import events
from flue.cli.arguments import add_project_options
from flue.cli.interrupts import Interrupts
from flue.cli.opening import Located, located
from flue.cli.output import write_json
from flue.cli.render import Renderer, WireEvent
from flue.cli.run_logs import RemoteRun, RunLog, StoredRun, replay
from flue.errors import ConfigError, FlueError
from flue.events import Event

DEFAULT_SERVER = "http://127.0.0.1:3583"
ERRORED = 2


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("run", metavar="runId", help="id of a run, as `flue run` and servers give it")
    parser.add_argument("--server", metavar="URL", help=f"where the project is served (default: {DEFAULT_SERVER})")
    parser.add_argument("--header", metavar="NAME:VALUE", action="append", help="send a header; may be repeated")
    parser.add_argument("--local", action="store_true", help="read the project's store, without a server")
    following = parser.add_mutually_exclusive_group()
    following.add_argument("-f", "--follow", action="store_true", default=None, help="go on until the run has ended")
    following.add_argument(
        "--no-follow", dest="follow", action="store_false", help="print what there is (default: follow an active run)"
    )
    parser.add_argument("--since", type=_number, metavar="N", default=-1, help="only events after this eventIndex")
    parser.add_argument("--types", type=_names, metavar="A,B", help="only events of these types")
    parser.add_argument("--limit", type=_number, metavar="N", help="so many events at most")
    parser.add_argument(
        "--format", choices=("pretty", "json", "ndjson"), default="pretty", help="lines for people, or one JSON a line"
    )
    parser.add_argument("--json", dest="format", action="store_const", const="ndjson", help="same as --format ndjson")
    add_project_options(parser)


def execute(args: argparse.Namespace) -> int:
    """Print the run's events."""
    if args.local and (args.server is not None or args.header):
        raise ConfigError("--local asks no server.", code="invalid_arguments", hint="Leave out --server and --header.")
    interrupts = Interrupts()
    with located(args) if args.local else nullcontext() as found:
        return interrupts.run(_logs(args, found))


async def _logs(args: argparse.Namespace, found: Located | None) -> int:
    async with _remote(args) if found is None else _stored(args, found) as run:
        record = await run.record()
        follow = record.get("status") == "active" if args.follow is None else args.follow
        found_events = run.follow(args.since) if follow else replay(run, args.since, args.types, args.limit)
        renderer = Renderer(sys.stderr, runs=True)
        for note in _unknown(args.types or ()):
            renderer.say(note)
        await _print(found_events, args, renderer)
        record = await run.record()
        if args.format == "pretty" and (replacement := record.get("restartedAsRunId")):
            renderer.say(f"Run {replacement} takes its place.")
        return ERRORED if record.get("status") == "errored" else 0


async def _print(events: AsyncGenerator[WireEvent, None], args: argparse.Namespace, renderer: Renderer) -> None:
    printed = 0
    async with aclosing(events):
        while args.limit is None or printed < args.limit:
            event = await anext(events, None)
            if event is None:
                break
            if args.types is not None and event.get("type") not in args.types:
                continue
            printed += 1
            if args.format == "pretty":
                renderer(event)
            else:
                write_json(event, sys.stdout)
    renderer.end_line()


@asynccontextmanager
async def _remote(args: argparse.Namespace) -> AsyncIterator[RunLog]:
    from flue.sdk import AsyncClient, FlueApiError, FlueTransportError

    url, headers = args.server or DEFAULT_SERVER, dict(_header(text) for text in args.header or ())
    async with AsyncClient(base_url=url, headers=headers) as client:
        try:
            yield RemoteRun(client, args.run)
        except FlueApiError as error:
            raise FlueError(f"HTTP {error.status}: {_said(error.body)}", code=error.code, hint=error.hint) from error
        except FlueTransportError as error:
            hint = "Start the server, name another with --server, or read the project's store with --local."
            unreachable = error.code == "server_unreachable"
            raise FlueError(error.message, code=error.code, hint=hint if unreachable else error.hint) from error


@asynccontextmanager
async def _stored(args: argparse.Namespace, found: Located) -> AsyncIterator[RunLog]:
    if not found.has_data:
        raise ConfigError(
            f"There is no store at {found.data_file}.",
            code="store_not_found",
            hint="Name the project with --root, or leave out --local to ask a server.",
        )
    async with aclosing(found.open_store()) as store:
        yield StoredRun(store, args.run)


def _said(body: Any) -> str:
    error = body.get("error") if isinstance(body, Mapping) else None
    message = error.get("message") if isinstance(error, Mapping) else None
    return message if isinstance(message, str) and message else "no reason was given."


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        # Not quoted: it may be the secret alone.
        raise ConfigError("--header takes NAME:VALUE.", code="invalid_arguments")
    return name.strip(), value.strip()


def _number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f'"{text}" is not a whole number from 0 on')
    return int(text)


def _unknown(types: Iterable[str]) -> Iterator[str]:
    """Say which types this version does not know. A server may be newer, so that is no error."""
    known = {event.type for event in vars(events).values() if isinstance(event, type) and issubclass(event, Event)}
    for name in sorted(set(types) - known):
        close = get_close_matches(name.replace(":", "_"), sorted(known - {""}), n=1)
        guess = f' Did you mean "{close[0]}"?' if close else " docs/reference/events.md lists them."
        yield f'No event has the type "{name}".{guess}'


def _names(text: str) -> frozenset[str]:
    return frozenset(filter(None, (name.strip() for name in text.split(","))))

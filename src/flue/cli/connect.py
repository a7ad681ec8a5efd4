"""`flue connect <agent> <instance-id>`: a conversation in the terminal, one prompt a line.

The answer is written while it arrives. Where stdout is not a terminal it gets one line of JSON for every prompt; on a
terminal that would only repeat what stands there. Ctrl-D ends; Ctrl-C aborts the running prompt, and ends otherwise.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from typing import TextIO

from flue.cli.arguments import add_project_options
from flue.cli.failures import report
from flue.cli.interrupts import Interrupts
from flue.cli.opening import Opened, opened
from flue.cli.render import Renderer
from flue.cli.stdin import lines
from flue.definitions.agent import Agent
from flue.errors import AbortError, ConfigError
from flue.harness.harness import Harness
from flue.project.modules import AgentModule


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("agent", help="a file in agents/, by its name")
    parser.add_argument("instance", metavar="instance-id", help="which of the agent's conversations to continue")
    parser.add_argument(
        "--session", default="default", metavar="NAME", help="session of the instance (default: default)"
    )
    add_project_options(parser)


def execute(args: argparse.Namespace) -> int:
    """Read prompts until the end of stdin; 1 when one of them failed and stdin is not a terminal."""
    instance = shlex.quote(args.instance)
    call = f"call the deployed Worker: curl https://<your-worker>/agents/{args.agent}/{instance}"
    call += """ -H 'content-type: application/json' -d '{"message": "Hello"}'"""
    interrupts, stdout = Interrupts(), sys.stdout
    with opened(args, elsewhere=call) as project:
        agent = _agent(project.project.agent(args.agent), project)
        return interrupts.run(Conversation(args, project, interrupts, stdout).hold(agent))


def _agent(module: AgentModule, opened_: Opened) -> Agent:
    if module.agent is not None:
        return module.agent
    file = opened_.project.layout.shown(module.path)
    raise ConfigError(
        f"{file} defines `run(ctx)`, which answers requests and holds no conversation.",
        code="agent_not_connectable",
        hint=f"Call it with `flue run {module.name} --id <instance-id>`.",
    )


class Conversation:
    """One `flue connect`."""

    def __init__(self, args: argparse.Namespace, opened_: Opened, interrupts: Interrupts, stdout: TextIO) -> None:
        self._args = args
        self._opened = opened_
        self._interrupts = interrupts
        self._renderer = Renderer(sys.stderr)
        self._interactive = sys.stdin.isatty()
        self._json_to = None if stdout.isatty() else stdout

    async def hold(self, agent: Agent) -> int:
        """Answer every line of stdin and return the exit code."""
        from flue.host import open_context

        context = open_context(
            agent=self._args.agent,
            id=self._args.instance,
            env=self._opened.env,
            store=self._opened.store,
            registrations=self._opened.project.registrations,
            on_event=self._renderer,
        )
        failed = False
        async with context as ctx:
            harness = await ctx.init(agent)
            await harness.session(self._args.session)
            if self._interactive:
                self._renderer.say(f"{self._args.agent}/{self._args.instance}: one prompt a line, Ctrl-D ends.")
            self._ask()
            async for line in lines(sys.stdin.fileno()):
                if line.strip():
                    failed |= not await self._answer(harness, line.strip())
                self._ask()
        if self._interactive:
            self._renderer.write("\n")
        return 1 if failed and not self._interactive else 0

    async def _answer(self, harness: Harness, text: str) -> bool:
        try:
            # Got anew for every prompt: it may have been read again after another process had changed it.
            handle = (await harness.session(self._args.session)).prompt(text)
            with self._interrupts.aborting(handle.abort):
                reply = await handle
        except AbortError:
            self._renderer.say("Aborted.")
            return False
        except Exception as error:  # noqa: BLE001 - one failed prompt does not end the conversation
            self._renderer.end_line()
            report(error, debug=self._args.debug)
            return False
        self._renderer.end_line()
        if self._json_to is not None:
            print(json.dumps(reply.to_json(), ensure_ascii=False), file=self._json_to, flush=True)
        return True

    def _ask(self) -> None:
        if self._interactive:
            self._renderer.write("> ")

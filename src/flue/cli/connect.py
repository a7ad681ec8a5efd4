"""`flue connect <agent> <instance-id>`: a conversation in the terminal, one prompt a line.

The answer is written while it arrives. Where stdout is not a terminal it gets one line of JSON for every prompt; on a
terminal that would only repeat what stands there. Ctrl-D ends; Ctrl-C aborts the running prompt, and ends otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shlex
import sys
from collections.abc import Mapping
from typing import Any, TextIO

from flue.cli.arguments import add_json_option, add_project_options
from flue.cli.failures import error_of, report
from flue.cli.following import INTERRUPTED, Shown, accepted, end
from flue.cli.interrupts import Interrupts
from flue.cli.opening import Opened, opened
from flue.cli.output import write_json
from flue.cli.render import Renderer, call_of, plain
from flue.cli.stdin import Lines
from flue.cli.waiting import Waiting, read_budget, read_decision
from flue.durable.records import Outcome, Submission
from flue.engine.admissions import session_lane
from flue.engine.service import Service, waits_for_person
from flue.engine.wire_records import submission_record
from flue.errors import ConfigError, FlueError
from flue.project.modules import AgentModule


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("agent", help="a file in agents/, by its name")
    parser.add_argument("instance", metavar="instance-id", help="which of the agent's conversations to continue")
    parser.add_argument(
        "--session", default="default", metavar="NAME", help="session of the instance (default: default)"
    )
    add_json_option(parser, "print the record of every prompt, on a terminal too")
    add_project_options(parser)


def execute(args: argparse.Namespace) -> int:
    """Read prompts until the end of stdin; 1 when one of them failed and stdin is not a terminal."""
    instance = shlex.quote(args.instance)
    call = f"call the deployed Worker: curl https://<your-worker>/agents/{args.agent}/{instance}"
    call += """ -H 'content-type: application/json' -d '{"message": "Hello"}'"""
    interrupts, stdout = Interrupts(), sys.stdout
    with opened(args, elsewhere=call) as project:
        _check(project.project.agent(args.agent), project)
        return interrupts.run(_connect(args, project, interrupts, stdout))


def _check(module: AgentModule, opened_: Opened) -> None:
    if module.agent is None:
        file = opened_.project.layout.shown(module.path)
        raise ConfigError(
            f"{file} defines `run(ctx)`, which answers requests and holds no conversation.",
            code="agent_not_connectable",
            hint=f"Call it with `flue run {module.name} --id <instance-id>`.",
        )


async def _connect(args: argparse.Namespace, opened_: Opened, interrupts: Interrupts, stdout: TextIO) -> int:
    async with opened_.service(log_failures=args.debug) as service:
        return await Conversation(args, service, interrupts, stdout).hold()


class Conversation:
    """One `flue connect`."""

    def __init__(self, args: argparse.Namespace, service: Service, interrupts: Interrupts, stdout: TextIO) -> None:
        self._args = args
        self._agent, self._instance, self._session = args.agent, args.instance, args.session
        self._service = service
        self._interrupts = interrupts
        self._renderer = Renderer(sys.stderr)
        self._interactive = sys.stdin.isatty()
        self._lines = Lines(sys.stdin.fileno())
        self._json_to = stdout if args.json or not stdout.isatty() else None
        self._shown = -1
        """The index of the last event that was shown of what is followed."""
        self._showed = asyncio.Event()
        self._calls: dict[str, str] = {}
        """What the tool calls are that have waited for approval, by id."""
        self._asking = False
        self._aborting: asyncio.Task[Any] | None = None

    async def hold(self) -> int:
        """Answer every line of stdin and return the exit code."""
        lane = session_lane(self._agent, self._instance, self._session)
        await self._service.start()
        if self._interactive:
            self._renderer.say(f"{self._agent}/{self._instance}: one prompt a line, Ctrl-D ends.")
        blocked, failed = await self._finish_earlier(lane), False
        # Where nobody can be asked, what comes next would wait for the same person.
        while self._interactive or not blocked:
            self._ask("> ")
            line = await self._lines.next()
            if line is None:
                break
            if line.strip():
                found = await self._answer(line.strip())
                failed |= not isinstance(found, Outcome) or found.kind != "completed"
                blocked = isinstance(found, Submission)
        if self._interactive:
            self._renderer.write("\n")
        return 1 if (failed or blocked) and not self._interactive else 0

    async def _finish_earlier(self, lane: str) -> bool:
        """Go on with what was left in the session; say whether it waits for a person all the same."""
        await self._service.engine.take_over()
        for submission in await self._service.store.list_lane(lane):
            if submission.state == "running":
                self._renderer.say("Another process is at work in this session; what you write waits its turn.")
                break
            message = json.loads(submission.payload).get("message", "a dispatched input")
            self._renderer.say(f"Going on with what was left: {message}")
            self._service.engine.adopt(submission)
            found = await self._attended(submission.id)
            if isinstance(found, Submission):
                return True
            self._report(found)
        return False

    async def _answer(self, text: str) -> Outcome | Submission | None:
        """Answer a prompt; return how it ended, or the submission when it waits, None when it was refused."""
        try:
            asking = self._service.prompt(self._agent, self._instance, text, session=self._session)
            id = (await accepted(self._service, asking)).id
            found = await self._attended(id)
            if isinstance(found, Outcome):
                self._report(found)
            await self._print(id, found)
        except FlueError as error:
            self._renderer.end_line()
            report(error, debug=self._args.debug)
            return None
        return found

    def _report(self, outcome: Outcome) -> None:
        if outcome.kind == "aborted":
            self._renderer.say("Aborted.")
        elif outcome.kind == "failed":
            report(error_of(outcome), debug=False)

    async def _print(self, id: str, found: Outcome | Submission) -> None:
        if self._json_to is None:
            return
        if self._args.json:
            submission = await self._service.get_submission(id)
            if submission is not None:
                write_json(submission_record(submission), self._json_to)
        elif isinstance(found, Outcome) and found.kind == "completed":
            write_json(json.loads(found.result or "null"), self._json_to)

    # --------------------------------------------------------------------------------------- following

    async def _attended(self, id: str) -> Outcome | Submission:
        """Show a prompt until it has ended; have a person decide where it waits, and return it where nobody does.

        When the command is interrupted the prompt is aborted, unless it waits: then it can be decided on later.
        """
        self._shown = -1
        showing = asyncio.create_task(Shown(self._service, id, self._show).to_the_end())
        try:
            with self._interrupts.aborting(lambda: self._abort(id)):
                while isinstance(found := await self._rest(id), Submission):
                    await self._catch_up(id)
                    if not await self._decided(found):
                        return found
            await showing
        except asyncio.CancelledError:
            if not self._asking:
                await end(self._service, id)
            raise
        finally:
            showing.cancel()
            self._renderer.end_line()
        return found

    async def _rest(self, id: str) -> Outcome | Submission:
        return await self._service.engine.outcome(id, until=waits_for_person)

    def _abort(self, id: str) -> None:
        self._aborting = asyncio.create_task(self._service.abort(id, INTERRUPTED))

    def _show(self, event: Mapping[str, Any]) -> None:
        if event.get("type") == "approval_request":
            tool = event["toolName"]
            self._calls[event["toolCallId"]] = f"{tool}  {call_of(tool, event['args'])}"
        self._renderer(event)
        self._shown = event["eventIndex"]
        self._showed.set()

    async def _catch_up(self, id: str) -> None:
        """Wait until everything is shown that has happened so far: a question comes after what led to it."""
        self._showed.clear()
        while await self._service.log.read(id, after=self._shown, limit=1):
            await self._showed.wait()
            self._showed.clear()
        self._renderer.end_line()

    # ----------------------------------------------------------------------------------------- deciding

    async def _decided(self, parked: Submission) -> bool:
        """Ask what a prompt waits for; False when there is nobody who answers."""
        waiting = Waiting.of(parked)
        if not self._interactive:
            report(waiting.error, debug=self._args.debug)
            return False
        question = "The budget is used up. Give another one, as in usd=2 turns=40, or n to give up: "
        if waiting.tool_call_id is not None:
            question = f"Allow {self._calls.get(waiting.tool_call_id, waiting.tool_call_id)}? y, or n and why: "
        try:
            line = await self._asked(question, parked)
            if line is not None:
                await self._decide(waiting, line, parked.id)
        except _Moved:
            self._renderer.write("\n")
        except FlueError as error:
            report(error, debug=self._args.debug)
        else:
            if line is None:
                self._renderer.write("\n")
                self._renderer.say("It keeps waiting; connect again to decide.")
                return False
        return True

    async def _asked(self, question: str, parked: Submission) -> str | None:
        """Return what is typed in answer, None at the end of stdin; raise `_Moved` when nothing waits for it."""
        self._ask(question)

        def moved(now: Submission) -> bool:
            return (now.state, now.waiting_for) != (parked.state, parked.waiting_for)

        line = asyncio.create_task(self._lines.next())
        moving = asyncio.create_task(self._service.engine.outcome(parked.id, until=moved))
        self._asking = True
        try:
            await asyncio.wait([line, moving], return_when=asyncio.FIRST_COMPLETED)
            if not line.done():
                raise _Moved
            self._asking = False
            return line.result()
        finally:
            line.cancel()
            moving.cancel()

    async def _decide(self, waiting: Waiting, line: str, id: str) -> None:
        decision = read_decision(line)
        if waiting.tool_call_id is not None:
            if decision is None:
                self._renderer.say("Answer y, or n; a reason may stand after n.")
                return
            await self._service.decide(
                self._agent,
                self._instance,
                waiting.tool_call_id,
                approved=decision.approved,
                reason=decision.reason,
                session=self._session,
            )
        elif decision is not None and not decision.approved:
            await self._service.abort(id, "The budget was used up, and no other was given.")
        else:
            limits = read_budget(line)
            await self._service.raise_budget(self._agent, self._instance, limits, session=self._session)

    def _ask(self, question: str) -> None:
        if self._interactive:
            self._renderer.write(plain(question) + " ")


class _Moved(Exception):  # noqa: N818 - no error: somebody else has decided, or the prompt was aborted
    """What was asked about waits no longer."""

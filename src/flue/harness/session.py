"""A session: one conversation, one operation at a time, in the order the calls were made."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from flue.definitions.budget import Budget
from flue.definitions.profile import ModelChoice
from flue.definitions.role import Role
from flue.definitions.skill import SkillInfo
from flue.definitions.tool import Tool
from flue.errors import SessionError, UsageError
from flue.events import Scope
from flue.harness.approvals import Approval, Approvals
from flue.harness.call import CallHandle
from flue.harness.date_note import DateNote
from flue.harness.entries import Source
from flue.harness.env import FlueFs
from flue.harness.history import History
from flue.harness.keywords import Busy, PromptKeywords, TaskKeywords
from flue.harness.meter import Meter, Meters
from flue.harness.operations import Operations
from flue.harness.prompting import (
    CallOptions,
    call_options,
    chosen_model,
    make_compactor,
    run_prompt,
)
from flue.harness.responses import PromptResponse, ResultResponse
from flue.harness.results import ResultType
from flue.harness.setup import SessionSetup, require_model
from flue.harness.shell import run_shell
from flue.harness.skills.activate import skill_tools
from flue.harness.skills.invoke import check_skill_arguments, run_skill
from flue.harness.tasks import NamedTask, Work, check_task_name, run_task
from flue.harness.turns import ToolSet, TurnLoop
from flue.messages import AssistantMessage, ImageContent, TextContent, ThinkingLevel, UserMessage
from flue.ports import ExecResult

if TYPE_CHECKING:
    from flue.harness.harness import Harness

T = TypeVar("T")


class Session:
    """A conversation that remembers. Get one from `harness.session(name)`.

    Calls start at once and return a `CallHandle`; a second call waits for the first (`busy="reject"` raises instead).
    What a settled call added to the conversation survives a crash. Inside a call, an answer is on disk before the
    tools it calls run.
    """

    def __init__(
        self,
        name: str,
        harness: Harness,
        setup: SessionSetup,
        history: History,
        *,
        depth: int = 0,
        scope: Scope | None = None,
        role: Role | None = None,
    ) -> None:
        self.name = name
        self.harness = harness
        self.setup = setup
        self.history = history
        self.depth = depth
        self.role = role
        self.named_tasks: dict[str, NamedTask] = {}
        self._loop: TurnLoop | None = None
        self._loop_call: CallHandle[Any] | None = None
        self.meter = Meter("session")
        self.meter.restore(history.metadata.get("spent", {}))
        self.operations = Operations(
            session=name,
            history=history,
            meter=self.meter,
            runtime=harness.runtime,
            emitter=harness.emitter,
            scope=replace(scope or harness.scope, session=name),
        )
        self.approvals = Approvals(history, harness.runtime.clock)
        self.date_note = DateNote(history, setup.date)
        self.skill_tools = skill_tools(setup, history)
        self._tool_set: tuple[tuple[Tool, ...], ToolSet] | None = None

    @property
    def fs(self) -> FlueFs:
        """Return the sandbox's files; what is done there does not enter the conversation."""
        return self.setup.env

    # ----------------------------------------------------------------------------------------------- calls

    @overload
    def prompt(self, text: str, **options: Unpack[PromptKeywords]) -> CallHandle[PromptResponse]: ...
    @overload
    def prompt(
        self, text: str, *, result: type[T], **options: Unpack[PromptKeywords]
    ) -> CallHandle[ResultResponse[T]]: ...
    @overload
    def prompt(
        self, text: str, *, result: object, **options: Unpack[PromptKeywords]
    ) -> CallHandle[ResultResponse[Any]]: ...
    def prompt(
        self,
        text: str,
        *,
        result: object = None,
        model: ModelChoice | None = None,
        thinking_level: ThinkingLevel | None = None,
        role: str | None = None,
        tools: Sequence[Tool] = (),
        images: Sequence[ImageContent] = (),
        budget: Budget | Mapping[str, float] | None = None,
        timeout: float | None = None,
        busy: Busy = "queue",
    ) -> CallHandle[Any]:
        """Send a message and return the model's answer, after all the tool calls it made.

        With `result` (a pydantic model, dataclass, TypedDict, `Literal`, `list[int]`, …, or a JSON Schema) the answer
        has `.data` of that type, otherwise `.text`. A `role` counts for this call. `timeout` is in seconds.

        Awaiting raises `OperationError` when the provider fails after retries, `ResultUnavailableError` when the model
        gives up or never hands in a result, `AbortError` when aborted, `OperationTimeoutError` at the timeout, and
        `BudgetExceededError` between turns when a budget is used up (`resume` goes on from there).
        """
        check_text_argument(text, "prompt")
        options = call_options(self, model, thinking_level, role, tools, images, budget)
        wanted = None if result is None else ResultType(result)
        return self.start_prompt(text, wanted, options, "prompt", timeout=timeout, busy=busy)

    @overload
    def skill(
        self, skill: str | SkillInfo, *, args: Mapping[str, Any] | None = None, **options: Unpack[PromptKeywords]
    ) -> CallHandle[PromptResponse]: ...
    @overload
    def skill(
        self,
        skill: str | SkillInfo,
        *,
        args: Mapping[str, Any] | None = None,
        result: type[T],
        **options: Unpack[PromptKeywords],
    ) -> CallHandle[ResultResponse[T]]: ...
    @overload
    def skill(
        self,
        skill: str | SkillInfo,
        *,
        args: Mapping[str, Any] | None = None,
        result: object,
        **options: Unpack[PromptKeywords],
    ) -> CallHandle[ResultResponse[Any]]: ...
    def skill(
        self,
        skill: str | SkillInfo,
        *,
        args: Mapping[str, Any] | None = None,
        result: object = None,
        model: ModelChoice | None = None,
        thinking_level: ThinkingLevel | None = None,
        role: str | None = None,
        tools: Sequence[Tool] = (),
        images: Sequence[ImageContent] = (),
        budget: Budget | Mapping[str, float] | None = None,
        timeout: float | None = None,
        busy: Busy = "queue",
    ) -> CallHandle[Any]:
        """Let the model do what a skill says, with `args` (JSON values) as its input; options are those of `prompt`.

        `skill` is the name of one of the agent's or the workspace's skills, a `Skill`, or the path of a Markdown file
        below `.agents/skills`. Raises like `prompt`; awaiting also raises `DefinitionError` for a skill that is not
        there or not in order, and `SecurityError` for a path that leads out of `.agents/skills`.
        """
        check_skill_arguments(skill, args)
        options = call_options(self, model, thinking_level, role, tools, images, budget)
        wanted = None if result is None else ResultType(result)
        return self.operations.start(
            "skill",
            lambda scope: run_skill(self, scope, skill, args, wanted=wanted, options=options),
            timeout=timeout,
            busy=busy,
        )

    @overload
    def resume(self, **options: Unpack[PromptKeywords]) -> CallHandle[PromptResponse]: ...
    @overload
    def resume(self, *, result: type[T], **options: Unpack[PromptKeywords]) -> CallHandle[ResultResponse[T]]: ...
    @overload
    def resume(self, *, result: object, **options: Unpack[PromptKeywords]) -> CallHandle[ResultResponse[Any]]: ...
    def resume(
        self,
        *,
        result: object = None,
        model: ModelChoice | None = None,
        thinking_level: ThinkingLevel | None = None,
        role: str | None = None,
        tools: Sequence[Tool] = (),
        images: Sequence[ImageContent] = (),
        budget: Budget | Mapping[str, float] | None = None,
        timeout: float | None = None,
        busy: Busy = "queue",
    ) -> CallHandle[Any]:
        """Go on where the conversation was left: after a budget pause, an abort, a crash, or for an approval.

        Tool calls without a recorded result are not repeated: the model is told that their outcome is unknown. Those
        that wait for approval go on waiting, or run if they were approved meanwhile. Options and errors are those of
        `prompt`. Raises `SessionError` (code `nothing_to_resume`) when the last answer is complete.
        """
        if not self.operations.busy and self._is_complete():
            raise SessionError(
                f'Session "{self.name}" has nothing to resume: its last answer is complete.',
                code="nothing_to_resume",
                hint="Use prompt() to go on.",
            )
        options = call_options(self, model, thinking_level, role, tools, images, budget)
        wanted = None if result is None else ResultType(result)
        return self.start_prompt(None, wanted, options, "prompt", timeout=timeout, busy=busy)

    def steer(self, text: str, *, images: Sequence[ImageContent] = ()) -> CallHandle[Any]:
        """Send a message to the running prompt: it joins at the next turn boundary. Return that prompt's handle.

        Messages keep their order. When no prompt runs, the message starts one.
        """
        check_text_argument(text, "steer")
        if self._loop is None or self._loop_call is None:
            return self.prompt(text, images=images)
        now = self.harness.runtime.clock.now_ms()
        self._loop.steering.append(UserMessage((TextContent(text), *images), now))
        return self._loop_call

    def compact(
        self, instructions: str | None = None, *, timeout: float | None = None, busy: Busy = "queue"
    ) -> CallHandle[bool]:
        """Summarise the older part of the conversation now; the value says whether there was anything to summarise.

        `instructions` tell the summariser what matters. Awaiting raises `OperationError` (code `compaction_failed`).
        """

        async def body(scope: Scope) -> bool:
            model = require_model(chosen_model(self, CallOptions()), "compact")
            meters = Meters.of((self.meter, self.harness.meter))
            return await make_compactor(self, scope, model, meters).compact("manual", instructions)

        return self.operations.start("compact", body, timeout=timeout, busy=busy)

    async def approve(self, tool_call_id: str) -> Approval:
        """Let a tool call run that waits for approval. Durable when this returns; raises `SessionError`."""
        return await self.approvals.decide(tool_call_id, "approved", None)

    async def deny(self, tool_call_id: str, reason: str | None = None) -> Approval:
        """Refuse a tool call that waits for approval; the model sees the reason. Durable when this returns."""
        return await self.approvals.decide(tool_call_id, "denied", reason)

    def shell(
        self,
        command: str,
        *,
        stdin: str | bytes | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: float | None = None,
        busy: Busy = "queue",
    ) -> CallHandle[ExecResult]:
        """Run a command in the sandbox and let the conversation know of it, with the values of `env` left out.

        A non-zero exit code is a result. With `timeout` (seconds) a command that takes longer has exit code 124.
        Awaiting raises `SandboxError` when the sandbox itself fails.
        """
        check_text_argument(command, "shell")

        async def body(scope: Scope) -> ExecResult:
            if note := self.harness.files_note.take(self):
                self.history.append(UserMessage(note, self.harness.runtime.clock.now_ms()), "signal")
            return await run_shell(
                self.setup.env,
                self.harness,
                scope,
                command,
                stdin=stdin,
                variables=env,
                cwd=cwd,
                timeout=timeout,
                record_in=self.history,
            )

        return self.operations.start("shell", body, busy=busy)

    @overload
    def task(self, text: str, **options: Unpack[TaskKeywords]) -> CallHandle[PromptResponse]: ...
    @overload
    def task(self, text: str, *, result: type[T], **options: Unpack[TaskKeywords]) -> CallHandle[ResultResponse[T]]: ...
    @overload
    def task(
        self, text: str, *, result: object, **options: Unpack[TaskKeywords]
    ) -> CallHandle[ResultResponse[Any]]: ...
    def task(
        self,
        text: str,
        *,
        agent: str | None = None,
        cwd: str | None = None,
        name: str | None = None,
        result: object = None,
        model: ModelChoice | None = None,
        thinking_level: ThinkingLevel | None = None,
        role: str | None = None,
        tools: Sequence[Tool] = (),
        images: Sequence[ImageContent] = (),
        budget: Budget | Mapping[str, float] | None = None,
        timeout: float | None = None,
        busy: Busy = "queue",
    ) -> CallHandle[Any]:
        """Give work to a child session with a conversation of its own and the same files; return its answer.

        `agent` names a declared subagent; without it the child is like this session. `cwd` moves it to another
        directory. `name` keeps the child's conversation: the next task of that name goes on with it, also in another
        process. The child's usage is its own. Raises like `prompt`, `DefinitionError` for an unknown subagent, and
        `SessionError` (code `task_mismatch`) for a name that belongs to another subagent.
        """
        check_text_argument(text, "task")
        check_task_name(name)
        options = call_options(self, model, thinking_level, role, tools, images, budget)
        wanted = None if result is None else ResultType(result)
        work = Work(text=text, agent=agent, cwd=cwd, name=name)
        return self.operations.start(
            "task", lambda scope: run_task(self, scope, work, wanted, options), timeout=timeout, busy=busy
        )

    async def delete(self) -> None:
        """Abort what is running and delete the conversation, with those of its tasks. The files stay."""
        await self.harness.sessions.delete(self.name)

    # ------------------------------------------------------------------------------------ inside the harness

    def start_prompt(
        self,
        text: str | None,
        wanted: ResultType | None,
        options: CallOptions,
        source: Source,
        *,
        timeout: float | None = None,
        busy: Busy = "queue",
    ) -> CallHandle[PromptResponse | ResultResponse[Any]]:
        """Start a prompt whose arguments are checked; `source` says who asks."""
        return self.operations.start(
            "prompt",
            lambda scope: run_prompt(self, scope, text, wanted=wanted, options=options, source=source),
            timeout=timeout,
            busy=busy,
        )

    def tool_set(self, tools: tuple[Tool, ...]) -> ToolSet:
        """Return the tools as one object call after call, so that adapters encode them once."""
        if self._tool_set is None or self._tool_set[0] != tools:
            self._tool_set = (tools, ToolSet(tools))
        return self._tool_set[1]

    async def close(self, *, deleted: bool = False) -> None:
        """Abort what is running and wait until the conversation is in order."""
        if self._loop is not None:
            self._loop.parked = True
        await self.operations.close(deleted=deleted)

    @contextmanager
    def running(self, loop: TurnLoop) -> Iterator[None]:
        """Make `loop` the one that `steer` talks to.

        What comes too late for it starts a prompt of its own; after an abort it waits in the conversation for the
        next one.
        """
        self._loop = loop
        self._loop_call = self.operations.current
        try:
            yield
        except asyncio.CancelledError:
            while loop.steering:
                self.history.append(loop.steering.pop(0), "steer")
            raise
        finally:
            self._loop = self._loop_call = None
            for message in loop.steering:
                images = tuple(block for block in message.content if isinstance(block, ImageContent))
                text = "".join(block.text for block in message.content if isinstance(block, TextContent))
                self._follow_up(text, CallOptions(images=images))

    def _follow_up(self, text: str, options: CallOptions) -> None:
        self.operations.start(
            "prompt",
            lambda scope: run_prompt(self, scope, text, wanted=None, options=options, source="steer"),
            follow_up=True,
        )

    def _is_complete(self) -> bool:
        """Say whether the conversation waits for the user."""
        last = self.history.transcript.messages[-1] if len(self.history.transcript) else None
        if isinstance(last, AssistantMessage):
            return last.stop_reason in ("stop", "length") and not last.tool_calls
        return last is None


def check_text_argument(text: object, call: str) -> None:
    """Raise `UsageError` unless `text` is text that is not blank."""
    if not isinstance(text, str) or not text.strip():
        raise UsageError(f"{call}() needs text that is not empty, got {text!r}.", code="invalid_text")

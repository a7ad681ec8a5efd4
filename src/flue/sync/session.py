"""A session, for code that blocks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from flue.definitions.budget import Budget
from flue.definitions.profile import ModelChoice
from flue.definitions.skill import SkillInfo
from flue.definitions.tool import Tool
from flue.harness.approvals import Approval, Approvals
from flue.harness.keywords import Busy, PromptKeywords, TaskKeywords
from flue.harness.responses import PromptResponse, ResultResponse
from flue.harness.session import Session
from flue.messages import ImageContent, ThinkingLevel
from flue.ports import ExecResult
from flue.sync.files import SyncFs
from flue.sync.portal import Portal, Running

if TYPE_CHECKING:
    from flue.sync.harness import SyncHarness

T = TypeVar("T")


class SyncSession:
    """A conversation that remembers. Get one from `harness.session(name)`.

    Each method does what that of `flue.Session` does and returns its value when it is there. May be used from several
    threads: a second call waits for the first (`busy="reject"` raises instead).
    """

    def __init__(self, portal: Portal[Any], session: Session, harness: SyncHarness) -> None:
        self.name = session.name
        self.harness = harness
        self.fs = SyncFs(portal, session.fs)
        self.approvals = SyncApprovals(portal, session.approvals)
        self._portal = portal
        self._session = session
        self._running = Running()

    def abort(self, reason: object = None) -> None:
        """End what this object is doing, from another thread: the calls there raise `AbortError` with `reason`."""

        async def abort() -> None:
            self._running.abort(reason)

        self._portal.call(abort)

    @overload
    def prompt(self, text: str, **options: Unpack[PromptKeywords]) -> PromptResponse: ...
    @overload
    def prompt(self, text: str, *, result: type[T], **options: Unpack[PromptKeywords]) -> ResultResponse[T]: ...
    @overload
    def prompt(self, text: str, *, result: object, **options: Unpack[PromptKeywords]) -> ResultResponse[Any]: ...
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
    ) -> Any:
        """Send a message and return the model's answer; see `flue.Session.prompt`."""
        return self._call(
            lambda: self._session.prompt(
                text,
                result=result,
                model=model,
                thinking_level=thinking_level,
                role=role,
                tools=tools,
                images=images,
                budget=budget,
                timeout=timeout,
                busy=busy,
            )
        )

    @overload
    def skill(
        self, skill: str | SkillInfo, *, args: Mapping[str, Any] | None = None, **options: Unpack[PromptKeywords]
    ) -> PromptResponse: ...
    @overload
    def skill(
        self,
        skill: str | SkillInfo,
        *,
        args: Mapping[str, Any] | None = None,
        result: type[T],
        **options: Unpack[PromptKeywords],
    ) -> ResultResponse[T]: ...
    @overload
    def skill(
        self,
        skill: str | SkillInfo,
        *,
        args: Mapping[str, Any] | None = None,
        result: object,
        **options: Unpack[PromptKeywords],
    ) -> ResultResponse[Any]: ...
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
    ) -> Any:
        """Let the model do what a skill says; see `flue.Session.skill`."""
        return self._call(
            lambda: self._session.skill(
                skill,
                args=args,
                result=result,
                model=model,
                thinking_level=thinking_level,
                role=role,
                tools=tools,
                images=images,
                budget=budget,
                timeout=timeout,
                busy=busy,
            )
        )

    @overload
    def resume(self, **options: Unpack[PromptKeywords]) -> PromptResponse: ...
    @overload
    def resume(self, *, result: type[T], **options: Unpack[PromptKeywords]) -> ResultResponse[T]: ...
    @overload
    def resume(self, *, result: object, **options: Unpack[PromptKeywords]) -> ResultResponse[Any]: ...
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
    ) -> Any:
        """Go on where the conversation was left; see `flue.Session.resume`."""
        return self._call(
            lambda: self._session.resume(
                result=result,
                model=model,
                thinking_level=thinking_level,
                role=role,
                tools=tools,
                images=images,
                budget=budget,
                timeout=timeout,
                busy=busy,
            )
        )

    def steer(self, text: str, *, images: Sequence[ImageContent] = ()) -> Any:
        """Send a message to the prompt that runs in another thread, wait for that prompt and return its answer."""
        return self._call(lambda: self._session.steer(text, images=images))

    def compact(self, instructions: str | None = None, *, timeout: float | None = None, busy: Busy = "queue") -> bool:
        """Summarise the older part of the conversation; see `flue.Session.compact`."""
        return self._call(lambda: self._session.compact(instructions, timeout=timeout, busy=busy))

    def approve(self, tool_call_id: str) -> Approval:
        """Let a tool call run that waits for approval, in the thread of the prompt that made it."""
        return self._portal.call(lambda: self._session.approve(tool_call_id))

    def deny(self, tool_call_id: str, reason: str | None = None) -> Approval:
        """Refuse a tool call that waits for approval; the model sees the reason."""
        return self._portal.call(lambda: self._session.deny(tool_call_id, reason))

    def shell(
        self,
        command: str,
        *,
        stdin: str | bytes | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: float | None = None,
        busy: Busy = "queue",
    ) -> ExecResult:
        """Run a command in the sandbox and let the conversation know of it; see `flue.Session.shell`."""
        return self._call(
            lambda: self._session.shell(command, stdin=stdin, env=env, cwd=cwd, timeout=timeout, busy=busy)
        )

    @overload
    def task(self, text: str, **options: Unpack[TaskKeywords]) -> PromptResponse: ...
    @overload
    def task(self, text: str, *, result: type[T], **options: Unpack[TaskKeywords]) -> ResultResponse[T]: ...
    @overload
    def task(self, text: str, *, result: object, **options: Unpack[TaskKeywords]) -> ResultResponse[Any]: ...
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
    ) -> Any:
        """Give work to a child session and return its answer; see `flue.Session.task`."""
        return self._call(
            lambda: self._session.task(
                text,
                agent=agent,
                cwd=cwd,
                name=name,
                result=result,
                model=model,
                thinking_level=thinking_level,
                role=role,
                tools=tools,
                images=images,
                budget=budget,
                timeout=timeout,
                busy=busy,
            )
        )

    def delete(self) -> None:
        """Abort what is running and delete the conversation, with those of its tasks. The files stay."""
        self._portal.call(self._session.delete)

    def _call(self, start: Callable[[], Awaitable[T]]) -> T:
        return self._portal.call(start, self._running)


class SyncApprovals:
    """The tool calls of a session that wait for a person."""

    def __init__(self, portal: Portal[Any], approvals: Approvals) -> None:
        self._portal = portal
        self._approvals = approvals

    @property
    def pending(self) -> list[Approval]:
        """Return the calls that wait for a decision, oldest first."""

        async def look() -> list[Approval]:
            return self._approvals.pending

        return self._portal.call(look)

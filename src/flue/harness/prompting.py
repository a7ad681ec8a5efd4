"""One prompt: a message in, the turn loop until the model is done, a response out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from flue.definitions.budget import Budget, as_budget
from flue.definitions.profile import AgentProfile, ModelChoice
from flue.definitions.role import Role
from flue.definitions.tool import Tool, ToolContext
from flue.errors import BudgetExceededError, OperationError, ResultUnavailableError, UsageError
from flue.events import Scope
from flue.harness.compaction.compact import Compactor
from flue.harness.compaction.sizes import limits_for
from flue.harness.entries import Source
from flue.harness.interrupted import GO_ON, cut_off_answer
from flue.harness.journal import UNJOURNALED, Journal, Paused
from flue.harness.left_open import settle_calls_left_open
from flue.harness.meter import Meter, Meters
from flue.harness.prompt import date_text
from flue.harness.responses import ModelRef, PromptResponse, ResultResponse
from flue.harness.results import FOOTER, MAX_REMINDERS, REMINDER, Outcome, ResultType
from flue.harness.roles import find_role, with_role
from flue.harness.setup import check_custom_tools, require_model, resolve_model
from flue.harness.turns import ToolSet, TurnLoop
from flue.messages import AssistantMessage, ImageContent, TextContent, ThinkingLevel, UserMessage
from flue.ports import Model

if TYPE_CHECKING:
    from flue.harness.session import Session


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What one call changes: given values win over the agent's. `meters` are those of a call that gave this task.

    `journal` notes the steps; `cut_off` is the beginning of an answer that an interruption cut off, to be gone on with.
    """

    model: ModelChoice | None = None
    thinking_level: ThinkingLevel | None = None
    role: Role | None = None
    tools: tuple[Tool, ...] = ()
    images: tuple[ImageContent, ...] = ()
    budget: Budget | None = None
    meters: Meters = field(default_factory=Meters)
    journal: Journal = UNJOURNALED
    cut_off: str = ""


def call_options(  # noqa: PLR0917 - in the order of the options of `Session.prompt`
    session: Session,
    model: ModelChoice | None,
    thinking_level: ThinkingLevel | None,
    role: str | None,
    tools: Sequence[Tool],
    images: Sequence[ImageContent],
    budget: Budget | Mapping[str, float] | None,
) -> CallOptions:
    """Return the checked options of a call. Raises `DefinitionError` and `UsageError` (`unknown_role`)."""
    given = AgentProfile(
        model=model,
        thinking_level=thinking_level,
        tools=tools,  # type: ignore[arg-type]  # it makes a tuple of what it is given
        budget=as_budget(budget),
        _owner="call",
    )
    if given.tools:
        check_custom_tools((*session.setup.profile.tools, *given.tools), session.setup)
    for image in images:
        if not isinstance(image, ImageContent):
            raise UsageError(
                f"images takes ImageContent objects, got {type(image).__name__}.",
                code="invalid_images",
                hint="Write ImageContent(base64_data, 'image/png').",
            )
    chosen = find_role(session.harness.runtime.roles, role)
    return CallOptions(model, thinking_level, chosen, given.tools, tuple(images), given.budget)


async def run_prompt(
    session: Session,
    scope: Scope,
    text: str | None,
    *,
    wanted: ResultType | None,
    options: CallOptions,
    source: Source,
) -> PromptResponse | ResultResponse[Any]:
    """Prompt the model and return its response; without a text go on where the conversation was left.

    Raises what `Session.prompt` says.
    """
    clock = session.harness.runtime.clock
    options = replace(options, role=options.role or session.role)
    model = require_model(chosen_model(session, options), source)
    outcome = None if wanted is None else Outcome(wanted)
    own = Meter("call", options.budget)
    meters = Meters.of((own, session.meter, session.harness.meter, *options.meters))
    loop = _loop(session, scope, model, outcome, replace(options, meters=meters))
    with _pausing(options.journal):
        # A budget that an earlier call used up: a call of one turn would otherwise never meet it.
        meters.check(clock.monotonic())
        message, note = None, session.harness.files_note.take(session)
        if options.cut_off:
            cut_off = cut_off_answer(options.cut_off, model.info, clock.now_ms())
            options.journal.answer_recorded("", cut_off.usage)
            session.history.append(cut_off)
            message, source = UserMessage((*note, TextContent(GO_ON)), clock.now_ms()), "signal"
        elif text is not None:
            settle_calls_left_open(session.history, session.approvals, clock.now_ms())
            content = TextContent(text + FOOTER if outcome else text)
            now = clock.now_ms()
            message = UserMessage((*session.date_note.blocks(date_text(now)), *note, content, *options.images), now)
        elif note:
            loop.notice = UserMessage(note, clock.now_ms())
        with session.running(loop), session.history.tally() as tally:
            answer_text = await _Attempts(loop, source, outcome).run(message)
    if options.cut_off and loop.turns == 1:
        answer_text = options.cut_off + answer_text
    ref = ModelRef(model.info.provider, model.info.id)
    if outcome is None:
        return PromptResponse(answer_text, tally.total, ref, own.usage)
    return ResultResponse(outcome.value, tally.total, ref, own.usage, outcome.json)


@contextmanager
def _pausing(journal: Journal) -> Iterator[None]:
    """Let a used-up budget pause a prompt that can be taken up again, instead of failing it."""
    try:
        yield
    except BudgetExceededError as error:
        if journal.parks:
            raise Paused("budget", error=error) from error
        raise


class _Attempts:
    """Runs the loop until the call is settled: reminds a model that hands in no result, recovers once from overflow."""

    def __init__(self, loop: TurnLoop, source: Source, outcome: Outcome | None) -> None:
        self._loop = loop
        self._source = source
        self._outcome = outcome
        self._recovered = False

    async def run(self, message: UserMessage | None) -> str:
        """Return the last text. Raises when there is no answer, or no result."""
        source, text = self._source, ""
        for _ in range(MAX_REMINDERS + 1):
            answer = await self._attempt(message, source)
            text = answer.text
            if self._outcome is None or self._outcome.finished:
                await self._loop.compactor.compact_if_needed()
                return text
            if self._outcome.gave_up is not None:
                raise ResultUnavailableError(self._outcome.gave_up, text)
            await self._loop.between_turns()
            message, source = UserMessage((TextContent(REMINDER),), self._loop.clock.now_ms()), "retry"
        raise ResultUnavailableError(
            f"the model called neither `finish` nor `give_up` in {MAX_REMINDERS + 1} attempts", text
        )

    async def _attempt(self, message: UserMessage | None, source: Source) -> AssistantMessage:
        answer = await self._loop.run(message, source)
        if self._overflowed(answer) and not self._recovered:
            self._recovered = True
            answer = await self._recover(answer)
        if answer.stop_reason == "error":
            failure = self._loop.failure
            if failure is None:
                raise OperationError(f"{self._source} failed: {answer.error_message}")
            text = f"{self._source} failed: {failure.message}"
            raise OperationError(text, code=failure.code, hint=failure.hint) from failure
        return answer

    def _overflowed(self, answer: AssistantMessage) -> bool:
        """Say whether the conversation did not fit: the provider said so, or cut it without saying."""
        if answer.stop_reason == "error":
            return self._loop.failure is not None and self._loop.failure.overflow
        window = self._loop.model.info.context_window
        read = answer.usage.input + answer.usage.cache_read
        if not window:
            return False
        silent = answer.stop_reason == "length" and answer.usage.output == 0 and read >= 0.99 * window
        return silent or (answer.stop_reason == "stop" and read > window)

    async def _recover(self, answer: AssistantMessage) -> AssistantMessage:
        """Leave the failed answer, compact, and ask once more; where nothing can be compacted the answer stands."""
        self._loop.history.drop_last()
        if not await self._loop.compactor.compact("overflow"):
            self._loop.history.append(answer)
            return answer
        return await self._loop.run(None, "retry")


def _loop(session: Session, scope: Scope, model: Model, outcome: Outcome | None, options: CallOptions) -> TurnLoop:
    harness, setup = session.harness, session.setup
    runtime = harness.runtime
    return TurnLoop(
        model=model,
        system=with_role(setup.system, options.role),
        tools=_tools(session, options, outcome, scope),
        thinking=options.thinking_level or (options.role and options.role.thinking_level) or setup.thinking,
        affinity=f"{harness.id}::{harness.name}::{session.name}",
        history=session.history,
        tool_context=_tool_context(session),
        emitter=harness.emitter,
        scope=scope,
        clock=runtime.clock,
        ids=runtime.ids,
        off_loop=runtime.off_loop,
        retry=runtime.retry,
        meters=options.meters,
        compactor=make_compactor(session, scope, model, options.meters),
        approvals=session.approvals,
        journal=options.journal,
    )


def make_compactor(session: Session, scope: Scope, model: Model, meters: Meters) -> Compactor:
    """Return what compacts a session's history for a model."""
    harness, settings = session.harness, session.setup.profile.compaction
    runtime = harness.runtime
    choice = settings.model if settings else None
    return Compactor(
        model=(_model(session, choice) if choice else None) or model,
        limits=limits_for(model.info, settings),
        history=session.history,
        emitter=harness.emitter,
        scope=scope,
        clock=runtime.clock,
        ids=runtime.ids,
        retry=runtime.retry,
        meters=meters,
    )


def chosen_model(session: Session, options: CallOptions) -> Model | None:
    """Return the model of a call: the call's own choice wins over its role's, that over the agent's."""
    role = options.role or session.role
    choice = options.model
    return _model(session, role.model if choice is None and role is not None else choice)


def _model(session: Session, choice: ModelChoice | None) -> Model | None:
    if choice is None:
        return session.setup.model
    return resolve_model(choice, session.harness.runtime, session.harness.variables)


def _tool_context(session: Session) -> Callable[[str], ToolContext]:
    return lambda call_id: ToolContext(call_id, session.name, session.setup.env, session.harness.variables)


def _tools(session: Session, options: CallOptions, outcome: Outcome | None, scope: Scope) -> ToolSet:
    setup = session.setup
    custom = (*setup.profile.tools, *options.tools)
    if not setup.offers_task and outcome is None:
        return session.tool_set((*setup.base_tools, *session.skill_tools, *custom))
    task: tuple[Tool, ...] = ()
    if setup.offers_task:
        from flue.harness.tasks import task_tool

        task = (task_tool(session, scope, options),)
    return ToolSet((*setup.base_tools, *task, *session.skill_tools, *custom, *(outcome.tools() if outcome else ())))

"""One prompt: a message in, the turn loop until the model is done, a response out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flue.definitions.profile import ModelChoice
from flue.definitions.tool import Tool, ToolContext
from flue.errors import OperationError, ResultUnavailableError
from flue.events import Scope
from flue.harness.entries import Source
from flue.harness.responses import ModelRef, PromptResponse, ResultResponse
from flue.harness.results import FOOTER, MAX_REMINDERS, REMINDER, Outcome, ResultType
from flue.harness.setup import require_model, resolve_model
from flue.harness.turns import ToolSet, TurnLoop
from flue.messages import ImageContent, TextContent, ThinkingLevel, UserMessage
from flue.ports import Model

if TYPE_CHECKING:
    from flue.harness.session import Session


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What one call changes: given values win over the agent's."""

    model: ModelChoice | None = None
    thinking_level: ThinkingLevel | None = None
    tools: tuple[Tool, ...] = ()
    images: tuple[ImageContent, ...] = ()


async def run_prompt(
    session: Session, scope: Scope, text: str, *, wanted: ResultType | None, options: CallOptions, source: Source
) -> PromptResponse | ResultResponse[Any]:
    """Prompt the model and return its response. Raises what `Session.prompt` says."""
    harness, setup, history = session.harness, session.setup, session.history
    runtime = harness.runtime
    model = require_model(_model(session, options), source)
    outcome = None if wanted is None else Outcome(wanted)
    loop = TurnLoop(
        model=model,
        system=setup.system,
        tools=_tools(session, options, outcome, scope),
        thinking=options.thinking_level or setup.thinking,
        affinity=f"{harness.id}::{harness.name}::{session.name}",
        history=history,
        tool_context=lambda call_id: ToolContext(call_id, session.name, setup.env, harness.variables),
        emitter=harness.emitter,
        scope=scope,
        clock=runtime.clock,
        ids=runtime.ids,
        retry=runtime.retry,
    )
    message = UserMessage((TextContent(text + FOOTER if outcome else text), *options.images), runtime.clock.now_ms())
    with history.tally() as tally:
        answer_text = await _until_settled(loop, message, source, outcome)
    usage = tally.total
    ref = ModelRef(model.info.provider, model.info.id)
    if outcome is None:
        return PromptResponse(answer_text, usage, ref)
    return ResultResponse(outcome.value, usage, ref, outcome.json)


async def _until_settled(loop: TurnLoop, message: UserMessage, source: Source, outcome: Outcome | None) -> str:
    """Run the loop; with a result type, remind the model until it finishes. Return its last text."""
    kind, text = source, ""
    for _ in range(MAX_REMINDERS + 1):
        answer = await loop.run(message, source)
        text = answer.text
        if answer.stop_reason == "error":
            code = loop.failure.code if loop.failure else None
            raise OperationError(f"{kind} failed: {answer.error_message}", code=code) from loop.failure
        if outcome is None or outcome.finished:
            return text
        if outcome.gave_up is not None:
            raise ResultUnavailableError(outcome.gave_up, text)
        message = UserMessage((TextContent(REMINDER),), loop.clock.now_ms())
        source = "retry"
    raise ResultUnavailableError(
        f"the model called neither `finish` nor `give_up` in {MAX_REMINDERS + 1} attempts", text
    )


def _model(session: Session, options: CallOptions) -> Model | None:
    if options.model is None:
        return session.setup.model
    return resolve_model(options.model, session.harness.runtime, session.harness.variables)


def _tools(session: Session, options: CallOptions, outcome: Outcome | None, scope: Scope) -> ToolSet:
    setup = session.setup
    custom = (*setup.profile.tools, *options.tools)
    if not setup.offers_task and outcome is None:
        return session.tool_set((*setup.base_tools, *custom))
    task: tuple[Tool, ...] = ()
    if setup.offers_task:
        from flue.harness.tasks import task_tool

        task = (task_tool(session, scope, options),)
    return ToolSet((*setup.base_tools, *task, *custom, *(outcome.tools() if outcome else ())))

"""Driving a prompt or a dispatch: the session's prompt, from its message to its answer, over any number of attempts.

first attempt           the message goes into the session, the turn loop runs
after an interruption   the journal says how far it came (DUR-27):
    not in the session                begin
    a request without an answer       what had streamed is kept, and the model asked to go on with it
    calls without a result            recorded results are used, calls that never started run, the others are unknown
    a complete answer                 settle with it
approval, used-up budget              park; the context is kept in memory, in case this process goes on with it
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from flue.durable.records import JournalRecord, Message, Outcome, Submission, Wait
from flue.engine.attempt import (
    EXCEEDED_TIMEOUT,
    EXHAUSTED_ATTEMPTS,
    Again,
    Attempt,
    Ending,
    Parked,
    Released,
    Settled,
    error_info,
    failure,
)
from flue.engine.catalog import Deployment
from flue.engine.log_reader import LogReader
from flue.engine.messages import APPROVAL, BUDGET
from flue.engine.place import Place, Site
from flue.engine.prompt_journal import PromptJournal
from flue.engine.wording import dispatch_text
from flue.errors import DurabilityError, FlueError, SessionError
from flue.events import ErrorInfo, Idle, Operation, Scope
from flue.harness.context import FlueContext
from flue.harness.env import SessionEnv
from flue.harness.harness import Harness
from flue.harness.interrupted import note_interruption
from flue.harness.journal import Paused
from flue.harness.left_open import calls_left_open
from flue.harness.prompting import CallOptions
from flue.harness.responses import ModelRef, PromptResponse
from flue.harness.session import Session
from flue.messages import AssistantMessage, ImageContent
from flue.registrations import using_registrations

_WARM = 64
T = TypeVar("T")


@dataclass(slots=True)
class _Open:
    """A prompt's context in this process."""

    place: Place
    context: FlueContext
    harness: Harness
    session: Session


class Prompts:
    """Drives prompts. Contexts of those that wait for a person stay open, the oldest only while there is room."""

    def __init__(self, site: Site, reader: LogReader) -> None:
        self._site = site
        self._reader = reader
        self._waiting: OrderedDict[str, _Open] = OrderedDict()
        self._running: dict[str, _Open] = {}

    def sandbox(self, submission_id: str) -> SessionEnv | None:
        """Return the sandbox that a prompt works in, while it is open in this process."""
        opened = self._running.get(submission_id) or self._waiting.get(submission_id)
        return None if opened is None else opened.session.setup.env

    async def drive(self, attempt: Attempt, deployment: Deployment) -> Ending:
        """Bring a prompt to rest."""
        submission = attempt.submission
        records = await _despite_stop(attempt, lambda: self._records(attempt))
        journal = PromptJournal(attempt, records)
        with using_registrations(deployment.runtime.registrations):
            try:
                opened = await _despite_stop(attempt, lambda: self._open(attempt, deployment))
            except FlueError as error:
                if isinstance(error, DurabilityError):
                    raise
                return Settled(failure(error), error)
            self._running[submission.id] = opened
            try:
                ending = await _Prompt(self, attempt, journal, opened).run()
            except BaseException:
                await opened.context.close()
                raise
            finally:
                self._running.pop(submission.id, None)
        if isinstance(ending, Parked | Again):
            await self._keep(submission.id, opened)
        else:
            await opened.context.close()
        return ending

    async def close(self) -> None:
        """Close what is kept open."""
        while self._waiting:
            await self._waiting.popitem()[1].context.close()

    async def text_before(self, submission: Submission, journal: PromptJournal) -> str:
        """Return what had arrived of an answer when the attempt before this one ended."""
        if journal.open_request is None:
            return ""
        turn, index = journal.open_request
        return await self._reader.streamed_text(submission.id, turn, after=index - 1)

    async def messages(self, submission: Submission) -> list[Message]:
        """Return what the work was sent and has not taken in."""
        return await self._site.store.load_messages(submission.address)

    async def _records(self, attempt: Attempt) -> Sequence[JournalRecord]:
        return () if attempt.fresh else await self._site.store.load_journal(attempt.claim.id)

    async def _open(self, attempt: Attempt, deployment: Deployment) -> _Open:
        submission = attempt.submission
        kept = self._waiting.pop(submission.id, None)
        if kept is not None and kept.place.is_next(attempt) and not kept.session.history.stale:
            kept.context.emitter.next_index = await kept.place.enter(attempt)
            return kept
        if kept is not None:
            await kept.context.close()
        agent, instance = submission.target, submission.instance
        place = Place(self._site, agent=agent, instance=instance)
        first = await place.enter(attempt)
        entry = deployment.catalog.agent(agent)
        if entry.agent is None:
            raise SessionError(f'Agent "{agent}" has no conversations any more.', code="agent_not_found")
        payload = json.loads(submission.payload)
        scope = Scope(instance_id=instance, dispatch_id=payload.get("dispatchId"))
        context = place.context(attempt, deployment, id=instance, payload=None, scope=scope, first=first)
        try:
            harness = await context.init(entry.agent)
            session = await harness.session(payload["session"])
        except BaseException:
            await context.close()
            raise
        return _Open(place, context, harness, session)

    async def _keep(self, id: str, opened: _Open) -> None:
        self._waiting[id] = opened
        if len(self._waiting) > _WARM:
            await self._waiting.popitem(last=False)[1].context.close()


class _Prompt:
    """One attempt at one prompt."""

    def __init__(self, prompts: Prompts, attempt: Attempt, journal: PromptJournal, opened: _Open) -> None:
        self._prompts = prompts
        self._attempt = attempt
        self._submission = attempt.submission
        self._journal = journal
        self._context = opened.context
        self._harness = opened.harness
        self._session = opened.session
        self._taking = asyncio.Lock()
        self._paused = False
        """Whether it comes to rest: what is sent from here on is for whoever goes on with it."""
        self._raised = False
        """Whether a budget was raised while it ran."""
        self._place = opened.place
        attempt.on_force = self._forced
        journal.attach(opened.session.history, opened.harness.meter, opened.context.emitter)

    async def run(self) -> Ending:
        """Go on with the prompt until it comes to rest."""
        try:
            if given_up := self._given_up():
                return await self._give_up(given_up)
            return await self._go_on()
        except asyncio.CancelledError:
            # A call that is under way puts its session in order; before one there may be calls of an earlier attempt.
            if not (self._attempt.stopped_for_good and calls_left_open(self._session.history.transcript.messages)):
                raise
            self._attempt.take_stop()
            return await self._give_up(self._attempt.outcome_of_stop())

    async def _give_up(self, outcome: Outcome) -> Ending:
        session = self._session
        if self._journal.applied:
            reason = json.loads(outcome.error or "{}").get("message", "")
            await note_interruption(session.history, session.approvals, reason, self._context.clock.now_ms())
        return Settled(outcome)

    async def _go_on(self) -> Ending:
        submission, session = self._submission, self._session
        if self._journal.applied and (answer := self._complete_answer()):
            return Settled(self._announced(answer))
        await self._take_messages()
        cut_off = await self._prompts.text_before(submission, self._journal) if self._journal.applied else ""
        payload = json.loads(submission.payload)
        dispatched = submission.kind == "dispatch"
        text = None
        if not self._journal.applied:
            text = dispatch_text(submission, payload) if dispatched else payload["message"]
        images = tuple(ImageContent(image["data"], image["mimeType"]) for image in payload.get("images", ()))
        options = CallOptions(images=images, journal=self._journal, cut_off=cut_off)
        handle = session.start_prompt(text, None, options, "dispatch" if dispatched else "prompt")
        self._attempt.on_message = self._take_messages
        self._attempt.waits = lambda: bool(session.approvals.pending)
        try:
            reply = await handle
        except Paused as paused:
            return await self._pause(paused)
        except DurabilityError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever made the prompt fail is how it ended
            return Settled(failure(error), error)
        finally:
            self._attempt.on_message = None
        assert isinstance(reply, PromptResponse)
        return Settled(Outcome("completed", result=_json(replace(reply, usage=self._journal.usage))))

    def _given_up(self) -> Outcome | None:
        """Return how the prompt ends without another attempt."""
        submission = self._submission
        if self._attempt.stopped_for_good:
            return self._attempt.outcome_of_stop()
        if submission.cancel_reason is not None:
            return Outcome.aborted(submission.cancel_reason)
        if submission.interruptions >= submission.max_attempts:
            return EXHAUSTED_ATTEMPTS
        deadline = submission.deadline_at
        return EXCEEDED_TIMEOUT if deadline is not None and deadline <= self._context.clock.now_ms() else None

    def _complete_answer(self) -> AssistantMessage | None:
        """Return the answer that the session ends with, when nothing is left to do."""
        messages = self._session.history.transcript.messages
        last = messages[-1] if messages else None
        if not isinstance(last, AssistantMessage) or self._journal.open_request is not None:
            return None
        return None if last.tool_calls or last.stop_reason == "aborted" else last

    def _announced(self, answer: AssistantMessage) -> Outcome:
        """Return the outcome of a prompt that was complete but not settled, and tell of it once more."""
        emit, scope = self._context.emitter.emit, replace(self._harness.scope, session=self._session.name)
        if answer.stop_reason == "error":
            error = ErrorInfo("OperationError", answer.error_message or "The model failed.")
            emit(scope, Operation, "prompt", 0, True, error)
            emit(scope, Idle)
            return Outcome("failed", error=json.dumps(error.to_json()))
        usage = self._journal.usage
        reply = PromptResponse(answer.text, usage, ModelRef(answer.provider, answer.model))
        emit(scope, Operation, "prompt", 0, False, None, reply, usage)
        emit(scope, Idle)
        return Outcome("completed", result=_json(reply))

    def _forced(self, outcome: Outcome) -> None:
        """Write the end of the prompt, whose call goes on."""
        ended = self._context.emitter.last == Idle.type
        log = self._place.last_words(self._context.emitter)
        if not ended:
            scope = replace(self._harness.scope, session=self._session.name)
            log.emit(scope, Operation, "prompt", 0, True, error_info(outcome.error or ""))
            log.emit(scope, Idle)

    async def _pause(self, paused: Paused) -> Ending:
        if paused.reason == "stop":
            return Released()
        async with self._taking:
            self._paused = True
        # What was taken in before is used up, and nothing that the store sees when the prompt is to be parked.
        there, names = self._raised, [BUDGET]
        if paused.reason == "approval":
            pending = {approval.tool_call_id for approval in self._session.approvals.pending}
            there, names = not pending.issuperset(paused.names), [APPROVAL + name for name in paused.names]
        if there:
            await self._attempt.outbox.flush()
            return Again()
        return Parked(Wait(paused.reason, names=tuple(names)))

    async def _take_messages(self) -> None:
        """Take in decisions and budgets that were sent to the prompt; each is used up with its effect (DUR-33)."""
        async with self._taking:
            for message in () if self._paused else await self._prompts.messages(self._submission):
                body: Any = json.loads(message.body)
                if message.name == BUDGET:
                    self._journal.budget_raised(body)
                    self._attempt.outbox.add(consumed=[message.id])
                    self._raised = True
                elif message.name.startswith(APPROVAL):
                    await self._decide(message.name.removeprefix(APPROVAL), message.id, body)

    async def _decide(self, call_id: str, message_id: str, body: Any) -> None:
        approvals = self._session.approvals
        self._attempt.outbox.add(consumed=[message_id])
        if call_id not in {approval.tool_call_id for approval in approvals.pending}:
            return  # decided before; some models use an id again, and the next call needs a decision of its own
        await approvals.decide(call_id, "approved" if body["approved"] else "denied", body["reason"])


async def _despite_stop(attempt: Attempt, work: Callable[[], Awaitable[T]]) -> T:
    """Await work, from the beginning once more when the attempt is stopped meanwhile.

    The session is then put in order before the prompt ends: the attempt before may have left calls without a result.
    """
    try:
        return await work()
    except asyncio.CancelledError:
        if attempt.fresh or not attempt.stopped_for_good:
            raise
        attempt.take_stop()
        return await work()


def _json(reply: PromptResponse) -> str:
    return json.dumps(reply.to_json())

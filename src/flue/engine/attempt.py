"""An attempt: one claim under way, how it was asked to stop, and how it came to rest."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from flue.durable.outbox import Outbox
from flue.durable.records import Admission, Claim, Outcome, Submission, Wait
from flue.errors import FlueError, error_message
from flue.events import ErrorInfo
from flue.messages import Json

StopReason = Literal["abort", "deadline", "lost"]
Phase = Literal["driving", "ending", "abandoned"]
"""Whether the work is done, or comes to rest, or is no more this attempt's: what its task still does is for nothing."""


@dataclass(frozen=True, slots=True)
class Settled:
    """The work is done, in whatever way. `error` is what an application's own code raised, to be logged."""

    outcome: Outcome
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Parked:
    """The work waits."""

    wait: Wait


@dataclass(frozen=True, slots=True)
class Again:
    """What the work was about to wait for is there: it goes on at once, under the same claim."""


@dataclass(frozen=True, slots=True)
class Released:
    """The work stopped where anybody can go on with it."""


@dataclass(frozen=True, slots=True)
class Restarted:
    """An interrupted run ends with `error` (JSON) and is replaced."""

    admission: Admission
    error: str


Ending = Settled | Parked | Again | Released | Restarted


class Attempt:
    """One claim in this process.

    `fresh` says that nobody worked on the submission before. `request` is what the caller of this process came with,
    if the work was accepted here.
    """

    def __init__(self, claim: Claim, outbox: Outbox, *, request: Any = None) -> None:
        self.claim = claim
        self.outbox = outbox
        self.fresh = claim.first
        self.index: int | None = claim.index
        """The first of the indices that came with the claim; None once they are used."""
        self.request = request
        self.stopped: StopReason | None = None
        self.stop_text = ""
        self.pause_wanted = False
        """Set when the process is about to end: the work stops where it can be continued."""
        self.on_message: Callable[[], Awaitable[None]] | None = None
        """Called when a message came for this work while it runs."""
        self.waits: Callable[[], bool] = lambda: False
        """Says whether something in this work waits for a message while it runs."""
        self.on_force: Callable[[Outcome], None] = lambda outcome: None
        """Called to write into the log how work ends that does not end by itself."""
        self.task: asyncio.Task[None] | None = None
        self.begun = False
        """Whether the task has taken its first step: cancelled before, it would end without one."""
        self.phase: Phase = "driving"
        self.rest: asyncio.Future[Outcome | None] = asyncio.get_running_loop().create_future()
        """How the submission ended, once it has; None when the attempt came to rest in another way."""

    @property
    def submission(self) -> Submission:
        """Return the submission as it was when it was claimed."""
        return self.claim.submission

    def stop(self, reason: StopReason, text: str = "") -> bool:
        """Have the attempt's task cancelled, which puts what it works on in order; say whether that was done.

        The first reason counts; what is coming to rest already is not stopped.
        """
        if self.stopped is not None or self.phase != "driving" or self.task is None:
            return False
        self.stopped, self.stop_text = reason, text
        if self.begun:
            self.task.cancel()
        return True

    def begin(self) -> None:
        """Take note, in the task, that it works; one that was stopped before then hears of it."""
        self.begun = True
        if self.stopped is not None and self.task is not None:
            self.task.cancel()

    def begin_again(self) -> None:
        """Go on with the work under the same claim."""
        self.fresh = False

    @property
    def stopped_for_good(self) -> bool:
        """Say whether the work is to end here: it was stopped, and not because somebody else has it."""
        return self.stopped in ("abort", "deadline")

    def take_stop(self) -> None:
        """Take note, in the task, that it was cancelled to stop: it may await again."""
        if self.task is not None:
            self.task.uncancel()

    def settle(self, outcome: Outcome) -> None:
        """Tell those who wait how the submission ended."""
        if not self.rest.done():
            self.rest.set_result(outcome)

    def come_to_rest(self) -> None:
        """Tell those who wait that the submission goes on elsewhere, or later, if it has not ended."""
        if not self.rest.done():
            self.rest.set_result(None)

    def outcome_of_stop(self) -> Outcome:
        """Return how the submission ends that was stopped."""
        if self.stopped == "deadline":
            return EXCEEDED_TIMEOUT
        return Outcome.aborted(self.stop_text)


def failed(message: str, *, code: str, hint: str = "") -> Outcome:
    """Return the outcome of work that the engine gave up."""
    described = {"name": "OperationError", "message": message, "code": code, "hint": hint}
    return Outcome("failed", error=json.dumps(described))


EXCEEDED_TIMEOUT = failed(
    "The work took longer than it may in all.", code="exceeded_timeout", hint="Raise `timeout` in `durability`."
)
EXHAUSTED_ATTEMPTS = failed(
    "The work was interrupted as often as it may be.",
    code="exhausted_attempts",
    hint="Look at what ends the process; raise `max_attempts` in `durability`.",
)


def error_info(error: str) -> ErrorInfo:
    """Return the error of an outcome as events carry it."""
    described = json.loads(error)
    return ErrorInfo(described["name"], described["message"])


def failure(error: BaseException) -> Outcome:
    """Return the outcome of work that raised."""
    return Outcome("failed", error=json.dumps(describe(error)))


def describe(error: BaseException) -> Json:
    """Return an exception as records keep it."""
    if isinstance(error, FlueError):
        return {"name": type(error).__name__, "message": error.message, "code": error.code, "hint": error.hint}
    return {"name": type(error).__name__, "message": error_message(error)}

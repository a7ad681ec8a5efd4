"""The port behind `ctx.step`, `ctx.sleep` and `ctx.wait_for_event`: where a chain of runs keeps what it has done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from flue.errors import UsageError


@dataclass(frozen=True, slots=True)
class StepMessage:
    """An event sent to the run that nobody has taken yet; `body` is its payload as JSON text."""

    id: str
    body: str


class StepLog(Protocol):
    """What the runs of one chain have recorded (`ctx.lineage_id`), as one attempt at a run sees it.

    Names are unique within the chain. What is recorded stays: it is neither replaced nor deleted while a run of the
    chain may begin again.
    """

    def find(self, name: str) -> str | None:
        """Return what is recorded under a name, as JSON text: by this attempt or by any before it in the chain."""
        ...

    async def record(self, name: str, body: str, *, consumed: str | None = None) -> None:
        """Record JSON text; when this returns it is durable, and `find` gives it.

        `consumed` is the id of a message that this uses up. Both are written in one transaction: afterwards
        `find_message` gives the message to nobody, in this attempt and in later ones. Raises `DurabilityError`.
        """
        ...

    async def find_message(self, name: str) -> StepMessage | None:
        """Return the oldest message of that name which no `record` has consumed.

        Raises `UsageError` (`needs_server`) where none can ever come.
        """
        ...

    def listen(self, came: Callable[[], None], waits: Callable[[], bool]) -> None:
        """Have `came` called in this event loop when a message may have come; `waits` says whether anything waits.

        It saves a run that does other things meanwhile from hearing of it at their end only, and one that has just
        begun to wait from being given up for it. It may be called for nothing, or not at all.
        """
        ...

    async def suspend(self, wake_at: int | None, names: Sequence[str]) -> None:
        """Wait until a message with one of the names is there; the run is doing nothing else.

        An engine gives the run up here: it cancels the run's task first, and when that has ended parks the work until
        `wake_at` (milliseconds since the epoch; None: no limit) or the first such message. Then it begins the run
        again over what is recorded, under the same id. This method does not return in that case; the task that awaits
        it may be cancelled at any time, which takes nothing back. A message that came before must not be missed.

        An implementation that stays in the process may return early, and need not return for `wake_at`: the caller
        keeps that time itself.
        """
        ...


class MemorySteps:
    """The steps of a context without an engine: kept until it ends. Nobody can send it events."""

    def __init__(self) -> None:
        self._recorded: dict[str, str] = {}

    def find(self, name: str) -> str | None:
        """Return what is recorded under a name."""
        return self._recorded.get(name)

    async def record(self, name: str, body: str, *, consumed: str | None = None) -> None:
        """Record JSON text."""
        self._recorded[name] = body

    async def find_message(self, name: str) -> StepMessage | None:
        """Raise `UsageError` (`needs_server`)."""
        raise UsageError(
            f'Nobody can send the event "{name}" to this run: it was started without a server.',
            code="needs_server",
            hint="Start the workflow through a server, `flue dev` for example; in a script, wait for what you need.",
        )

    def listen(self, came: Callable[[], None], waits: Callable[[], bool]) -> None:
        """Do nothing: nothing comes."""

    async def suspend(self, wake_at: int | None, names: Sequence[str]) -> None:
        """Return at once: whoever waits for a time waits in this process."""

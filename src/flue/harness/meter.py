"""Meters: what was spent, held against a budget."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from flue.definitions.budget import Budget
from flue.errors import BudgetExceededError
from flue.messages import Json, Usage
from flue.ports import Clock


@dataclass(slots=True, eq=False)
class Meter:
    """What one call, session or agent has spent, tasks included. `budget` may be raised at any time."""

    scope: Literal["call", "session", "agent"]
    budget: Budget | None = None
    usage: Usage = field(default_factory=Usage)
    turns: int = 0
    seconds: float = 0.0
    _running: int = 0
    _since: float = 0.0

    def add(self, usage: Usage, *, turns: int = 0) -> None:
        """Count a turn, or a request beside the turns."""
        self.usage += usage
        self.turns += turns

    def begin(self, now: float) -> None:
        """Note that a turn begins. Turns at the same time, as those of a task inside a turn, count once."""
        if self._running == 0:
            self._since = now
        self._running += 1

    def end(self, now: float) -> None:
        """Note that a turn ends."""
        self._running -= 1
        if self._running == 0:
            self.seconds += now - self._since

    def check(self, now: float) -> None:
        """Raise `BudgetExceededError` when a limit is reached."""
        if self.budget is None:
            return
        spent = (
            ("usd", self.budget.usd, self.usage.cost.total),
            ("tokens", self.budget.tokens, self.usage.total_tokens),
            ("turns", self.budget.turns, self.turns),
            ("seconds", self.budget.seconds, self.seconds + (now - self._since if self._running else 0.0)),
        )
        for name, limit, value in spent:
            if limit is not None and value >= limit:
                raise BudgetExceededError(self.scope, name, spent=value, limit=limit)

    def to_json(self) -> Json:
        """Return what was spent, for a session's metadata."""
        return {"usage": self.usage.to_json(), "turns": self.turns, "seconds": self.seconds}

    def restore(self, data: Mapping[str, Any]) -> None:
        """Go on from what `to_json` gave."""
        if data:
            self.usage = Usage.from_json(data["usage"])
            self.turns, self.seconds = data["turns"], data["seconds"]


class Meters(tuple[Meter, ...]):
    """The meters that one call runs: its own, its session's, its agent's, and those of the call that gave it."""

    __slots__ = ()

    @classmethod
    def of(cls, meters: Iterable[Meter]) -> Meters:
        """Return the meters, each once: a task shares its agent's with the call that gave it."""
        return cls(dict.fromkeys(meters))

    def add(self, usage: Usage, *, turns: int = 0) -> None:
        """Count on every meter."""
        for meter in self:
            meter.add(usage, turns=turns)

    @contextmanager
    def running(self, clock: Clock) -> Iterator[None]:
        """Count the time of the block, a turn, on every meter."""
        for meter in self:
            meter.begin(clock.monotonic())
        try:
            yield
        finally:
            for meter in self:
                meter.end(clock.monotonic())

    def check(self, now: float) -> None:
        """Raise `BudgetExceededError` for the first budget that is used up; `now` is of the monotonic clock."""
        for meter in self:
            meter.check(now)

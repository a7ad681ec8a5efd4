"""An event as readers of a log get it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """One event: `data` is its wire JSON, one line of text.

    `index` is its place in its log. `offset` is the place of its row in the log of an agent instance (0: in none);
    several events may share it.
    """

    index: int
    type: str
    data: str
    offset: int = 0

"""Cases and the rows they become."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.scenarios import Task


@dataclass(frozen=True, slots=True)
class Case:
    """One measurement, and where what of it is shown; cases with the same task share it."""

    section: str
    label: str
    task: Task
    metric: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `met` is None where there is no goal."""

    section: str
    label: str
    values: Sequence[float] = ()
    note: str = ""
    goal: str = ""
    met: bool | None = None
    missing: str = ""
    samples: Mapping[str, Sequence[float]] = field(default_factory=dict)


def share(values: list[float], part: float) -> float:
    """Return the value that so large a part of the values does not exceed."""
    return sorted(values)[min(int(len(values) * part), len(values) - 1)]

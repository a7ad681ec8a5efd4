"""Budgets: what a call, a session or an agent may spend before it pauses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

from flue.errors import DefinitionError


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits; None is none. `usd` counts known prices only, `turns` model requests, `seconds` the time of turns.

    A budget is looked at between turns, never inside one: the turn that crosses it is finished and kept. Raises
    `DefinitionError` for limits that are not positive numbers.
    """

    usd: float | None = None
    tokens: int | None = None
    turns: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value <= 0:
                raise DefinitionError(f"budget: {field.name} must be a positive number, got {value!r}.")


def as_budget(value: object) -> Budget | None:
    """Return a budget from a budget, a mapping of its limits, or None."""
    if value is None or isinstance(value, Budget):
        return value
    if not isinstance(value, Mapping):
        raise DefinitionError(f"budget must be a Budget or a mapping, got {type(value).__name__}.")
    known = [field.name for field in fields(Budget)]
    if unknown := sorted(str(key) for key in value if key not in known):
        raise DefinitionError(f"budget: unknown limit {', '.join(unknown)}.", hint=f"Known: {', '.join(known)}.")
    return Budget(**value)

"""How long and how often accepted work is tried."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from flue.definitions.duration import seconds
from flue.errors import DefinitionError


@dataclass(frozen=True, slots=True)
class Durability:
    """`max_attempts` is how often work may be begun after interruptions; `timeout` how many seconds it may run in all.

    Time in the queue, and time that work waits for an approval, an event or a wake-up, does not count. None is no
    limit. Raises `DefinitionError` for values that are not positive.
    """

    max_attempts: int = 10
    timeout: float | None = 3600.0

    def __post_init__(self) -> None:
        attempts: Any = self.max_attempts
        if not isinstance(attempts, int) or isinstance(attempts, bool) or attempts < 1:
            raise DefinitionError(f"durability: max_attempts must be a positive whole number, got {attempts!r}.")
        if self.timeout is not None and not (math.isfinite(self.timeout) and self.timeout > 0):
            raise DefinitionError(f"durability: timeout must be positive, got {self.timeout!r}.")


def as_durability(value: object, default: Durability | None = None) -> Durability:
    """Return a durability from one, a mapping of its fields, or None for the default.

    `timeout` may be a number of seconds or text like "90s", "30m", "1h". Raises `DefinitionError`.
    """
    default = default if default is not None else Durability()
    if value is None:
        return default
    if isinstance(value, Durability):
        return value
    if not isinstance(value, Mapping):
        raise DefinitionError(f"durability must be a mapping, got {type(value).__name__}.")
    known = [field.name for field in fields(Durability)]
    if unknown := sorted(str(key) for key in value if key not in known):
        raise DefinitionError(f"durability: unknown field {', '.join(unknown)}.", hint=f"Known: {', '.join(known)}.")
    timeout = value.get("timeout", default.timeout)
    return Durability(value.get("max_attempts", default.max_attempts), None if timeout is None else seconds(timeout))

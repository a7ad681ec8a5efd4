"""How often and how long a step is tried, and the checks of what steps are given."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta

from flue.definitions.checks import is_unicode
from flue.definitions.duration import seconds
from flue.errors import (
    AbortError,
    BudgetExceededError,
    DefinitionError,
    DurabilityError,
    OperationTimeoutError,
    UsageError,
)
from flue.harness.journal import Paused

Duration = float | str | timedelta
LONGEST_NAME = 200
LONGEST_DELAY = 3600.0


@dataclass(frozen=True, slots=True)
class Attempts:
    """How often a step is tried, and how long each time; in seconds."""

    retries: int
    delay: float
    backoff: float
    timeout: float | None

    @classmethod
    def of(
        cls, name: str, fn: object, *, retries: object, delay: Duration, backoff: object, timeout: Duration | None
    ) -> Attempts:
        """Check what `ctx.step` was given. Raises `UsageError` (`invalid_step`, `invalid_timeout`)."""
        check_name(name, "step()")
        where = f'step("{name}")'
        if not callable(fn):
            raise UsageError(
                f"{where}: the second argument must be a function, got {type(fn).__name__}.",
                code="invalid_step",
                hint="Pass the function and its arguments: step(name, fetch, url), not step(name, fetch(url)).",
            )
        if not isinstance(retries, int) or isinstance(retries, bool) or retries < 0:
            raise UsageError(f"{where}: retries must be 0 or a positive number, got {retries!r}.", code="invalid_step")
        if not isinstance(backoff, int | float) or not 1 <= backoff < math.inf:
            raise UsageError(f"{where}: backoff must be a number from 1 on, got {backoff!r}.", code="invalid_step")
        return cls(retries, seconds_of(delay, where, "delay"), backoff, timeout_of(timeout, where))

    def pause(self, failed: int) -> float:
        """Return how long to wait after the failed attempt of that number, from 1."""
        try:
            return min(self.delay * self.backoff ** (failed - 1), LONGEST_DELAY)
        except OverflowError:
            return LONGEST_DELAY


def check_name(name: object, where: str) -> None:
    """Raise `UsageError` (`invalid_step`) for what cannot be a name."""
    if not isinstance(name, str) or not name.strip() or len(name) > LONGEST_NAME or not is_unicode(name):
        raise UsageError(
            f"{where}: the name must be text of 1 to {LONGEST_NAME} characters, got {name!r:.100}.", code="invalid_step"
        )


def seconds_of(value: object, where: str, what: str, code: str = "invalid_step") -> float:
    """Return a duration in seconds, from a number of them, a timedelta or text like "90s".

    Raises `UsageError` for what is none.
    """
    try:
        found = value.total_seconds() if isinstance(value, timedelta) else seconds(value)
    except DefinitionError:
        found = math.nan
    if 0 <= found < math.inf:
        return found
    raise UsageError(
        f"{where}: {what} must not be negative, in seconds, as text like '90s' or as a timedelta; got {value!r}.",
        code=code,
    )


def timeout_of(value: Duration | None, where: str) -> float | None:
    """Return a timeout in seconds, None for none. Raises `UsageError` (`invalid_timeout`)."""
    if value is None:
        return None
    limit = seconds_of(value, where, "timeout", "invalid_timeout")
    if limit == 0:
        raise UsageError(f"{where}: timeout must be more than 0 s.", code="invalid_timeout")
    return limit


def may_go_better(error: Exception) -> bool:
    """Say whether an attempt that ended like this is worth another one."""
    if isinstance(error, AbortError):
        return isinstance(error, OperationTimeoutError)
    return not isinstance(error, UsageError | BudgetExceededError | DurabilityError | Paused)

"""When a failed model request is made again: here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass

from flue.errors import ProviderError


@dataclass(frozen=True, slots=True)
class Retry:
    """Exponential backoff, in seconds. A provider's `retry-after` wins, unless it asks for more than `patience`."""

    attempts: int = 3
    first_delay: float = 0.5
    longest_delay: float = 8.0
    patience: float = 60.0

    def delay(self, error: ProviderError, attempt: int) -> float | None:
        """Return how long to wait after the failed attempt number `attempt` (from 1), or None to give up."""
        if not error.retryable or error.overflow or attempt >= self.attempts:
            return None
        if error.retry_after is not None:
            return max(error.retry_after, 0.0) if error.retry_after <= self.patience else None
        return float(min(self.first_delay * 2 ** (attempt - 1), self.longest_delay))

"""What the event log keeps, and how soon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """Settings of an event log.

    `errors="redacted"` takes the messages of errors out of what is kept, so that nobody who reads the log sees them;
    their names stay. A field whose JSON is longer than `field_limit` characters is replaced by a marker. Deltas are
    written at the latest `flush_seconds` after the first of them.
    """

    errors: Literal["full", "redacted"] = "full"
    field_limit: int = 256 * 1024
    flush_seconds: float = 0.25

    @property
    def redacted(self) -> bool:
        """Say whether messages of errors are left out."""
        return self.errors == "redacted"

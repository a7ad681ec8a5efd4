"""The errors of durable work, in the same words for every store."""

from __future__ import annotations

from flue.errors import DurabilityError, SessionError


def attempt_lost(submission_id: str, attempt_id: str) -> DurabilityError:
    """Return the error for a write by an attempt that no longer holds its submission."""
    return DurabilityError(
        f"Attempt {attempt_id} no longer holds submission {submission_id}: it was settled, cancelled or taken over.",
        code="attempt_lost",
        hint="Nothing was written. Stop working on it; whoever holds it now goes on.",
    )


def idempotency_conflict(what: str) -> DurabilityError:
    """Return the error for a key or id that was used before with other content."""
    return DurabilityError(
        f"{what} was used before for something else.",
        code="idempotency_conflict",
        hint="Use a new key for new content, or repeat the first request unchanged.",
    )


def session_busy() -> SessionError:
    """Return the error for an admission that would have to wait and was not to."""
    return SessionError(
        "The session is already running an operation.",
        code="session_busy",
        hint="Wait for its answer, or let the message wait its turn.",
    )


def event_gap(log: str, first: int, last: int, *, free: int, reserved: int) -> DurabilityError:
    """Return the error for events outside the indices reserved for their log."""
    return DurabilityError(
        f"Events {first} to {last} of {log} lie outside what is reserved ({free} to {reserved - 1}).",
        code="event_index",
        hint="Reserve indices before they are used, and use each once.",
    )

"""The errors that every store raises in the same words."""

from __future__ import annotations

from flue.errors import DurabilityError


def session_conflict(key: str, expected: int, found: int) -> DurabilityError:
    """Return the error for an append whose caller has not seen the session as it is now."""
    counts = f"{expected} entries were expected, it has {found}" if found != expected else "its last entry is another"
    return DurabilityError(
        f"Session {key} was changed by someone else: {counts}.",
        code="session_conflict",
        hint="Nothing was written. Get the session from its harness again, and repeat the call.",
    )


def newer_format(what: str, found: object, known: int) -> DurabilityError:
    """Return the error for data written by a newer Flue than this one."""
    return DurabilityError(
        f"{what} has format {found}; this version of Flue reads formats up to {known}.",
        code="store_newer_format",
        hint="Upgrade flue-agents, or use another store.",
    )


def store_closed(what: str) -> DurabilityError:
    """Return the error for using a store after `aclose()`."""
    return DurabilityError(f"{what} is closed.", code="store_closed", hint="Open a new store to go on.")


def invalid_text(what: str) -> DurabilityError:
    """Return the error for text that is no valid Unicode, meant for a database."""
    return DurabilityError(
        f"Text for {what} is not valid Unicode (it has half of a surrogate pair).",
        code="store_invalid_text",
        hint="Encode JSON with ensure_ascii=True, or replace what is not valid.",
    )

"""What every event has: where it happened, its number, its time, and the wire's JSON of its fields."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any, ClassVar

from flue.errors import error_message
from flue.messages import Json


def iso_time(ms: int) -> str:
    """Return ISO 8601 in UTC with milliseconds, as every timestamp on the wire."""
    return f"{_iso_second(ms // 1000)}.{ms % 1000:03d}Z"


@lru_cache(maxsize=64)
def _iso_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@cache
def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def plain(value: Any) -> Any:
    """Return a value of a field as JSON values."""
    if hasattr(value, "to_json"):
        return value.to_json()
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


@dataclass(frozen=True, slots=True)
class Scope:
    """Where an event happened. `run_id` is set in runs, `instance_id` in agents; a function agent's run has both."""

    run_id: str | None = None
    instance_id: str | None = None
    dispatch_id: str | None = None
    harness: str | None = None
    session: str | None = None
    operation_id: str | None = None
    turn_id: str | None = None
    parent_session: str | None = None
    task_id: str | None = None

    def to_json(self) -> Json:
        """Return the fields that are set."""
        return {_camel(name): value for name in _names(Scope) if (value := getattr(self, name)) is not None}


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `index` counts from 0 in its context; `at_ms` is in milliseconds since the epoch."""

    type: ClassVar[str] = ""
    always: ClassVar[frozenset[str]] = frozenset()
    """Fields that stand in the JSON even when they are None."""

    scope: Scope
    index: int
    at_ms: int

    def own_json(self) -> Json:
        """Return the fields of this type of event alone."""
        own: Json = {}
        kind: Any = type(self)
        for field in _own_fields(kind):
            value = getattr(self, field)
            if value is not None or field in self.always:
                own[_camel(field)] = plain(value)
        return own

    def to_json(self) -> Json:
        """Return the wire form."""
        return {
            "type": self.type,
            **self.scope.to_json(),
            **self.own_json(),
            "eventIndex": self.index,
            "timestamp": iso_time(self.at_ms),
        }


@cache
def _own_fields(cls: Any) -> tuple[str, ...]:
    return tuple(name for name in _names(cls) if name not in ("scope", "index", "at_ms"))


@cache
def _names(cls: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(cls))


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """An error as events carry it."""

    name: str
    message: str

    def to_json(self) -> Json:
        """Return the wire form."""
        return {"name": self.name, "message": self.message}

    @classmethod
    def of(cls, error: BaseException) -> ErrorInfo:
        """Describe an exception."""
        return cls(type(error).__name__, error_message(error))

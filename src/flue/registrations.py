"""Module-level registrations: what `register_provider`, `observe` and `schedule` write to.

They belong to the project whose modules are being loaded and vanish with it, so that a reload starts clean and two
projects in one process do not see each other. Outside any project they belong to the process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False)
class Registrations:
    """One project's registrations.

    `providers` and `overrides` map provider ids to what `flue.models` put there; `observers` are event subscribers;
    `schedules` are of `flue.definitions.schedule`.
    `parent` is looked at when a name is missing here (the process's own registrations, for a project). `root` is the
    project's directory and `target` where it is to run, both empty for the process.
    """

    parent: Registrations | None = None
    root: str = ""
    target: str = ""
    providers: dict[str, Any] = field(default_factory=dict)
    overrides: dict[str, Any] = field(default_factory=dict)
    observers: list[Callable[..., Any]] = field(default_factory=list)
    schedules: list[Any] = field(default_factory=list)

    def chain(self) -> Iterator[Registrations]:
        """Yield this and its parents, nearest first."""
        node: Registrations | None = self
        while node is not None:
            yield node
            node = node.parent


PROCESS = Registrations()
_current: ContextVar[Registrations] = ContextVar("flue_registrations", default=PROCESS)


def current_registrations() -> Registrations:
    """Return the registrations of the project being loaded or run, else the process's."""
    return _current.get()


@contextmanager
def using_registrations(registrations: Registrations) -> Iterator[Registrations]:
    """Make `registrations` current inside the block (a project being loaded or run)."""
    token = _current.set(registrations)
    try:
        yield registrations
    finally:
        # A block that is left in another context than it was entered in (a fixture's two halves, say) has nothing to
        # put back there.
        with suppress(ValueError):
            _current.reset(token)

"""What the functions of a project raise, kept for whoever reports it: records keep only its words."""

from __future__ import annotations

import inspect
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from flue.engine.catalog import Catalog
from flue.errors import AbortError
from flue.harness.context import FlueContext

# Of those that nobody takes, because their client is gone, so many are kept.
_KEPT = 64


class Raised:
    """The exceptions that runs of this process ended with, by run id, until they are taken."""

    def __init__(self) -> None:
        self._errors: dict[str, BaseException] = {}

    def take(self, run_id: str) -> BaseException | None:
        """Return what a run raised."""
        return self._errors.pop(run_id, None)

    def watching(self, catalog: Catalog) -> Catalog:
        """Return a catalogue of the same functions, watched."""
        agents = (
            entry if entry.run is None else replace(entry, run=self._watched(entry.run))
            for entry in catalog.agents.values()
        )
        workflows = (replace(entry, run=self._watched(entry.run)) for entry in catalog.workflows.values())
        return Catalog.of(agents, workflows)

    def _watched(self, run: Callable[[FlueContext], Any]) -> Callable[[FlueContext], Any]:
        async def watched(context: FlueContext) -> Any:
            try:
                value = run(context)
                return await value if inspect.isawaitable(value) else value
            except KeyboardInterrupt:
                # Raised by the function itself, as the signal ends the process only the second time.
                signal.raise_signal(signal.SIGINT)
                raise AbortError("The run ended itself with KeyboardInterrupt.") from None
            except (Exception, SystemExit) as error:
                self._errors[context.run_id or ""] = error
                while len(self._errors) > _KEPT:
                    del self._errors[next(iter(self._errors))]
                raise

        return watched

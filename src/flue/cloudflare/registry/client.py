"""What is asked of the registry of runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from flue.cloudflare.asking import ask_object
from flue.cloudflare.names import REGISTRY
from flue.durable.records import Run, RunQuery


@dataclass(frozen=True, slots=True)
class Pointer:
    """A run as the registry knows it, without its payload and result, and the name of the object that has it."""

    run: Run
    object: str

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"run": asdict(self.run), "object": self.object}

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> Pointer:
        """Return what `to_json` gave."""
        return cls(Run(**values["run"]), values["object"])


async def find_run(run_id: str) -> Pointer | None:
    """Return where a run is, None when there is none. Raises `DurabilityError` (`object_unreachable`)."""
    found = await _ask("find", run_id)
    return None if found is None else Pointer.of_json(found)


async def list_runs(query: RunQuery) -> list[Run]:
    """Return a page of runs, newest first. Raises `DurabilityError` (`object_unreachable`)."""
    return [Run(**values) for values in await _ask("list", asdict(query))]


async def tell_runs(pointers: list[Pointer]) -> None:
    """Tell how runs stand. Raises `DurabilityError` (`object_unreachable`)."""
    await _ask("tell", [pointer.to_json() for pointer in pointers])


async def forget_runs(run_ids: list[str]) -> None:
    """Tell which runs are deleted. Raises `DurabilityError` (`object_unreachable`)."""
    await _ask("forget", run_ids)


async def _ask(what: str, body: Any) -> Any:
    _, answer = await ask_object(REGISTRY, REGISTRY.name, what, body)
    return answer

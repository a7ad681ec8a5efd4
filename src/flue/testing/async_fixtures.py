"""The fixtures that need an event loop; see `flue.testing.plugin`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest_asyncio

if TYPE_CHECKING:
    from flue.harness.context import FlueContext
    from flue.ports import Model
    from flue.testing.clock import VirtualClock
    from flue.testing.provider_server import ProviderServer
    from flue.testing.scripted import ScriptedModel


class OneModel:
    """A `ModelSource` that answers every specifier with the same model."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def resolve(self, specifier: str, env: Mapping[str, Any]) -> Model:
        """Return the model."""
        return self._model


@pytest_asyncio.fixture
async def provider_server() -> AsyncIterator[ProviderServer]:
    """Return a running `ProviderServer`; it answers what it is told with `enqueue`, else with an echo."""
    from flue.testing.provider_server import ProviderServer

    async with ProviderServer() as server:
        yield server


@pytest_asyncio.fixture
async def flue_context(scripted_model: ScriptedModel, virtual_clock: VirtualClock) -> AsyncIterator[FlueContext]:
    """Return an open `FlueContext` whose agents all talk to `scripted_model`.

    Its id is `test`; sessions are kept in memory. Failed model requests are retried without waiting.
    """
    from flue.harness.retry import Retry
    from flue.host import open_context
    from flue.stores.memory import MemoryStore
    from flue.testing.ids import SequentialIds

    async with open_context(
        id="test",
        env={},
        store=MemoryStore(),
        models=OneModel(scripted_model),
        clock=virtual_clock,
        ids=SequentialIds(),
        retry=Retry(first_delay=0.0),
    ) as context:
        yield context

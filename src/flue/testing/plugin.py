"""The pytest plugin: fixtures for testing agents.

scripted_model    an empty `ScriptedModel`: `scripted_model.add("Hello.")`
virtual_clock     a `VirtualClock` that stands still until `await virtual_clock.advance(seconds)`
provider_server   a running `ProviderServer`
flue_context      an open `FlueContext` in memory, whose agents all talk to `scripted_model`, whatever their model is,
                  on `virtual_clock`, with counted identifiers and an empty `env`

The last two are there when pytest-asyncio is installed. pytest loads this module in every run where Flue is
installed, so it imports nothing until a fixture is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from flue.testing.clock import VirtualClock
    from flue.testing.scripted import ScriptedModel

# Contract suites are imported from the package, where pytest would not look for assertions to explain.
pytest.register_assert_rewrite("flue.testing.store_contract", "flue.testing.sandbox_conformance")


def pytest_configure(config: pytest.Config) -> None:
    """Add the async fixtures if something can run them."""
    if config.pluginmanager.hasplugin("asyncio"):
        config.pluginmanager.register(import_module("flue.testing.async_fixtures"), "flue-async")


@pytest.fixture
def scripted_model() -> ScriptedModel:
    """Return a `ScriptedModel` without steps; give it some with `add`."""
    from flue.testing.scripted import ScriptedModel

    return ScriptedModel()


@pytest.fixture
def virtual_clock() -> VirtualClock:
    """Return a `VirtualClock` that moves only by `advance`."""
    from flue.testing.clock import VirtualClock

    return VirtualClock()

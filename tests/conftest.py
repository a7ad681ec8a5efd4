"""What holds for all tests: how many inputs are generated, and what the collector need not look at."""

from __future__ import annotations

import gc
import unittest
from collections.abc import Generator

import pytest
from hypothesis import settings

SCHEMATHESIS = "schemathesis.pytest.plugin"

# Deadlines of single examples fail on a machine that is busy; a test as a whole has its limit.
settings.register_profile("quick", deadline=None, max_examples=10)
settings.register_profile("thorough", deadline=None, max_examples=100)
settings.load_profile("quick")


def pytest_configure(config: pytest.Config) -> None:
    """Load what `make faults` needs and others need not wait for."""
    if "not faults" not in config.option.markexpr:
        config.pluginmanager.import_plugin(SCHEMATHESIS)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what generates its inputs, unless it has a suite of its own."""
    for item in items:
        own = item.get_closest_marker("faults") or item.get_closest_marker("e2e")
        if own is None and _generates(item):
            item.add_marker(pytest.mark.properties)


def _generates(item: pytest.Item) -> bool:
    made = getattr(item, "obj", None)
    kind = getattr(item, "cls", None)
    machine = isinstance(kind, type) and issubclass(kind, unittest.TestCase) and hasattr(kind, "settings")
    return machine or bool(getattr(made, "is_hypothesis_test", False))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Have the garbage collector leave alone what is loaded while tests are collected: it stays, or is little."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()

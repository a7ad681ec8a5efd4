"""What holds for all tests: how many inputs are generated, and what the collector need not look at."""

from __future__ import annotations

import gc
import os
import unittest
from collections.abc import Generator
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol
from hypothesis import settings

SCHEMATHESIS = "schemathesis.pytest.plugin"

# Deadlines of single examples fail on a machine that is busy; a test as a whole has its limit.
settings.register_profile("quick", deadline=None, max_examples=10)
settings.register_profile("thorough", deadline=None, max_examples=100)
settings.load_profile("quick")


def pytest_xdist_auto_num_workers() -> int:
    """Return one more than there are cores: some tests wait, for a process or a deadline."""
    return (os.cpu_count() or 1) + 1


def pytest_configure(config: pytest.Config) -> None:
    """Load what `make faults` needs and others need not wait for."""
    if "not faults" not in config.option.markexpr:
        config.pluginmanager.import_plugin(SCHEMATHESIS)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None, None, None]:
    """Mark what generates its inputs, unless it has a suite of its own; keep folders together, in whatever order."""
    for item in items:
        own = item.get_closest_marker("faults") or item.get_closest_marker("e2e")
        if own is None and _generates(item):
            item.add_marker(pytest.mark.properties)
    yield
    # What only one folder's tests import, one worker imports.
    folders: dict[Path, int] = {}
    for item in items:
        folders.setdefault(item.path.parent, len(folders))
    items.sort(key=lambda item: folders[item.path.parent])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Have a worker tell how a test ended, and not that its fixtures were there before and went well after it.

    Reports of 6,000 tests are a tenth of the work of a run.
    """
    if not hasattr(item.config, "workerinput") or item.config.option.durations is not None:
        return None
    for report in runtestprotocol(item, log=False, nextitem=nextitem):
        if report.when == "call" or not report.passed:
            item.ihook.pytest_runtest_logreport(report=report)
    return True


def _generates(item: pytest.Item) -> bool:
    made = getattr(item, "obj", None)
    kind = getattr(item, "cls", None)
    machine = isinstance(kind, type) and issubclass(kind, unittest.TestCase) and hasattr(kind, "settings")
    return machine or bool(getattr(made, "is_hypothesis_test", False))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Have the garbage collector leave alone what is loaded while tests are collected, and come less often later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(5_000)
        gc.enable()

"""Timers under the Python of a Worker."""

from __future__ import annotations

import pytest

from tests.pyodide.node import run_in_pyodide

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


async def test_timers_that_are_cancelled_leave_no_timeout_behind() -> None:
    report = await run_in_pyodide("timers_program.py")
    assert report == {"own": [["in time"], 3], "cleared": [["in time"], 0]}

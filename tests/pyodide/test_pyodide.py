"""The core runs under Pyodide, the Python that Cloudflare Workers have: no threads, processes or sockets there."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.pyodide.node import run_in_pyodide

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def report() -> Any:
    return asyncio.run(run_in_pyodide("program.py"))


def test_it_really_is_the_python_of_a_worker(report: Any) -> None:
    assert report["platform"] == "emscripten"
    assert report["python"] == [3, 14]


def test_every_module_of_the_core_imports(report: Any) -> None:
    assert {"flue.errors", "flue.ports", "flue.definitions.tool", "flue.harness.session"} <= set(report["imported"])


def test_a_prompt_runs_tools_and_gives_a_typed_result(report: Any) -> None:
    assert report["tools"] == ["write", "read", "inhabitants", "finish"]
    assert report["conversation"] == {
        "data": "Capital(city='Paris', inhabitants=2100000)",
        "text": "You asked for a capital.",
        "files": {"/workspace/notes.md": "The capital is Paris.\n"},
    }


def test_the_engine_of_the_virtual_sandbox_runs_there_too(report: Any) -> None:
    assert report["shell"] == "WORKER\n"

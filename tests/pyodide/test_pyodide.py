"""The core runs under Pyodide, the Python that Cloudflare Workers have: no threads, processes or sockets there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
INSTALLED = ROOT / "build" / "pyodide"

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def require(condition: bool, reason: str) -> None:
    """Skip the test, but fail it where everything is meant to be there."""
    if not condition and os.environ.get("CI"):
        pytest.fail(reason)
    if not condition:
        pytest.skip(reason)


@pytest.fixture(scope="module")
def report() -> Any:
    node = shutil.which("node")
    require(node is not None, "node is not on the path")
    require((INSTALLED / "installed").is_file(), "Pyodide is not installed; run: make e2e-setup")
    command = [str(node), str(HERE / "run.mjs"), str(INSTALLED), str(ROOT / "src"), str(HERE / "program.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


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

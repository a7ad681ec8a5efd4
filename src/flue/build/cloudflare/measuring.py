"""Imports a built Worker under Pyodide, to see whether that is possible and how much memory it takes."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from flue.build.cloudflare.node import Pyodide, node_environment

_PROGRAM = Path(__file__).with_name("measure.mjs")
_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Measured:
    """What the import of a Worker's main module took: seconds on this machine, Python's memory in bytes, modules.

    `problem` says why it failed; everything else is 0 then.
    """

    seconds: float = 0
    heap: int = 0
    modules: int = 0
    problem: str = ""


def measure_worker(worker: Path, pyodide: Pyodide) -> Measured:
    """Import the main module of a build; the user's modules are not imported with it, but at the first use."""
    command = [pyodide.node.program, str(_PROGRAM), str(pyodide.folder), str(worker)]
    try:
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, timeout=_SECONDS, check=False, env=node_environment()
        )
    except subprocess.TimeoutExpired:
        return Measured(problem=f"it took longer than {_SECONDS} s")
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["Node said nothing"]
        errors = [line for line in lines if "Error" in line]
        return Measured(problem=(errors or lines)[-1].strip()[:400])
    return Measured(**json.loads(done.stdout))

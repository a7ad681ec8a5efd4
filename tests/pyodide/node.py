"""Programs under Pyodide in Node."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

from tests.prerequisites import require

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
INSTALLED = ROOT / "build" / "pyodide"


async def run_in_pyodide(program: str, *arguments: str, node: str | None = None) -> Any:
    """Run a program of this folder under Pyodide; return the JSON that its `main(*arguments)` returns.

    `node` is the Node to use where any will not do.
    """
    node = node or shutil.which("node")
    require(node is not None, "node is not on the path")
    require((INSTALLED / "installed").is_file(), "Pyodide is not installed; run: make e2e-setup")
    command = [str(node), str(HERE / "run.mjs"), str(INSTALLED), str(ROOT / "src"), str(HERE / program), *arguments]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        printed, complaints = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, complaints.decode()[-4000:]
    return json.loads(printed)

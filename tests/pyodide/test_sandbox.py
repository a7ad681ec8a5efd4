"""The virtual sandbox of a Worker under the Python of a Worker, with a clock that stands still as it does there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.pyodide.node import run_in_pyodide
from tests.sandboxes.hostile.corpus import corpus

# What docs/guides/sandbox.md admits: scripts that overflow the stack, and such as only the platform's limit of CPU
# time ends. A script that leaves one of these lists is good news; one that would have to join is not.
OVERFLOW = {"eval-bomb", "eval-bomb-with-file"}
BUSY = {"array-append", "replace-grow", "append-to-itself", "jq-until", "symlink-farm", "sort-giant"}


@pytest.mark.e2e
@pytest.mark.timeout(120)
async def test_the_contract_of_sandboxes_holds() -> None:
    """All but what needs a command and something else at the same time."""
    site_packages = Path(pytest.__file__).resolve().parents[1]
    found = await run_in_pyodide("sandbox_program.py", "conformance", str(site_packages))
    assert len(found) > 40
    assert {name: wrong for name, wrong in found.items() if wrong} == {
        "test_an_abort_ends_the_command": "skipped",
        "test_files_can_be_read_and_written_while_a_command_runs": "skipped",
    }


# SBX-13
@pytest.mark.faults
@pytest.mark.timeout(600)
async def test_hostile_scripts_end_and_the_next_command_works(tmp_path: Path) -> None:
    """Each but those that are known not to, all in one process, whose memory and stack are what a Worker has."""
    raised = {one.name for one in corpus() if one.commands > 20_000}
    scripts = [[one.name, one.script] for one in corpus() if one.name not in OVERFLOW | BUSY | raised]
    file = tmp_path / "scripts.json"
    file.write_text(json.dumps(scripts), encoding="utf-8")
    ended = await run_in_pyodide("sandbox_program.py", "hostile", str(file))
    assert list(ended) == [name for name, _ in scripts]
    assert {name: after for name, after in ended.items() if after != "alive\n"} == {}

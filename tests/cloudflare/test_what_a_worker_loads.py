"""A Worker has 128 MB and pays for every module at each start: what it cannot use it does not load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BANNED = ["httpx2", "sqlite3", "subprocess", "uvicorn", "websockets"]
BANNED += [f"flue.{room}" for room in ("cli", "dev", "serve", "build", "testing", "sync", "sdk")]
NEEDED = ["flue.server.app", "flue.models.anthropic_messages"]


@pytest.mark.e2e
def test_hello_world_loads_no_servers_processes_databases_or_tools_of_development(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.cloudflare.hello_program", str(tmp_path), *BANNED, *NEEDED]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    imports = [line.split() for line in done.stdout.splitlines()]
    assert {module for module, _ in imports} >= set(NEEDED), "nobody has looked"
    assert [line for line in imports if line[0] not in NEEDED] == []

"""Projects built with real packages, which Wrangler takes from their roots; without a network, nothing is deployed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.build.cloudflare.tools import ROOT, dry_run, link_npm_packages
from tests.build.conftest import write_files

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
CANARY = "canary-90f1"
HELLO = {
    ".flue/workflows/hello.py": "route = True\nasync def run(ctx): return 'hello'\n",
    ".dev.vars": f"ANTHROPIC_API_KEY={CANARY}\n",
    ".env": f"OPENAI_API_KEY={CANARY}\n",
}


def build(root: Path, cache: Path = ROOT / "build" / "cache", **env: str) -> Any:
    command = [sys.executable, "-m", "flue", "build", "--target", "cloudflare", "--json"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("FLUE_")} | env
    env["FLUE_CACHE_DIR"] = str(cache)
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# BLD-01
def test_hello_world_is_deployed_from_the_projects_root_as_bytecode(tmp_path: Path) -> None:
    root = write_files(tmp_path / "hello", HELLO)
    link_npm_packages(root)
    report = build(root)
    assert report["bytecode"]
    assert report["notices"] == ["flue.migrations.json has the order of the migrations now: commit it"]
    assert report["upload"]["bytes"] < report["upload"]["limitBytes"]
    assert report["memory"]["importedBytes"] < 50 * 2**20
    printed = dry_run(root, tmp_path / "home")
    assert "Using redirected Wrangler configuration" in printed
    assert "env.FLUE_WORKFLOW_HELLO (HelloWorkflow)" in printed
    # Wrangler counts the main module apart from the others.
    assert f"Total ({report['upload']['modules'] - 1} modules)" in printed
    built = contents(root / "dist")
    assert [name for name in built if name.endswith("pydantic/main.pyc")]
    assert not [name for name in built if name.endswith(".py") and "/src/" not in name]
    assert not [name for name, data in built.items() if CANARY.encode() in data]


def test_without_pyodide_the_sources_are_deployed(tmp_path: Path) -> None:
    root = write_files(tmp_path / "hello", HELLO | {"wrangler.toml": 'name = "greeter"\n'})
    report = build(root)
    assert not report["bytecode"]
    assert [notice for notice in report["notices"] if "pyodide@314" in notice]
    printed = dry_run(root, tmp_path / "home")
    assert f"Total ({report['upload']['modules'] - 1} modules)" in printed
    assert (root / "dist/worker/python_modules/pydantic/main.py").is_file()


def test_the_same_project_gives_the_same_bytes_also_when_all_is_made_anew(tmp_path: Path) -> None:
    built = []
    for number in range(2):
        root = write_files(tmp_path / "hello", HELLO)
        link_npm_packages(root)
        if number:
            (root / "dist").mkdir()
            shutil.copy(tmp_path / "lock", root / "dist" / "requirements.txt")
            (root / "dist" / ".flue-build").touch()
        build(root, tmp_path / "another-cache") if number else build(root)
        built.append(contents(root / "dist"))
        shutil.copy(root / "dist" / "requirements.txt", tmp_path / "lock")
        shutil.rmtree(root)
    assert built[0] == built[1]

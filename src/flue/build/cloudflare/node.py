"""Node and what was installed with npm: looked for in the project first, then on the machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

# The runtime of the compatibility date that is built for: it alone writes and reads the Worker's bytecode.
PYODIDE = "314."
# For Pyodide; Wrangler asks for more.
_OLDEST = (18, 0)


@dataclass(frozen=True, slots=True)
class Node:
    """A Node: its program and its version."""

    program: str
    version: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Pyodide:
    """An npm `pyodide` of the Worker's version, and the Node to run it with."""

    node: Node
    folder: Path
    version: str


def find_node(root: Path, oldest: tuple[int, int] = _OLDEST) -> Node | None:
    """Return the first Node that is new enough: one that npm installed for the project, else that on the path."""
    for program in _nodes(root):
        version = _version(program)
        if version is not None and version >= oldest:
            return Node(program, version)
    return None


def find_pyodide(root: Path) -> Pyodide | None:
    """Return the npm package `pyodide` of the project, None without it, without Node, or in another version."""
    folder = find_package(root, "pyodide")
    if folder is None:
        return None
    version = str(_manifest(folder).get("version", ""))
    node = find_node(root) if version.startswith(PYODIDE) else None
    return None if node is None else Pyodide(node, folder, version)


def why_no_pyodide(root: Path) -> str:
    """Return what to do where `find_pyodide` finds nothing."""
    folder = find_package(root, "pyodide")
    if folder is None:
        return f"npm install -D pyodide@{PYODIDE.strip('.')}"
    version = str(_manifest(folder).get("version", ""))
    if not version.startswith(PYODIDE):
        return f"npm install -D pyodide@{PYODIDE.strip('.')}, in place of {version or 'what is there'}"
    return f"Node {_OLDEST[0]} or newer, to run the package pyodide with"


def find_package(root: Path, name: str) -> Path | None:
    """Return where npm installed a package: in the project's `node_modules`, or in that of a folder above."""
    folders = (folder / "node_modules" / name for folder in (root.resolve(), *root.resolve().parents))
    return next((folder for folder in folders if (folder / "package.json").is_file()), None)


def _nodes(root: Path) -> Iterator[str]:
    for folder in (root.resolve(), *root.resolve().parents):
        # What `npm install node@22` brings; the second is the package for one platform, without its install script.
        yield from map(str, sorted(folder.glob("node_modules/node/bin/node")))
        yield from map(str, sorted(folder.glob("node_modules/node-*/bin/node")))
    found = shutil.which("node")
    if found is not None:
        yield found


def _version(program: str) -> tuple[int, int] | None:
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.match(r"v(\d+)\.(\d+)", done.stdout)
    return (int(match[1]), int(match[2])) if match else None


def _manifest(folder: Path) -> Mapping[str, object]:
    try:
        found = json.loads((folder / "package.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def node_environment() -> dict[str, str]:
    """Return the variables for a program of Node's that is to be left alone by the user's settings for others."""
    return {name: value for name, value in os.environ.items() if name not in ("NODE_OPTIONS", "PYTHONPATH")}

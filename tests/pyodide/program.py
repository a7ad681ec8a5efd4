"""Runs inside Pyodide: imports the core and answers prompts there. `main()` returns a JSON report."""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
from collections.abc import Mapping
from typing import Any

import bashkit
from pydantic import BaseModel

import flue
from flue import FlueContext, create_agent, create_sandbox_session_env, open_context, tool
from flue.events import Event
from flue.harness.env import SessionEnv
from flue.ports import ExecResult, FileStat
from flue.testing import ScriptedModel, call

# What a Worker carries; sandboxes, stores on disk, the project and the command line stay at home.
ROOMS = ("errors", "messages", "ports", "events", "registrations", "definitions", "harness", "models", "host")


class Capital(BaseModel):
    """A typed result."""

    city: str
    inhabitants: int


class Folder:
    """A sandbox in memory, and its own factory: files at most one directory deep, and no shell."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    async def create_session_env(self, *, id: str, cwd: str | None = None) -> SessionEnv:
        """Return an environment over this folder."""
        return create_sandbox_session_env(self, cwd or "/workspace")

    async def read_file(self, path: str) -> bytes:
        """Return a file."""
        if path not in self.files:
            raise FileNotFoundError(2, "No such file or directory", path)
        return self.files[path]

    async def write_file(self, path: str, content: bytes) -> None:
        """Write a file."""
        self.files[path] = content

    async def stat(self, path: str) -> FileStat:
        """Describe a file, or a directory: a path that files lie in."""
        if path in self.files:
            return FileStat(is_file=True, is_directory=False, is_symbolic_link=False, size=len(self.files[path]))
        if not await self.readdir(path):
            raise FileNotFoundError(2, "No such file or directory", path)
        return FileStat(is_file=False, is_directory=True, is_symbolic_link=False, size=0)

    async def readdir(self, path: str) -> list[str]:
        """Return the names in a directory."""
        return sorted(file.removeprefix(f"{path}/") for file in self.files if file.startswith(f"{path}/"))

    async def exists(self, path: str) -> bool:
        """Say whether there is such a file."""
        return path in self.files or bool(await self.readdir(path))

    async def mkdir(self, path: str, *, recursive: bool = False) -> None:
        """Do nothing: directories are where files are."""

    async def rm(self, path: str, *, recursive: bool = False, force: bool = False) -> None:
        """Remove a file."""
        self.files.pop(path, None)

    async def exec(
        self,
        command: str,
        *,
        cwd: str,
        env: Mapping[str, str] | None = None,
        stdin: str | bytes | None = None,
        timeout: float | None = None,
    ) -> ExecResult:
        """Say that there is no shell."""
        return ExecResult("", f"{command}: no shell here", 127)


@tool
def inhabitants(city: str) -> int:
    """Say how many people live in a city. It is not async, and there are no threads here for it."""
    return {"Paris": 2_100_000}[city]


def import_all() -> list[str]:
    """Import every module of the rooms that a Worker carries and return their names."""
    names: list[str] = []
    for room in ROOMS:
        module = importlib.import_module(f"flue.{room}")
        names.append(module.__name__)
        if hasattr(module, "__path__"):
            names += [found.name for found in pkgutil.walk_packages(module.__path__, f"{module.__name__}.")]
    for name in names:
        importlib.import_module(name)
    return names


async def converse(context: FlueContext, folder: Folder) -> dict[str, Any]:
    """Ask two things in one session: one answered with tools and a typed result, one in plain text."""
    model = ScriptedModel(
        [
            call("write", {"path": "notes.md", "content": "The capital is Paris.\n"}),
            call("read", {"path": "notes.md"}),
            call("inhabitants", {"city": "Paris"}),
            call("finish", {"city": "Paris", "inhabitants": 2_100_000}),
            "You asked for a capital.",
        ]
    )
    harness = await context.init(create_agent(model=model, sandbox=folder, tools=[inhabitants]))
    session = await harness.session()
    typed = await session.prompt("What is the capital?", result=Capital, timeout=30)
    plain = await session.prompt("What did I ask?")
    return {
        "data": repr(typed.data),
        "text": plain.text,
        "files": {path: content.decode() for path, content in folder.files.items()},
    }


async def main() -> str:
    """Return what was seen, as JSON."""
    events: list[Event] = []
    folder = Folder()
    async with open_context(sandbox=folder, on_event=events.append, env={}) as context:
        conversation = await converse(context, folder)
    return json.dumps(
        {
            "platform": sys.platform,
            "python": list(sys.version_info[:2]),
            "version": flue.__version__,
            "conversation": conversation,
            "tools": [event.to_json()["toolName"] for event in events if event.type == "tool_start"],
            "imported": import_all(),
            "shell": bashkit.Bash().execute_sync("echo worker | tr a-z A-Z").stdout,
        }
    )

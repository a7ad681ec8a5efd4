"""The core reaches threads, processes, clocks, randomness and the network through ports only.

Most of these imports succeed in a Worker too and fail when used, or never wake up, so running there proves little.
"""

from __future__ import annotations

import ast

import pytest

from tests.architecture.rooms import PACKAGE, Module, core_modules, imports

BANNED_MODULES = {
    "time": "the Clock port",
    "random": "the Ids port",
    "secrets": "the Ids port",
    "uuid": "the Ids port",
    "threading": "asyncio, or an adapter outside the core",
    "multiprocessing": "an adapter outside the core",
    "concurrent": "an adapter outside the core",
    "subprocess": "the Sandbox port",
    "signal": "the command line",
    "socket": "the HttpTransport port",
    "ssl": "the HttpTransport port",
    "http": "the HttpTransport port",
    "urllib.request": "the HttpTransport port",
    "sqlite3": "the Store port",
    "os": "posixpath for paths, the context's `env` for variables, the Sandbox port for files",
    "shutil": "the Sandbox port",
    "tempfile": "the Sandbox port",
    "glob": "the Sandbox port",
    "ctypes": "an adapter outside the core",
}
BANNED_NAMES = {
    ("pathlib", "Path"): "PurePosixPath and the Sandbox port",
    ("asyncio", "open_connection"): "the HttpTransport port",
    ("asyncio", "open_unix_connection"): "the HttpTransport port",
    ("asyncio", "start_server"): "an adapter outside the core",
    ("asyncio", "start_unix_server"): "an adapter outside the core",
    ("asyncio", "create_subprocess_exec"): "the Sandbox port",
    ("asyncio", "create_subprocess_shell"): "the Sandbox port",
    ("asyncio", "to_thread"): "an adapter outside the core",
}
BANNED_METHODS = {
    "run_in_executor": "an adapter outside the core",
    "today": "the Clock port",
    "utcnow": "the Clock port",
    "call_later": "the Clock port",
    "call_at": "the Clock port",
}
BANNED_BUILTINS = {"open": "the Sandbox port", "input": "the command line", "print": "an event"}
LOOPS = {"loop", "get_running_loop", "get_event_loop", "_loop"}


def banned_imports(module: Module) -> list[tuple[int, str, str]]:
    found = []
    for item in imports(module):
        dotted = f"{item.module}.{item.name}" if item.name else item.module
        parts = dotted.split(".")
        prefixes = [".".join(parts[: length + 1]) for length in range(len(parts))]
        found += [(item.line, prefix, BANNED_MODULES[prefix]) for prefix in prefixes if prefix in BANNED_MODULES]
        if instead := BANNED_NAMES.get((item.module, item.name)):
            found.append((item.line, dotted, instead))
    return found


def name_of(node: ast.expr) -> str:
    """Return the last word of a name, attribute or call: `asyncio.get_running_loop()` gives `get_running_loop`."""
    if isinstance(node, ast.Call):
        return name_of(node.func)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def is_zero(call: ast.Call) -> bool:
    return bool(call.args) and isinstance(call.args[0], ast.Constant) and call.args[0].value == 0


def banned_calls(module: Module) -> list[tuple[int, str, str]]:
    found = []
    for node in ast.walk(module.tree()):
        if isinstance(node, ast.Attribute):
            owner = name_of(node.value)
            if instead := BANNED_NAMES.get((owner, node.attr)) or BANNED_METHODS.get(node.attr):
                found.append((node.lineno, f"{owner}.{node.attr}", instead))
            elif (node.attr == "time" and owner in LOOPS) or (node.attr == "now" and owner in {"datetime", "dt"}):
                found.append((node.lineno, f"{owner}.{node.attr}", "the Clock port"))
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in BANNED_BUILTINS:
                found.append((node.lineno, node.func.id, BANNED_BUILTINS[node.func.id]))
            elif (
                isinstance(node.func, ast.Attribute) and ast.unparse(node.func) == "asyncio.sleep" and not is_zero(node)
            ):
                found.append((node.lineno, "asyncio.sleep", "the Clock port (asyncio.sleep(0) is fine)"))
    return found


def impurities(module: Module) -> list[str]:
    return [
        f"{module.path}:{line}: the core must not use {what}; use {instead}"
        for line, what, instead in sorted({*banned_imports(module), *banned_calls(module)})
    ]


def test_a_core_module_touches_the_world_through_ports_only() -> None:
    core = core_modules()
    assert core
    problems = [problem for module in core for problem in impurities(module)]
    assert not problems, "\n" + "\n".join(problems)


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "from time import monotonic",
        "import os.path",
        "from os import environ",
        "def f():\n    import random",
        "import concurrent.futures",
        "from concurrent.futures import ThreadPoolExecutor",
        "import urllib.request",
        "from urllib import request",
        "from pathlib import Path",
        "from asyncio import to_thread",
        "import asyncio\nasyncio.create_subprocess_shell('ls')",
        "import asyncio\nasyncio.open_connection('localhost', 1)",
        "import asyncio\nasyncio.get_running_loop().time()",
        "def f(loop):\n    return loop.time()",
        "def f(loop):\n    return loop.run_in_executor(None, print)",
        "import datetime\ndatetime.datetime.now()",
        "from datetime import datetime\ndatetime.now(tz=None)",
        "from datetime import date\ndate.today()",
        "import asyncio\nasync def f(): await asyncio.sleep(1)",
        "open('x')",
        "print('x')",
    ],
)
def test_a_way_around_the_ports_is_found(source: str) -> None:
    (problem,) = impurities(Module("flue.harness.x", PACKAGE / "harness" / "x.py", source))
    assert "the core must not use" in problem


@pytest.mark.parametrize(
    "source",
    [
        "import asyncio\nasync def f(): await asyncio.sleep(0)",
        "from datetime import UTC, datetime\ndatetime.fromtimestamp(0, UTC)",
        "from pathlib import PurePosixPath",
        "from urllib.parse import quote",
        "def f(clock): return clock.now_ms(), clock.monotonic()",
        "async def f(clock): await clock.sleep(1)",
        "import posixpath",
    ],
)
def test_what_is_harmless_is_allowed(source: str) -> None:
    assert impurities(Module("flue.harness.x", PACKAGE / "harness" / "x.py", source)) == []

"""Runs inside Pyodide, with a clock that stands still: the virtual sandbox as a Worker has it."""

from __future__ import annotations

import inspect
import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import js
from pyodide_js import mountNodeFS

from flue.harness.env import SessionEnv
from flue.sandboxes import virtual

FREEZE = (
    "(() => { const now = performance.now(), date = Date.now(); performance.now = () => now; Date.now = () => date })()"
)


def freeze() -> None:
    """Let no time pass any more, as in a Worker that computes."""
    js.eval(FREEZE)


async def conformance(site_packages: str) -> dict[str, str]:
    """Run the tests that every sandbox has to pass; return what is wrong, by test."""
    mountNodeFS("/pytest", site_packages)
    sys.path.append("/pytest")
    import pytest

    from flue.testing.sandbox_conformance import SandboxConformance

    class Suite(SandboxConformance):
        synchronous = True

        async def open_env(self, directory: Path) -> SessionEnv:
            return await virtual().create_session_env(id="test")

    found = {}
    for name, values in _cases(Suite):
        suite = Suite()
        env = await suite.open_env(Path("/"))
        try:
            await getattr(suite, name)(env, **values)
        except pytest.skip.Exception:
            found[name] = "skipped"
        except BaseException as error:  # noqa: BLE001 - reported
            found[f"{name}{values}"] = f"{type(error).__name__}: {error}"
        else:
            found.setdefault(name, "")
    return found


def _cases(suite: type) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each test with each of its parameters."""
    for name, function in inspect.getmembers(suite, inspect.isfunction):
        if name.startswith("test_"):
            marks = [mark for mark in getattr(function, "pytestmark", ()) if mark.name == "parametrize"]
            for choice in itertools.product(*[mark.args[1] for mark in marks]):
                values: dict[str, Any] = {}
                for mark, value in zip(marks, choice, strict=True):
                    names = mark.args[0] if isinstance(mark.args[0], tuple) else (mark.args[0],)
                    values.update(zip(names, value if len(names) > 1 else (value,), strict=True))
                yield name, values


async def hostile(scripts: list[list[str]]) -> dict[str, str]:
    """Run scripts; return what the next command printed after each. The last name on stderr is that of a killer."""
    after = {}
    for name, script in scripts:
        sys.stdout.write(f"{name}\n")
        env = await virtual({"given": "x"}).create_session_env(id=name)
        await env.exec(script)
        after[name] = (await env.exec("echo alive")).stdout
    return after


async def measured() -> dict[str, float]:
    """Return milliseconds for a command, in sandboxes with more and more files."""
    times = {}
    for count in (0, 100, 2000):
        env = await virtual({f"d{n % 20}/f{n}": "x" * 1000 for n in range(count)}).create_session_env(id="x")
        await env.exec("echo warm")
        began = time.perf_counter()
        for _ in range(50):
            await env.exec("echo hello | tr a-z A-Z")
        times[f"command with {count} files"] = (time.perf_counter() - began) * 1000 / 50
    return times


async def main(what: str, argument: str = "") -> str:
    """Do one of the things above; return JSON."""
    if what == "measure":
        return json.dumps(await measured())
    freeze()
    if what == "conformance":
        return json.dumps(await conformance(argument))
    mountNodeFS("/host", str(Path(argument).parent))
    return json.dumps(await hostile(json.loads(Path("/host", Path(argument).name).read_text(encoding="utf-8"))))

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from flue.dev.live import Live
from flue.serve.site import Site
from flue.serve.source import Environment, Source
from tests.serve.exchange import ask

WORKFLOW = "route = True\nimport os\nasync def run(ctx):\n    return {}\n"


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@asynccontextmanager
async def developing(root: Path) -> AsyncIterator[Live]:
    """Load a project and go on watching it."""
    environment, source = Environment(fixed={"FLUE_MODE": "local"}), Source(cwd=root)
    try:
        async with Site() as site:
            live = Live(site, source, environment, source.read_config())
            await live.load()
            watching = asyncio.create_task(live.watch())
            try:
                yield live
            finally:
                watching.cancel()
                with suppress(asyncio.CancelledError):
                    await watching
    finally:
        environment.restore()


async def result(live: Live) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await live.site({**scope, "query_string": b"wait=result"}, receive, send)

    headers = {"content-type": "application/json"}
    answer = await ask(app, "/workflows/which", method="POST", headers=headers, body=b"{}")
    return json.loads(answer.body)["result"]


async def changed(live: Live, after: int) -> None:
    async with asyncio.timeout(10):
        await live.changed(after)


async def test_a_saved_file_is_served_in_less_than_half_a_second(tmp_path: Path) -> None:
    write(tmp_path, "src/workflows/which.py", WORKFLOW.format("'one'"))
    async with developing(tmp_path) as live:
        took = []
        for name in ("two", "three", "four"):
            seen, began = live.changes, asyncio.get_running_loop().time()
            write(tmp_path, "src/workflows/which.py", WORKFLOW.format(repr(name)))
            await changed(live, seen)
            assert await result(live) == name
            took.append(asyncio.get_running_loop().time() - began)
        assert min(took) < 0.5, took


async def test_a_mistake_is_told_once_with_its_line_and_the_old_code_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "src/workflows/which.py", WORKFLOW.format("'one'"))
    async with developing(tmp_path) as live:
        capsys.readouterr()
        for number in (1, 2):
            seen = live.changes
            write(tmp_path, "src/workflows/which.py", WORKFLOW.format("'two'") + f"mistake\n# {number}\n")
            await changed(live, seen)
        assert await result(live) == "one"
        assert live.trouble is not None
        assert live.trouble.message.startswith("src/workflows/which.py:5: NameError")
        [told] = capsys.readouterr().err.splitlines()
        assert told.startswith("[flue] error: src/workflows/which.py:5: NameError")
        assert told.endswith("[module_failed] The code before it goes on serving.")
        seen = live.changes
        write(tmp_path, "src/workflows/which.py", WORKFLOW.format("'three'"))
        await changed(live, seen)
        assert vars(live)["trouble"] is None
        assert await result(live) == "three"


async def test_a_project_that_is_broken_at_the_start_is_served_when_it_is_mended(tmp_path: Path) -> None:
    write(tmp_path, "src/workflows/which.py", "import nothing_of_this_name\n")
    async with developing(tmp_path) as live:
        assert live.trouble is not None
        assert live.trouble.code == "module_failed"
        assert live.site.service is None
        seen = live.changes
        write(tmp_path, "src/workflows/which.py", WORKFLOW.format("'one'"))
        await changed(live, seen)
        assert await result(live) == "one"


async def test_the_environment_file_is_read_again_and_keys_it_loses_revert(tmp_path: Path) -> None:
    write(
        tmp_path, "src/workflows/which.py", WORKFLOW.format("[ctx.env.get('FLUE_TEST_KEY'), os.environ['FLUE_MODE']]")
    )
    async with developing(tmp_path) as live:
        for text, expected in (("FLUE_TEST_KEY=1", "1"), ("FLUE_TEST_KEY=2", "2"), ("OTHER=1", None)):
            seen = live.changes
            write(tmp_path, ".env", text)
            await changed(live, seen)
            assert await result(live) == [expected, "local"]
            assert os.environ.get("FLUE_TEST_KEY") == expected


async def test_an_environment_file_comes_with_the_code_or_not_at_all(tmp_path: Path) -> None:
    write(tmp_path, "src/workflows/which.py", WORKFLOW.format("os.environ.get('FLUE_TEST_KEY')"))
    write(tmp_path, ".env", "FLUE_TEST_KEY=1")
    async with developing(tmp_path) as live:
        seen = live.changes
        write(tmp_path, "src/workflows/which.py", "mistake")
        write(tmp_path, ".env", "FLUE_TEST_KEY=2")
        await changed(live, seen)
        assert live.trouble is not None
        assert await result(live) == "1"


async def test_roles_and_the_configuration_are_watched(tmp_path: Path) -> None:
    write(tmp_path, "src/workflows/which.py", WORKFLOW.format("1"))
    async with developing(tmp_path) as live:
        for name, text in (("src/roles/editor.md", "Be brief."), ("flue.toml", 'target = "server"')):
            seen = live.changes
            write(tmp_path, name, text)
            await changed(live, seen)
        assert live.site.version is not None
        assert list(live.site.version.project.roles) == ["editor"]
        seen = live.changes
        write(tmp_path, "flue.toml", "colour = 1")
        await changed(live, seen)
        assert live.trouble is not None
        assert "colour" in live.trouble.message

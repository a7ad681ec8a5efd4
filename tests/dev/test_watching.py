from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flue.dev.watching import Watched, Watcher


@pytest.fixture
async def changes(tmp_path: Path) -> AsyncIterator[AsyncIterator[list[Path]]]:
    """Watch a folder with `kept.py` and `env`, beside which `dist/` is left out."""
    source = tmp_path / "src"
    (source / "dist").mkdir(parents=True)
    (source / "kept.py").write_text("1")
    watcher = Watcher(lambda: Watched([source], [tmp_path / "env", tmp_path / "none"], [source / "dist"]))
    found = watcher.changes()
    yield found
    await found.aclose()  # type: ignore[attr-defined]


async def next_of(changes: AsyncIterator[list[Path]]) -> list[str]:
    async with asyncio.timeout(10):
        return [path.name for path in await anext(changes)]


async def test_written_made_moved_and_removed_files_are_told(
    changes: AsyncIterator[list[Path]], tmp_path: Path
) -> None:
    kept = tmp_path / "src" / "kept.py"
    kept.write_text("2")
    assert await next_of(changes) == ["kept.py"]
    (tmp_path / "src" / "tools").mkdir()
    (tmp_path / "src" / "tools" / "new.md").write_text("x")
    assert await next_of(changes) == ["new.md"]
    (tmp_path / "beside").write_text("3")
    (tmp_path / "beside").replace(kept)  # as editors do it
    assert await next_of(changes) == ["kept.py"]
    kept.unlink()
    assert await next_of(changes) == ["kept.py"]


async def test_a_file_that_is_not_there_yet_is_told_when_it_comes(
    changes: AsyncIterator[list[Path]], tmp_path: Path
) -> None:
    (tmp_path / "env").write_text("A=1")
    assert await next_of(changes) == ["env"]


async def test_what_editors_builds_and_environments_write_is_left_out(
    changes: AsyncIterator[list[Path]], tmp_path: Path
) -> None:
    source = tmp_path / "src"
    for folder in ("__pycache__", "node_modules", ".git", "venv"):
        (source / folder).mkdir()
        (source / folder / "x.py").write_text("1")
    (source / "venv" / "pyvenv.cfg").write_text("")
    for name in (".hidden", "kept.py~", ".kept.py.swp", "kept.swx", "4913", "dist/out.py", "kept.pyc"):
        (source / name).write_text("1")
    (source / "link").symlink_to("nowhere")
    (source / "last.py").write_text("1")
    assert await next_of(changes) == ["last.py"]


async def test_files_that_are_written_one_after_the_other_are_told_together(
    changes: AsyncIterator[list[Path]], tmp_path: Path
) -> None:
    names = [f"m{number}.py" for number in range(20)]

    async def write() -> None:
        for name in names:
            (tmp_path / "src" / name).write_text("1")
            await asyncio.sleep(0)

    writing = asyncio.create_task(write())
    told = await next_of(changes)
    await writing
    assert sorted(told) == sorted(names)

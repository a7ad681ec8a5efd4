"""A checkout that somebody else prepared, opened on the real machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from flue import DefinitionError
from flue.definitions.skill_file import MAX_FILE_BYTES
from flue.harness.prompt import Workspace, discover
from flue.sandboxes import local, virtual

GOOD = "---\nname: greet\ndescription: Greets.\n---\nSay hello.\n"


async def look_around(root: Path) -> Workspace:
    return await discover(await local(cwd=str(root)).create_session_env(id="i1"))


def link_to_pipe(path: Path) -> None:
    os.mkfifo(path.parent / "pipe")
    path.symlink_to("pipe")


@pytest.fixture
def skill_file(tmp_path: Path) -> Path:
    """Return where a SKILL.md goes; its folder exists."""
    path = tmp_path / ".agents" / "skills" / "greet" / "SKILL.md"
    path.parent.mkdir(parents=True)
    return path


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda path: path.symlink_to("SKILL.md"), "Too many levels of symbolic links"),
        (lambda path: path.symlink_to("/dev/zero"), "Not a regular file"),
        (lambda path: path.symlink_to("."), "is a directory"),
        (os.mkfifo, "is not a regular file"),
        (link_to_pipe, "Not a regular file"),
        (lambda path: path.write_bytes(b"x" * (MAX_FILE_BYTES + 1)), "a SKILL.md may have"),
        (lambda path: path.write_bytes(b"\x89PNG\0"), "is a binary file"),
        (lambda path: path.write_text("---\nname: greet\ndescription: [&a [*a]]\n---\n"), "begins with ["),
    ],
)
async def test_a_skill_file_that_is_a_trap_is_refused(
    tmp_path: Path, skill_file: Path, make: Callable[[Path], object], problem: str
) -> None:
    make(skill_file)
    with pytest.raises(DefinitionError, match=r"greet/SKILL\.md: |greet/SKILL\.md:3: ") as raised:
        await look_around(tmp_path)
    assert problem in raised.value.message


async def test_folders_that_hold_themselves_are_not_entered_twice(tmp_path: Path, skill_file: Path) -> None:
    skill_file.write_text(GOOD)
    (skill_file.parent / "again").symlink_to(skill_file.parent)
    (skill_file.parent.parent / "all").symlink_to(skill_file.parent.parent)
    assert [skill.name for skill in (await look_around(tmp_path)).skills] == ["greet"]


async def test_context_that_leads_to_a_device_ends_with_an_error(tmp_path: Path) -> None:
    (tmp_path / "AGENTS.md").symlink_to("/dev/zero")
    with pytest.raises(OSError, match="Not a regular file"):
        await look_around(tmp_path)


async def test_a_context_file_that_is_a_link_to_the_other_is_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "AGENTS.md").write_text("Use tabs.")
    (tmp_path / "CLAUDE.md").symlink_to("AGENTS.md")
    assert (await look_around(tmp_path)).context == "Use tabs."


@pytest.mark.parametrize(
    "files", [{".agents": "x"}, {".agents/skills": "x"}, {".agents/skills/greet": "x"}, {".agents/x": "x"}]
)
async def test_files_where_folders_are_expected_mean_that_there_are_no_skills(
    tmp_path: Path, files: dict[str, str]
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert (await look_around(tmp_path)).skills == ()
    assert (await discover(await virtual(files=files).create_session_env(id="i1"))).skills == ()

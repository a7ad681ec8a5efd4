from __future__ import annotations

import pytest

from flue.harness.env import SessionEnv
from flue.messages import TextContent
from flue.ports import ExecResult
from tests.harness.memory_sandbox import MemorySandbox
from tests.harness.tools.use import text_of, use

FILES = ["top.py", "src/a.py", "src/deep/er/b.py", "src/deep/c.txt", "tests/a.py", "src/.hidden.py"]


async def found(env: SessionEnv, pattern: str, **more: object) -> list[str]:
    return (await text_of(env, "glob", pattern=pattern, **more)).split("\n")


@pytest.fixture
async def project(shell_env: SessionEnv) -> SessionEnv:
    for name in FILES:
        await shell_env.write_file(name, "")
    await shell_env.mkdir("dir.py")
    return shell_env


@pytest.mark.parametrize(
    ("pattern", "path", "files"),
    [
        ("c.txt", None, ["./src/deep/c.txt"]),
        ("a.*", None, ["./src/a.py", "./tests/a.py"]),
        ("[bt]*.py", None, ["./src/deep/er/b.py", "./top.py"]),
        ("?.py", "src", ["src/a.py", "src/deep/er/b.py"]),
        ("src/*.py", None, ["./src/.hidden.py", "./src/a.py"]),
        ("./src/*.txt", None, ["No files found matching pattern."]),
        ("src/**/*.py", None, ["./src/.hidden.py", "./src/a.py", "./src/deep/er/b.py"]),
        ("**/*.txt", None, ["./src/deep/c.txt"]),
        ("**/top.py", None, ["./top.py"]),
        ("src/deep/**", None, ["./src/deep/c.txt", "./src/deep/er/b.py"]),
        ("*/deep/*", None, ["./src/deep/c.txt"]),
        ("deep/*.txt", "src", ["src/deep/c.txt"]),
        ("deep/*.txt", "src/", ["src/deep/c.txt"]),
        ("nothing", "", ["No files found matching pattern."]),
    ],
)
async def test_files_are_found_by_name_or_by_path(
    project: SessionEnv, pattern: str, path: str | None, files: list[str]
) -> None:
    assert await found(project, pattern, path=path) == files


async def test_an_absolute_pattern_counts_from_the_searched_directory(project: SessionEnv) -> None:
    root = project.cwd
    assert await found(project, f"{root}/src/*.py", path=root) == [f"{root}/src/.hidden.py", f"{root}/src/a.py"]
    assert await found(project, f"{root}/tests/*") == ["./tests/a.py"]


async def test_names_of_any_characters_reach_find_unchanged(project: SessionEnv) -> None:
    for name in ("it's $(id) `id`.txt", "-name", "(x)"):
        await project.write_file(f"{name}/{name}", "")
        assert await found(project, name, path=name) == [f"./{name}/{name}" if name[0] in "-(" else f"{name}/{name}"]


async def test_nothing_found_is_no_error_but_a_missing_directory_is(project: SessionEnv) -> None:
    result = await use(project, "glob", pattern="*.rs")
    assert result.content == (TextContent("No files found matching pattern."),)
    assert result.details == {"fileCount": 0}
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        await use(project, "glob", pattern="*", path="nowhere")


async def test_of_many_files_a_thousand_are_listed(shell_env: SessionEnv) -> None:
    await shell_env.exec("for i in $(seq 1 1100); do : > f$i; done")
    result = await use(shell_env, "glob", pattern="f*")
    (block,) = result.content
    assert isinstance(block, TextContent)
    assert block.text.count("./f") == 1000
    assert block.text.endswith("[Showing 1000 files; there may be more. Narrow your search.]")
    assert result.details == {"fileCount": 1000}


async def test_a_pattern_of_many_stars_is_matched_in_little_time() -> None:
    deep = "/".join("a" * 40)
    sandbox = MemorySandbox(script=lambda _: ExecResult(f"./{deep}\n" * 200, "", 0))
    pattern = "/".join(["**"] * 30) + "/" + "*a*" * 20 + "/b"
    assert await text_of(SessionEnv(sandbox, "/"), "glob", pattern=pattern) == "No files found matching pattern."

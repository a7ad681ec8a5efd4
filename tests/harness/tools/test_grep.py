from __future__ import annotations

import pytest

from flue.errors import UsageError
from flue.harness.env import SessionEnv
from flue.messages import TextContent
from flue.ports import ExecResult
from tests.harness.memory_sandbox import MemorySandbox
from tests.harness.tools.use import text_of, use


async def found(env: SessionEnv, pattern: str, **more: object) -> list[str]:
    return sorted((await text_of(env, "grep", pattern=pattern, **more)).split("\n"))


async def test_matching_lines_are_found_below_the_working_directory(shell_env: SessionEnv) -> None:
    await shell_env.write_file("docs/a.md", "one\ntwo words\n")
    await shell_env.write_file("b.txt", "two\n")
    result = await use(shell_env, "grep", pattern="two")
    (block,) = result.content
    assert isinstance(block, TextContent)
    assert sorted(block.text.split("\n")) == ["./b.txt:1:two", "./docs/a.md:2:two words"]
    assert result.details == {"matchCount": 2}


async def test_path_and_include_narrow_the_search(shell_env: SessionEnv) -> None:
    for name in ("docs/a.md", "docs/a.txt", "b.md"):
        await shell_env.write_file(name, "x\n")
    assert await found(shell_env, "x", path="docs") == ["docs/a.md:1:x", "docs/a.txt:1:x"]
    assert await found(shell_env, "x", include="*.md") == ["./b.md:1:x", "./docs/a.md:1:x"]
    assert await found(shell_env, "x", path="b.md") == ["b.md:1:x"]
    assert await found(shell_env, "x", path=None, include=None) == await found(shell_env, "x")


async def test_patterns_are_extended_regular_expressions(shell_env: SessionEnv) -> None:
    await shell_env.write_file("f", "cat\ndog\nbird\n")
    assert await found(shell_env, "^(cat|dog)$") == ["./f:1:cat", "./f:2:dog"]


@pytest.mark.parametrize("text", ["-v", "--include=x", 'it\'s "$HOME" `id` $(id)', "a\\\\b", "ünï"])
async def test_patterns_of_any_characters_reach_grep_unchanged(shell_env: SessionEnv, text: str) -> None:
    await shell_env.write_file("f", f"before\n{text.replace(chr(92) * 2, chr(92))}\nafter\n")
    pattern = "".join(f"[{c}]" if c in "$()" else c for c in text)
    assert await found(shell_env, pattern) == [f"./f:2:{text.replace(chr(92) * 2, chr(92))}"]


async def test_paths_of_any_characters_reach_grep_unchanged(shell_env: SessionEnv) -> None:
    for directory in ("-e", "it's here", "$(id)"):
        await shell_env.write_file(f"{directory}/f", "x\n")
        assert await found(shell_env, "x", path=directory) == [f"{directory}/f:1:x"]


async def test_no_match_is_no_error(shell_env: SessionEnv) -> None:
    await shell_env.write_file("f", "x\n")
    result = await use(shell_env, "grep", pattern="nothing like it")
    assert result.content == (TextContent("No matches found."),)
    assert result.details == {"matchCount": 0}


async def test_a_missing_path_and_a_bad_pattern_are_errors(shell_env: SessionEnv) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        await use(shell_env, "grep", pattern="x", path="nowhere")
    with pytest.raises(UsageError, match="grep failed: ") as raised:
        await use(shell_env, "grep", pattern="a(")
    assert raised.value.code == "search_failed"


async def test_binary_files_are_left_out(shell_env: SessionEnv) -> None:
    await shell_env.write_file("bin", b"\0x\n")
    assert await text_of(shell_env, "grep", pattern="x") == "No matches found."


async def test_many_matches_are_shown_in_part_with_their_number(shell_env: SessionEnv) -> None:
    await shell_env.write_file("f", "x\n" * 250)
    result = await use(shell_env, "grep", pattern="x")
    (block,) = result.content
    assert isinstance(block, TextContent)
    assert block.text.count("./f:") == 100
    assert block.text.endswith("\n./f:100:x\n\n[Showing 100 of 250 matches. Narrow your search.]")
    assert result.details == {"matchCount": 250}


async def test_long_lines_are_cut_at_500_characters(shell_env: SessionEnv) -> None:
    await shell_env.write_file("f", "x" * 600 + "\n")
    text = await text_of(shell_env, "grep", pattern="x")
    assert text == f"./f:1:{'x' * 494}..."


async def test_matches_are_shown_even_when_some_files_could_not_be_searched() -> None:
    sandbox = MemorySandbox(script=lambda _: ExecResult("f:1:x\n", "grep: g: Permission denied\n", 2))
    text = await text_of(SessionEnv(sandbox, "/"), "grep", pattern="x")
    assert text == "f:1:x\n\n[grep reported: grep: g: Permission denied]"


async def test_a_shell_without_grep_is_an_error() -> None:
    sandbox = MemorySandbox(script=lambda _: ExecResult("", "sh: grep: not found", 127))
    with pytest.raises(UsageError, match="grep failed: sh: grep: not found"):
        await use(SessionEnv(sandbox, "/"), "grep", pattern="x")

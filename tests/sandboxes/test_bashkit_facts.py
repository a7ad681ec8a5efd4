"""What the engine knows of bashkit. A test that fails here after an upgrade tells which workaround to look at again."""

from __future__ import annotations

import pytest
from bashkit import Bash, FileSystem, get_version


def test_the_version_is_the_one_that_was_measured() -> None:
    assert get_version() == "0.20.1"


def test_a_new_file_system_is_not_empty() -> None:
    assert sorted(entry["name"] for entry in FileSystem().read_dir("/")) == ["dev", "home", "tmp"]


def test_a_file_system_used_directly_does_not_follow_links() -> None:
    files = FileSystem()
    files.write_file("/file", b"x")
    files.symlink("/file", "/link")
    with pytest.raises(RuntimeError, match="not found"):
        files.read_file("/link")


def test_the_root_of_a_file_system_can_be_removed_and_made_again() -> None:
    files = FileSystem()
    files.remove("/", recursive=True)
    assert not files.exists("/")
    files.mkdir("/")
    assert files.exists("/")


def test_an_empty_directory_is_removed_without_recursive() -> None:
    files = FileSystem()
    files.mkdir("/folder")
    files.remove("/folder")
    assert not files.exists("/folder")


def test_a_limit_takes_the_output_along_but_not_what_the_callback_saw() -> None:
    seen: list[str] = []
    result = Bash(max_commands=20).execute_sync("while :; do echo y; done", on_output=lambda out, err: seen.append(out))
    assert result.stdout == ""
    assert "maximum command count exceeded (20)" in str(result.error)
    assert "".join(seen).startswith("y\ny\n")


def test_the_output_callback_gets_text_and_the_result_has_the_bytes() -> None:
    seen: list[str] = []
    result = Bash().execute_sync("printf 'a\\377b'", on_output=lambda out, err: seen.append(out))
    assert "".join(seen) == "a\ufffdb"
    assert getattr(result, "stdout_bytes") == b"a\xffb"  # noqa: B009 - missing from the stubs


def test_an_interpreter_lives_for_a_thousand_calls() -> None:
    shell = Bash()
    errors = {shell.execute_sync(":").error for _ in range(1_001)}
    assert errors == {None, "execution error: session exec() call limit exceeded (1000 calls)"}


def test_a_syntax_error_has_status_one() -> None:
    result = Bash().execute_sync("if true")
    assert (result.exit_code, str(result.error).startswith("parse error")) == (1, True)

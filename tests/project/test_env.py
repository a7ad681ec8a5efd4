from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from flue.errors import ConfigError
from flue.project.env import EnvFile, load_env

Write = Callable[..., Path]


def values(write: Write, text: str) -> dict[str, str]:
    (root := write({".env": ""})).joinpath(".env").write_text(text, encoding="utf-8")
    return dict(load_env(root).values)


def test_dotenv_syntax_is_understood(write: Write) -> None:
    text = (
        "\ufeff# comment\nA=1\n\nexport B=two # note\nC='single # \"quoted\"'\n"
        'D="line\\nbreak"\nE="several\nlines"\nF=\nG = spaced \nA=again\n'
    )
    assert values(write, text) == {
        "A": "again",
        "B": "two",
        "C": 'single # "quoted"',
        "D": "line\nbreak",
        "E": "several\nlines",
        "F": "",
        "G": "spaced",
    }


def test_dollar_signs_in_a_value_are_kept(write: Write) -> None:
    assert values(write, 'KEY="pa${HOME}ss$x"\n') == {"KEY": "pa${HOME}ss$x"}


def test_the_shell_wins_even_with_an_empty_value() -> None:
    file = EnvFile(Path(".env"), {"A": "file", "B": "file", "C": "file"})
    environ = {"A": "shell", "B": ""}
    assert file.over(environ) == {"A": "shell", "B": "", "C": "file"}
    file.apply(environ)
    assert environ == {"A": "shell", "B": "", "C": "file"}


def test_a_named_file_replaces_dot_env(write: Write) -> None:
    root = write({".env": "A=1\n", "other.env": "B=2\n"})
    assert dict(load_env(root, root / "other.env").values) == {"B": "2"}


def test_without_dot_env_there_are_no_values(tmp_path: Path) -> None:
    assert load_env(tmp_path) == EnvFile(None, {})


def test_a_named_file_may_be_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "secrets"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("KEY=value\n",))
    writer.start()
    assert load_env(tmp_path, pipe).values == {"KEY": "value"}
    writer.join()


def test_a_directory_is_no_environment_file(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    assert load_env(tmp_path).path is None
    with pytest.raises(ConfigError, match="is a directory"):
        load_env(tmp_path, tmp_path / ".env")


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"x\.env does not exist") as caught:
        load_env(tmp_path, tmp_path / "x.env")
    assert caught.value.code == "env_not_found"


@pytest.mark.parametrize(("line", "number"), [("A=1\n\nhush hush\n", 3), ("A='open\n", 1), ("A=1\nB\n", 2)])
def test_a_line_that_cannot_be_read_is_named_by_number_and_not_shown(write: Write, line: str, number: int) -> None:
    with pytest.raises(ConfigError, match=rf"\.env:{number}: not of the form") as caught:
        values(write, line)
    assert caught.value.code == "invalid_env"
    assert "hush" not in str(caught.value)


def test_a_file_that_is_not_utf_8_is_an_error(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"A=\xff\xfe\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_env(tmp_path)


def test_values_do_not_show_in_the_repr() -> None:
    assert "secret" not in repr(EnvFile(Path(".env"), {"KEY": "secret"}))

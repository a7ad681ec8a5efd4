from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flue.build.output import MARK, check_output, earlier, write_output
from flue.errors import ConfigError
from flue.project.config import Config
from tests.build.conftest import Write


@pytest.fixture
def config(write: Write) -> Config:
    root = write({"flue.toml": ""})
    return Config("server", root, root / "dist")


def test_a_build_replaces_the_one_before_as_a_whole(config: Config) -> None:
    write_output(config, lambda folder: (folder / "old").touch())
    assert earlier(config, "old") == config.output / "old"
    write_output(config, lambda folder: (folder / "new").touch())
    assert sorted(path.name for path in config.output.iterdir()) == [MARK, "new"]
    assert sorted(path.name for path in config.root.iterdir()) == ["dist", "flue.toml"]


def test_a_build_that_fails_changes_nothing(config: Config) -> None:
    write_output(config, lambda folder: (folder / "old").touch())

    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise ConfigError("No.")

    with pytest.raises(ConfigError, match="No"):
        write_output(config, fail)
    assert sorted(path.name for path in config.output.iterdir()) == [MARK, "old"]
    assert sorted(path.name for path in config.root.iterdir()) == ["dist", "flue.toml"]


@pytest.mark.parametrize(
    ("place", "problem"),
    [("mine", "did not write"), (".", "holds the project"), ("..", "holds the project"), ("flue.toml", "is a file")],
)
def test_a_folder_that_is_not_a_builds_is_never_replaced(config: Config, place: str, problem: str) -> None:
    (config.root / "mine").mkdir()
    (config.root / "mine" / "letter.txt").write_text("Dear Ann")
    chosen = replace(config, output=(config.root / place).resolve())
    with pytest.raises(ConfigError, match=problem) as caught:
        write_output(chosen, lambda folder: None)
    assert caught.value.code == "output_not_ours"
    assert (config.root / "mine" / "letter.txt").read_text() == "Dear Ann"


def test_conversations_of_a_server_that_ran_in_the_build_are_not_thrown_away(config: Config) -> None:
    write_output(config, lambda folder: (folder / "app").mkdir())
    (config.output / "app" / ".flue-data").mkdir()
    with pytest.raises(ConfigError, match=r"holds conversations in dist/app/\.flue-data"):
        check_output(config)


def test_an_empty_folder_is_free(config: Config) -> None:
    config.output.mkdir()
    check_output(config)

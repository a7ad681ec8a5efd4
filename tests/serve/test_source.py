from __future__ import annotations

import os
from pathlib import Path

import pytest

from flue.errors import ConfigError
from flue.project.env import EnvFile
from flue.serve.source import Environment, Source


@pytest.fixture(autouse=True)
def _shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUE_TEST_SHELL", "shell")
    for name in ("FLUE_TEST_FILE", "FLUE_MODE"):
        monkeypatch.delenv(name, raising=False)


def test_the_shell_wins_over_the_file_and_what_is_fixed_over_both() -> None:
    environment = Environment(fixed={"FLUE_MODE": "local"})
    values = {"FLUE_TEST_SHELL": "file", "FLUE_TEST_FILE": "file", "FLUE_MODE": "file"}
    env = environment.apply(EnvFile(None, values))
    found = {name: env[name] for name in values}
    assert found == {"FLUE_TEST_SHELL": "shell", "FLUE_TEST_FILE": "file", "FLUE_MODE": "local"}
    assert {name: os.environ[name] for name in values} == found
    environment.restore()


def test_a_key_that_the_file_loses_reverts_to_the_shells_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUE_MODE", "shell")
    environment = Environment(fixed={"FLUE_MODE": "local"})
    environment.apply(EnvFile(None, {"FLUE_TEST_FILE": "1"}))
    env = environment.apply(EnvFile(None, {}))
    assert "FLUE_TEST_FILE" not in env
    assert "FLUE_TEST_FILE" not in os.environ
    environment.restore()
    assert os.environ["FLUE_MODE"] == "shell"


def test_a_project_for_cloudflare_cannot_be_served_here(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Source(cwd=tmp_path, target="cloudflare").read_config()
    assert caught.value.code == "unsupported_target"

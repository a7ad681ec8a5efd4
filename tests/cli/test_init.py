from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flue.project.config import load_config
from flue.project.loader import build_schemas, load_project

Flue = Callable[..., Any]
Write = Callable[[dict[str, str]], Path]


def test_an_empty_folder_becomes_a_project_that_loads(flue: Flue, root: Path) -> None:
    done = flue("init")
    assert (done.code, done.out) == (0, "")
    assert tomllib.loads((root / "flue.toml").read_text()) == {"target": "server"}
    project = load_project(root)
    try:
        build_schemas(project)
        assert (list(project.workflows), list(project.agents)) == (["hello"], ["assistant"])
    finally:
        project.unload()
    assert done.err.splitlines()[-1].startswith("[flue] Next: flue run hello ")


def test_what_it_wrote_runs_without_a_key(
    flue: Flue, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    flue("init")
    assert json.loads(flue("run", "hello", "--payload", '{"name": "Ada"}').out)["greeting"].startswith("Hello, Ada!")
    typed = tmp_path_factory.mktemp("typed") / "lines.txt"
    typed.write_text("When is the library open?\n")
    with typed.open() as lines:
        monkeypatch.setattr("sys.stdin", lines)
        assert "9 to 18" in json.loads(flue("connect", "assistant", "my-first-chat").out)["text"]


def test_a_root_elsewhere_is_created_and_named_in_the_next_step(flue: Flue, root: Path) -> None:
    done = flue("init", "--root", "new one")
    assert done.code == 0
    assert load_config(root / "new one").file == root / "new one/flue.toml"
    assert f"[flue] Next: cd '{root}/new one' && flue run hello" in done.err


@pytest.mark.parametrize(("target", "written"), [("cloudflare", "cloudflare"), ("node", "server")])
def test_the_target_is_written_by_its_own_name(flue: Flue, root: Path, target: str, written: str) -> None:
    assert flue("init", "--target", target).code == 0
    assert load_config(root).target == written


def test_a_project_for_cloudflare_is_tried_where_its_bindings_are(flue: Flue) -> None:
    """`flue run`, which refuses such a target, is not what comes next."""
    assert flue("init", "--target", "cloudflare").err.splitlines()[-1] == "[flue] Next: flue dev"


def test_an_unknown_target_is_refused_and_nothing_written(flue: Flue, root: Path) -> None:
    done = flue("init", "--target", "x")
    assert done.code == 1
    assert 'error: Invalid target: "x". Supported targets: server, cloudflare.' in done.err
    assert not list(root.iterdir())


def test_an_existing_configuration_is_kept_unless_forced(flue: Flue, write: Write) -> None:
    root = write({"flue.toml": 'output = "mine"\n'})
    done = flue("init")
    assert done.code == 1
    assert done.err == f"error: {root}/flue.toml exists already. Pass --force to replace it. [config_exists]\n"
    assert (root / "flue.toml").read_text() == 'output = "mine"\n'
    assert not (root / ".flue").exists()
    assert flue("init", "--force").code == 0
    assert load_config(root).output == root / "dist"


def test_a_broken_configuration_can_be_replaced(flue: Flue, write: Write) -> None:
    root = write({"flue.toml": "not toml"})
    assert flue("init", "--force").code == 0
    assert load_config(root).target == "server"


def test_a_table_in_pyproject_is_never_joined_by_a_second_file(flue: Flue, write: Write) -> None:
    root = write({"pyproject.toml": '[tool.flue]\ntarget = "server"\n'})
    done = flue("init", "--force")
    assert done.code == 1
    assert "[tool.flue]" in done.err
    assert not (root / "flue.toml").exists()


def test_a_project_with_modules_gets_the_configuration_alone(flue: Flue, write: Write) -> None:
    root = write({"src/agents/mine.py": "agent = 1\n"})
    done = flue("init")
    assert (done.code, done.err.splitlines()[-1]) == (0, "[flue] Next: flue connect mine my-first-chat")
    assert not (root / ".flue").exists()


def test_modules_with_unusable_names_stop_it_before_anything_is_written(flue: Flue, write: Write) -> None:
    root = write({"workflows/a b.py": ""})
    assert flue("init").code == 1
    assert not (root / "flue.toml").exists()


def test_a_file_that_cannot_be_written_is_named(flue: Flue, write: Write) -> None:
    root = write({"place/.flue": "a file where a folder must be"})
    done = flue("init", "--root", "place")
    assert (done.code, done.out) == (1, "")
    assert f"{root / 'place/.flue/workflows/hello.py'} cannot be written: " in done.err
    assert "[cannot_write]" in done.err


def test_a_root_that_is_a_file_is_refused(flue: Flue, write: Write) -> None:
    write({"file": ""})
    done = flue("init", "--root", "file")
    assert (done.code, "is not a directory" in done.err) == (1, True)

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flue.errors import ConfigError
from flue.project.layout import find_layout

Write = Callable[..., Path]


@pytest.mark.parametrize(
    ("folders", "source"),
    [([".flue", "src", "."], ".flue"), (["src", "."], "src"), (["."], ".")],
)
def test_the_source_root_is_the_first_of_dot_flue_src_and_root(write: Write, folders: list[str], source: str) -> None:
    root = write({f"{folder}/workflows/in_{index}.py": "" for index, folder in enumerate(folders)})
    layout = find_layout(root)
    assert layout.source_root == (root / source).resolve()
    assert list(layout.workflows) == ["in-0"]


def test_agents_workflows_and_app_are_discovered_by_their_hyphenated_names(write: Write) -> None:
    root = write({"agents/support.py": "", "workflows/daily_report.py": "", "workflows/b-c.py": "", "app.py": ""})
    layout = find_layout(root)
    assert layout.agents == {"support": root / "agents/support.py"}
    assert layout.workflows == {"b-c": root / "workflows/b-c.py", "daily-report": root / "workflows/daily_report.py"}
    assert layout.app == root / "app.py"


def test_underscored_files_subfolders_and_other_suffixes_are_not_discovered(write: Write) -> None:
    files = ["agents/_shared.py", "agents/__init__.py", "agents/deep/x.py", "agents/notes.md", "agents/x.pyi"]
    root = write({**dict.fromkeys(files, ""), "workflows/one.py": ""})
    (root / "agents/folder.py").mkdir()
    assert find_layout(root).agents == {}


def test_two_files_of_one_name_are_both_named(write: Write) -> None:
    root = write({"workflows/daily_report.py": "", "workflows/daily-report.py": ""})
    with pytest.raises(ConfigError) as caught:
        find_layout(root)
    assert caught.value.code == "duplicate_name"
    assert "workflows/daily_report.py" in caught.value.message
    assert "workflows/daily-report.py" in caught.value.message


def test_an_agent_and_a_workflow_may_share_a_name(write: Write) -> None:
    layout = find_layout(write({"agents/x.py": "", "workflows/x.py": ""}))
    assert (list(layout.agents), list(layout.workflows)) == (["x"], ["x"])


@pytest.mark.parametrize("stem", ["a:b", "a b", "a.b", "-a", "a-", "a__b", "é"])
def test_a_name_that_cannot_stand_in_a_url_is_an_error_naming_the_file(write: Write, stem: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a name") as caught:
        find_layout(write({f"agents/{stem}.py": ""}))
    assert caught.value.code == "invalid_name"
    assert f"agents/{stem}.py" in caught.value.message


@pytest.mark.parametrize("stem", ["Report", "2fast", "reportA"])
def test_names_are_narrower_on_cloudflare(write: Write, stem: str) -> None:
    root = write({f"workflows/{stem}.py": ""})
    assert list(find_layout(root).workflows) == [stem]
    with pytest.raises(ConfigError, match="on Cloudflare"):
        find_layout(root, target="cloudflare")


def test_a_project_with_nothing_in_it_names_the_expected_paths(tmp_path: Path) -> None:
    (tmp_path / ".flue").mkdir()
    with pytest.raises(ConfigError, match="No agents and no workflows") as caught:
        find_layout(tmp_path)
    assert caught.value.code == "empty_project"
    assert ".flue/workflows/<name>.py" in caught.value.hint
    assert ".flue/agents/<name>.py" in caught.value.hint


def test_agents_overlooked_because_of_a_src_folder_are_pointed_out(write: Write) -> None:
    root = write({"agents/a.py": "", "src/package/__init__.py": ""})
    with pytest.raises(ConfigError) as caught:
        find_layout(root)
    assert "move them into src/" in caught.value.hint


def test_a_root_that_is_no_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        find_layout(tmp_path / "missing")
    assert caught.value.code == "invalid_root"

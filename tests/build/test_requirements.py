from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from flue.build.server.requirements import lock_requirements
from flue.errors import ConfigError
from tests.build.conftest import Write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "out"
    made.mkdir()
    return made


def asked(uv: Path) -> str:
    return (uv.parent / "asked").read_text()


def test_the_lock_pins_with_hashes_and_takes_flue_from_beside_it(write: Write, uv: Path, folder: Path) -> None:
    lock = lock_requirements(write({"flue.toml": ""}), folder, before=None, uv=str(uv))
    [wheel] = (folder / "wheels").iterdir()
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    version = wheel.name.split("-")[1]
    assert lock.text.splitlines() == [
        "# Written by flue build. Install it with: pip install --require-hashes -r requirements.txt",
        "--only-binary :all:",
        "--find-links wheels",
        "Ant_Eater[x]==1.0 ; sys_platform == 'win32' \\",
        "    --hash=sha256:11 \\",
        "    --hash=sha256:12",
        f"flue-agents=={version} \\",
        f"    --hash=sha256:{digest}",
        "zebra==2.0 \\",
        "    --hash=sha256:22",
    ]
    assert (lock.packages, lock.resolver, lock.notices) == (3, "uv", ())
    assert f"flue.in: flue-agents[server]=={version}" in asked(uv)
    assert "--generate-hashes" in asked(uv)
    assert "--universal" in asked(uv)


def test_the_projects_own_dependencies_are_resolved_with_it(write: Write, uv: Path, folder: Path) -> None:
    root = write({"pyproject.toml": '[project]\nname = "x"\ndependencies = ["requests>=2", "flue-agents[postgres]"]\n'})
    write({"requirements.txt": "ignored"})
    lock_requirements(root, folder, before=None, uv=str(uv))
    assert "project.in: requests>=2\nflue-agents[postgres]\n" in asked(uv)


def test_without_a_project_table_requirements_txt_counts(write: Write, uv: Path, folder: Path) -> None:
    root = write({"pyproject.toml": "[tool.flue]\n", "requirements.txt": "requests>=2\n"})
    lock_requirements(root, folder, before=None, uv=str(uv))
    assert "requirements.txt: requests>=2\n" in asked(uv)


def test_versions_of_the_build_before_and_of_uv_lock_are_kept(write: Write, uv: Path, folder: Path) -> None:
    root = write(
        {"uv.lock": "", "before.txt": "--only-binary :all:\n--find-links wheels\nzebra==1.9 \\\n --hash=sha256:1"}
    )
    lock_requirements(root, folder, before=root / "before.txt", uv=str(uv))
    assert "requirements.txt: zebra==1.9" in asked(uv)
    assert "uv.lock.txt: starlette==1.2.3 ; python_version < '4'" in asked(uv)


def test_what_comes_from_no_index_cannot_be_locked(write: Write, uv: Path, folder: Path) -> None:
    (uv.parent / "answer").write_text("tool @ file:///somewhere/tool\n")
    with pytest.raises(ConfigError, match="'tool @ file:///somewhere/tool' cannot be locked") as caught:
        lock_requirements(write({"flue.toml": ""}), folder, before=None, uv=str(uv))
    assert caught.value.code == "lock_failed"


def test_a_resolver_that_fails_is_quoted_in_one_line(write: Write, uv: Path, folder: Path) -> None:
    (uv.parent / "fails").write_text("\u00d7 No solution found:\n  \u2570\u2500\u25b6 Because zebra was not found\n")
    with pytest.raises(ConfigError) as caught:
        lock_requirements(write({"flue.toml": ""}), folder, before=None, uv=str(uv))
    assert caught.value.message.endswith("No solution found: Because zebra was not found")
    assert caught.value.code == "lock_failed"


def test_a_resolver_that_is_not_there_is_an_error(write: Write, folder: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be locked"):
        lock_requirements(write({"flue.toml": ""}), folder, before=None, uv="/nowhere/uv")

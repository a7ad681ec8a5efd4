"""Skills from disk: beside the module that names them, and from installed packages."""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flue import DefinitionError, FlueError, SecurityError, Skill, skill, skill_from_package
from flue.project.loader import load_project
from flue.skills import folder

TEXT = "---\nname: {0}\ndescription: Does {0}.\n---\n\nDo it.\n"
Write = Callable[..., Path]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project's root."""
    (tmp_path / "flue.toml").write_text("")
    return tmp_path


@pytest.fixture
def write(project: Path) -> Write:
    """Return a function that writes a skill with further files and returns its SKILL.md."""

    def write(name: str = "review", **files: str | bytes) -> Path:
        place = project / "skills" / name
        for path, content in {"SKILL.md": TEXT.format(name), **files}.items():
            target = place / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content if isinstance(content, bytes) else content.encode())
        return place / "SKILL.md"

    return write


def error_of(path: Path, **options: Any) -> FlueError:
    with pytest.raises(FlueError) as raised:
        skill(path, **options)
    return raised.value


# --------------------------------------------------------------------------------------------- from a project


def test_a_skill_is_read_with_all_its_files(project: Path, write: Write) -> None:
    path = write(**{"rules/b.md": "B", "a.bin": b"\0\xff", "empty": ""})
    review = skill(path, root=project)
    assert (review.name, review.description, review.instructions) == ("review", "Does review.", "Do it.")
    assert dict(review.resources) == {"a.bin": b"\0\xff", "empty": b"", "rules/b.md": b"B"}
    assert review.source == TEXT.format("review").encode()
    assert review.id == f"skill:review:{hashlib.sha256(b'skills/review').hexdigest()[:16]}"


def test_a_relative_path_counts_from_the_module_that_calls(project: Path, write: Write) -> None:
    write()
    module = project / "lib" / "tools.py"
    module.parent.mkdir()
    for path in ("../skills/review/SKILL.md", "../skills/review"):
        module.write_text(f"from flue import skill\nreview = skill({path!r})\n")
        namespace: dict[str, Any] = {"__file__": str(module)}
        exec(module.read_text(), namespace)  # noqa: S102 - a module of a project
        assert isinstance(namespace["review"], Skill)


def test_in_a_loaded_project_the_root_is_the_projects(tmp_path: Path) -> None:
    (tmp_path / "workflows").mkdir()
    (tmp_path / "skills" / "review").mkdir(parents=True)
    (tmp_path / "skills" / "review" / "SKILL.md").write_text(TEXT.format("review"))
    (tmp_path / "workflows" / "go.py").write_text(
        "from flue import skill\nreview = skill('../skills/review/SKILL.md')\nasync def run(ctx):\n    return None\n"
    )
    loaded = load_project(tmp_path)
    try:
        review: Skill = loaded.workflow("go").module.review
    finally:
        loaded.unload()
    assert review.id == f"skill:review:{hashlib.sha256(b'skills/review').hexdigest()[:16]}"


def test_without_a_module_a_path_counts_from_the_working_directory(
    project: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write()
    monkeypatch.chdir(project)
    namespace: dict[str, Any] = {}
    exec("from flue import skill\nreview = skill('skills/review/SKILL.md')", namespace)  # noqa: S102 - as a notebook
    assert namespace["review"].name == "review"


def test_a_missing_skill_is_an_error_with_the_place_that_was_looked_at(project: Path) -> None:
    error = error_of(project / "skills" / "nope" / "SKILL.md", root=project)
    assert error.code == "skill_not_found"
    assert str(project / "skills" / "nope" / "SKILL.md") in error.message


def test_a_skill_file_that_is_not_in_order_is_refused_with_file_and_line(project: Path, write: Write) -> None:
    path = write(**{"SKILL.md": TEXT.format("other")})
    error = error_of(path, root=project)
    assert error.code == "invalid_skill"
    assert error.message.startswith(f"{path}:2: ")


@pytest.mark.parametrize("path", ["../outside/SKILL.md", "/outside/SKILL.md", ".."])
def test_a_skill_outside_the_root_is_refused(project: Path, path: str) -> None:
    inner = project / "inner"
    inner.mkdir()
    error = error_of(inner / path, root=inner)
    assert isinstance(error, SecurityError)
    assert error.code == "skill_escape"


def test_symlinks_on_the_way_and_inside_are_refused(project: Path, write: Write) -> None:
    path = write("review", **{"a.md": "x"})
    (project / "linked").symlink_to(project / "skills")
    error = error_of(project / "linked" / "review" / "SKILL.md", root=project)
    assert (error.code, str(project / "linked") in error.message) == ("skill_escape", True)
    (path.parent / "passwd").symlink_to("/etc/passwd")
    error = error_of(path, root=project)
    assert (error.code, "holds a symlink: passwd" in error.message) == ("skill_escape", True)


def test_a_folder_that_holds_itself_is_refused(project: Path, write: Write) -> None:
    path = write()
    (path.parent / "again").symlink_to(path.parent)
    assert error_of(path, root=project).code == "skill_escape"


def test_a_skill_file_that_is_a_link_is_refused(project: Path, write: Write) -> None:
    path = write()
    real = path.rename(project / "real.md")
    path.symlink_to(real)
    assert error_of(path, root=project).code == "skill_escape"


def test_a_linked_directory_above_the_root_is_fine(tmp_path: Path, write: Write) -> None:
    write()
    (tmp_path.parent / f"{tmp_path.name}-link").symlink_to(tmp_path)
    spelled = tmp_path.parent / f"{tmp_path.name}-link"
    assert skill(spelled / "skills" / "review", root=spelled).name == "review"


@pytest.mark.parametrize(
    "name",
    [".env", ".env.local", ".ENV", ".dev.vars", ".netrc", "_netrc", ".npmrc", ".pypirc", "credentials.json", "a/x.key",
     "x.pem", "x.p12", "x.PFX", "secret.txt", "deep/secrets.json", ".ssh/config", "a/.aws/x", ".gnupg/x"],
)  # fmt: skip
def test_files_that_may_hold_secrets_are_refused_by_name(project: Path, write: Write, name: str) -> None:
    error = error_of(write(**{name: "hush"}), root=project)
    assert error.code == "skill_secret"
    assert name.removesuffix("/config").removesuffix("/x") in error.message
    assert "hush" not in str(error)


def test_what_editors_and_tools_leave_behind_is_left_out_with_one_warning(
    project: Path, write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    clutter = {".git/HEAD": "", "node_modules/x/y.js": "", "a/dist/z": "", ".DS_Store": "", "b.swp": "", "c.md~": ""}
    path = write(**{**clutter, "__pycache__/x.pyc": "", "a/kept.md": "", ".cache": "a file of that name"})
    with caplog.at_level(logging.WARNING, logger="flue"):
        review = skill(path, root=project)
    assert list(review.resources) == [".cache", "a/kept.md"]
    (record,) = caplog.records
    for name in (".git", "node_modules", "a/dist", ".DS_Store", "b.swp", "c.md~"):
        assert name in record.getMessage()
    assert "pycache" not in record.getMessage()


def test_a_file_over_one_megabyte_is_taken_with_a_warning(
    project: Path, write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(**{"big.bin": b"x" * (1024 * 1024 + 1)})
    with caplog.at_level(logging.WARNING, logger="flue"):
        assert "big.bin" in skill(path, root=project).resources
    assert "big.bin (1048577 bytes)" in caplog.text


def test_too_much_is_refused_before_it_is_read(project: Path, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(**{"a": "xxx", "b": "xxx", "c/d/e": ""})
    for name, limit in (("MAX_FILES", 2), ("MAX_BYTES", 5), ("MAX_DEPTH", 1)):
        with monkeypatch.context() as patched:
            patched.setattr(folder, name, limit)
            error = error_of(path, root=project)
        assert error.code == "invalid_skill"
        assert "holds more than" in error.message
    with (path.parent / "SKILL.md").open("ab") as file:
        file.truncate(10**12)
    error = error_of(path, root=project)
    assert "has 1000000000000 bytes" in error.message


def test_what_is_no_regular_file_is_refused_unread(project: Path, write: Write) -> None:
    path = write()
    os.mkfifo(path.parent / "pipe")
    error = error_of(path, root=project)
    assert error.code == "invalid_skill"
    assert "pipe: is not a regular file" in error.message


# ---------------------------------------------------------------------------------- from an installed package


@pytest.fixture(params=["folder", "zip"])
def package(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Install a package with a skill; return its import name."""
    name = f"house_rules_{request.param}"
    files = {
        f"{name}/__init__.py": "",
        f"{name}/skills/review/SKILL.md": TEXT.format("review"),
        f"{name}/skills/review/rules/a.md": "A",
        f"{name}/skills/leaky/SKILL.md": TEXT.format("leaky"),
        f"{name}/skills/leaky/.env": "x",
    }
    place = tmp_path / "site"
    if request.param == "zip":
        with zipfile.ZipFile(place, "w") as archive:
            for path, text in files.items():
                archive.writestr(path, text)
    else:
        for path, text in files.items():
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_text(text)
    monkeypatch.syspath_prepend(place)
    yield name
    sys.modules.pop(name, None)
    importlib.invalidate_caches()


def test_a_skill_comes_from_an_installed_package_also_when_that_is_a_zip_file(package: str) -> None:
    for path in ("skills/review", "skills/review/SKILL.md"):
        review = skill_from_package(package, path)
        assert dict(review.resources) == {"rules/a.md": b"A"}
        expected = hashlib.sha256(f"package:{package}/skills/review".encode()).hexdigest()[:16]
        assert review.id == f"skill:review:{expected}"


def test_the_rules_for_files_hold_in_packages_too(package: str) -> None:
    with pytest.raises(SecurityError, match=r"holds \.env"):
        skill_from_package(package, "skills/leaky")


@pytest.mark.parametrize("path", ["skills/nope", "", "SKILL.md"])
def test_a_folder_that_the_package_lacks_is_an_error(package: str, path: str) -> None:
    with pytest.raises(DefinitionError, match="has no") as raised:
        skill_from_package(package, path)
    assert raised.value.code == "skill_not_found"


def test_a_package_that_is_not_installed_is_an_error() -> None:
    with pytest.raises(DefinitionError, match="cannot be imported") as raised:
        skill_from_package("no_such_package_here", "skills/review")
    assert raised.value.code == "skill_not_found"


@pytest.mark.parametrize("path", ["../x", "/etc", "a/../../b", "a\\b"])
def test_a_path_that_leaves_the_package_is_refused(path: str) -> None:
    with pytest.raises(SecurityError) as raised:
        skill_from_package("flue", path)
    assert raised.value.code == "skill_escape"

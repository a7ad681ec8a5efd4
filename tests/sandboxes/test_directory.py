from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from flue.errors import DefinitionError, SecurityError
from flue.sandboxes import directory, virtual


def tree(root: Path, *paths: str) -> None:
    for path in paths:
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(f"content of {path}")


def test_files_are_read_by_relative_path(tmp_path: Path) -> None:
    tree(tmp_path, "guide.md", "api/index.md", ".hidden")
    (tmp_path / "raw.bin").write_bytes(b"\xff\x00")
    files = directory(tmp_path)
    assert sorted(files) == [".hidden", "api/index.md", "guide.md", "raw.bin"]
    assert files["api/index.md"] == b"content of api/index.md"
    assert files["raw.bin"] == b"\xff\x00"
    assert files.skipped == ()


async def test_a_directory_becomes_the_files_of_a_sandbox(tmp_path: Path) -> None:
    tree(tmp_path, "guide.md", "api/index.md")
    env = await virtual({**directory(tmp_path, into="docs"), "extra": "x"}).create_session_env(id="test")
    shown = await env.exec("find . -type f | sort; cat docs/guide.md")
    assert shown.stdout == "./docs/api/index.md\n./docs/guide.md\n./extra\ncontent of guide.md"
    await env.write_file("docs/guide.md", "changed inside")
    assert (tmp_path / "guide.md").read_text() == "content of guide.md"


@pytest.mark.parametrize(
    "name",
    [
        ".env",
        ".env.local",
        ".ENV",
        "server.pem",
        "Private.KEY",
        "id_rsa",
        "id_ed25519.pub",
        ".npmrc",
        ".dev.vars",
        "a.p12",
    ],
)
def test_files_that_may_hold_secrets_are_left_out_and_named(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    tree(tmp_path, "guide.md", f"deep/{name}")
    with caplog.at_level(logging.WARNING):
        files = directory(tmp_path)
    assert list(files) == ["guide.md"]
    assert [(item.path, item.reason) for item in files.skipped] == [(f"deep/{name}", "may hold secrets")]
    assert f"deep/{name}" in caplog.text


def test_a_harmless_name_for_a_secret_does_not_let_it_in(tmp_path: Path) -> None:
    tree(tmp_path, ".env", "guide.md")
    (tmp_path / "settings.txt").symlink_to(".env")
    files = directory(tmp_path)
    assert list(files) == ["guide.md"]
    assert [item.path for item in files.skipped] == [".env", "settings.txt"]


def test_version_control_and_installed_packages_are_left_out_silently(tmp_path: Path) -> None:
    tree(tmp_path, "a.md", ".git/config", "node_modules/x/index.js", "sub/__pycache__/x.pyc", ".venv/bin/python")
    files = directory(tmp_path)
    assert list(files) == ["a.md"]
    assert files.skipped == ()


def test_links_inside_are_followed_to_files_but_not_to_directories(tmp_path: Path) -> None:
    tree(tmp_path, "docs/real.md")
    (tmp_path / "docs" / "link.md").symlink_to("real.md")
    (tmp_path / "docs" / "circle").symlink_to("..", target_is_directory=True)
    files = directory(tmp_path)
    assert files["docs/link.md"] == b"content of docs/real.md"
    assert sorted(files) == ["docs/link.md", "docs/real.md"]
    assert [(item.path, item.reason) for item in files.skipped] == [("docs/circle", "a link to a directory")]


@pytest.mark.parametrize("target", ["../outside/secret.txt", "../outside", "/etc/hostname", "../nowhere"])
def test_a_link_that_leads_out_is_refused(tmp_path: Path, target: str) -> None:
    tree(tmp_path, "outside/secret.txt", "docs/guide.md")
    (tmp_path / "docs" / "link").symlink_to(target)
    with pytest.raises(SecurityError, match="leads out of the directory") as caught:
        directory(tmp_path / "docs")
    assert caught.value.code == "link_leaves_directory"
    assert "link" in str(caught.value)


def test_the_directory_itself_may_be_a_link(tmp_path: Path) -> None:
    tree(tmp_path, "real/guide.md")
    (tmp_path / "docs").symlink_to("real", target_is_directory=True)
    assert list(directory(tmp_path / "docs")) == ["guide.md"]


def test_what_is_no_regular_file_is_left_out(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert [(item.path, item.reason) for item in directory(tmp_path).skipped] == [("pipe", "not a regular file")]


@pytest.mark.parametrize("name", ["missing", "file"])
def test_what_is_no_directory_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DefinitionError, match=f"{name}' is not a directory"):
        directory(tmp_path / name)


def test_a_file_that_no_sandbox_takes_is_named(tmp_path: Path) -> None:
    with (tmp_path / "large.bin").open("wb") as file:
        file.truncate(10_000_001)
    with pytest.raises(DefinitionError, match=r"large\.bin has 10,000,001 bytes"):
        directory(tmp_path)

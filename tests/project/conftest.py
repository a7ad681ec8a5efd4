from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flue.project.loader import Project, load_project

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write files below the project's root: `write({"agents/a.py": "..."})` returns the root."""

    def write_files(files: dict[str, str], folder: str = "") -> Path:
        root = tmp_path / folder
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text), encoding="utf-8")
        return root

    return write_files


@pytest.fixture
def load(write: Write) -> Iterator[Callable[..., Project]]:
    """Write files and load them as a project, which is unloaded after the test."""
    loaded: list[Project] = []

    def load_files(files: dict[str, str], folder: str = "") -> Project:
        project = load_project(write(files, folder))
        loaded.append(project)
        return project

    yield load_files
    for project in loaded:
        project.unload()

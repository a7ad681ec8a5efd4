from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Write = Callable[[dict[str, str]], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write files below a project's root."""

    def write_files(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text), encoding="utf-8")
        return tmp_path

    return write_files


@pytest.fixture(autouse=True)
def _no_modules_stay() -> Iterator[None]:
    import sys

    before = {name for name in sys.modules if name.startswith("_flue_project_")}
    yield
    after = {name for name in sys.modules if name.startswith("_flue_project_")}
    assert after <= before, "modules of a project stayed loaded"

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.build.cloudflare.tools import dry_run, node_for_wrangler
from tests.build.cloudflare.wheels import write_index

Deploy = Callable[..., str]


def use_index(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have pip ask a folder of wheels, written now if it is not there, and keep what is made of them beside it."""
    if not folder.is_dir():
        folder.mkdir()
        write_index(folder)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("FLUE_CACHE_DIR", str(folder.parent / "cache"))


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of wheels that pip asks instead of a package index; a cache of its own comes with it."""
    use_index(tmp_path / "index", monkeypatch)
    return tmp_path / "index"


@pytest.fixture(scope="session")
def node() -> str:
    """Return a Node that Wrangler runs on."""
    return node_for_wrangler()


@pytest.fixture
def deploy(node: str, tmp_path: Path) -> Deploy:
    """Run `wrangler deploy --dry-run` in the project's root and return what it prints."""
    return partial(dry_run, tmp_path, tmp_path / "home")

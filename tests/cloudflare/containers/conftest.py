from __future__ import annotations

from pathlib import Path

import pytest

from flue.sandboxes import remote_sandbox


@pytest.fixture(autouse=True)
def seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Have containers keep what they know of their openings in a folder of the test's own, and return it."""
    folder = tmp_path / "seen"
    folder.mkdir()
    monkeypatch.setattr(remote_sandbox, "SEEN", f"{folder}/")
    return folder

"""Where a project keeps conversations and work unless `FLUE_DATABASE_URL` names another place."""

from __future__ import annotations

import contextlib
from pathlib import Path

DATA_FILE = Path(".flue-data", "flue.db")


def data_file(root: Path) -> Path:
    """Return the file, in a folder that only its owner reads and that git ignores; the folder is made."""
    file = root / DATA_FILE
    folder = file.parent
    # Where this cannot be written, the store says so in its own words.
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        ignore = folder / ".gitignore"
        if not ignore.exists():
            ignore.write_text("# Conversations; made by flue.\n*\n", encoding="utf-8")
    return file

"""What of a project goes into a build: all that is in its folder, but no secret (BLD-01) and nothing made anew."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from flue.skills.folder import SECRET_FILES, SECRET_FOLDERS

_KEPT_HIDDEN = {".flue", ".agents"}
# `python_modules` is where Wrangler looks for a Worker's packages: a link into a build.
_IGNORED_FOLDERS = {"node_modules", "python_modules", "__pycache__"}
_IGNORED_FILES = ("*.pyc", "*~", "*.swp", "*.swx", "*.swo")
_SECRET_FILES = (*SECRET_FILES, "*.env")


@dataclass(frozen=True, slots=True)
class Sources:
    """Files by their path in the project, sorted; and what was left out although it was not to be expected."""

    files: dict[str, Path] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)


def find_sources(root: Path, *, without: Collection[Path] = ()) -> Sources:
    """Find a project's files.

    Left out are hidden files and folders except `.flue` and `.agents` (so `.env`, `.git` and `.flue-data`), virtual
    environments, caches, `node_modules`, `python_modules`, the paths in `without`, files whose names say that they
    hold secrets (but no Python files), and links to folders or out of the project.
    """
    found = Sources()
    _walk(root, "", root, {path.resolve() for path in without}, found)
    return found


def _walk(folder: Path, prefix: str, root: Path, without: set[Path], found: Sources) -> None:
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    if any(entry.name == "pyvenv.cfg" for entry in entries):
        return
    for entry in entries:
        path, name = Path(entry.path), f"{prefix}{entry.name}"
        if path.resolve() in without or (entry.name.startswith(".") and entry.name not in _KEPT_HIDDEN):
            continue
        if entry.is_dir() and entry.name in _IGNORED_FOLDERS:
            continue
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in SECRET_FOLDERS:
                _walk(path, f"{name}/", root, without, found)
        elif _is_secret(entry.name):
            found.secrets.append(name)
        elif entry.is_symlink() and not (path.is_file() and path.resolve().is_relative_to(root)):
            found.links.append(name)
        elif path.is_file() and not any(fnmatch(entry.name, pattern) for pattern in _IGNORED_FILES):
            found.files[name] = path


def _is_secret(name: str) -> bool:
    lower = name.lower()
    return not lower.endswith(".py") and any(fnmatch(lower, pattern) for pattern in _SECRET_FILES)

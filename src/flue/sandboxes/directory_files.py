"""`directory()`: real files of the host, read as they are now, for a virtual sandbox."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from flue.errors import DefinitionError, SecurityError

SECRET_PATTERNS = (
    ".env*",
    ".dev.vars*",
    ".netrc",
    ".npmrc",
    ".pypirc",
    ".git-credentials",
    ".htpasswd",
    "*.pem",
    "*.key",
    "*.p12",
    "*.pfx",
    "*.jks",
    "*.keystore",
    "*.kdbx",
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    "credentials",
    "credentials.json",
    "service-account*.json",
    ".flue-data",
    ".ssh",
    ".aws",
    ".gnupg",
)
"""Names that usually hold secrets; compared without regard to case."""
CLUTTER = (".git", ".hg", ".svn", ".venv", "venv", "node_modules", "__pycache__", ".mypy_cache", ".ruff_cache")
"""Directories that are large, made by tools, and of no use to an agent."""
MAX_FILE_BYTES = 10_000_000
MAX_TOTAL_BYTES = 100_000_000
MAX_FILES = 10_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Skipped:
    """A path that was left out, relative to the directory, and why."""

    path: str
    reason: str


class DirectoryFiles(Mapping[str, bytes]):
    """The files of a directory by relative path, and in `skipped` what was left out."""

    def __init__(self, files: dict[str, bytes], skipped: tuple[Skipped, ...]) -> None:
        self._files = files
        self.skipped = skipped

    def __getitem__(self, path: str) -> bytes:
        return self._files[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __repr__(self) -> str:
        return f"DirectoryFiles({len(self._files)} files, {len(self.skipped)} skipped)"


def directory(path: str | os.PathLike[str], *, into: str = "") -> DirectoryFiles:
    """Read the files below a directory of the host, for `virtual(files=directory("docs"))`.

    The result is a copy: later changes on either side do not reach the other. Paths are relative to the directory,
    with `into` before them (`into="docs"` gives `docs/guide.md`). To leave out more, or to add files, build a new dict
    from it.

    Left out, listed in `skipped` and named in one log warning: files whose names say that they hold secrets
    (`SECRET_PATTERNS`), links to directories, and what is no regular file. Version control, caches and installed
    packages (`CLUTTER`) are left out silently.

    Raises `DefinitionError` when the path is no readable directory or holds too much (10 MB a file, 100 MB or 10,000
    files together: a virtual sandbox takes no more), `SecurityError` (code `link_leaves_directory`) for a symlink that
    leads out of the directory.
    """
    root = Path(path)
    if not root.is_dir():
        raise DefinitionError(
            f"directory(): {os.fspath(path)!r} is not a directory.",
            hint=f"Relative paths count from the working directory, {Path.cwd()}.",
        )
    files: dict[str, bytes] = {}
    skipped: list[Skipped] = []
    total = 0
    prefix = f"{into.strip('/')}/" if into.strip("/") else ""
    for found in _walk(root, skipped):
        name = found.relative_to(root).as_posix()
        content = _read(found, name)
        total += len(content)
        if total > MAX_TOTAL_BYTES or len(files) >= MAX_FILES:
            raise DefinitionError(
                f"directory(): {os.fspath(path)!r} holds more than {MAX_FILES:,} files or {MAX_TOTAL_BYTES:,} bytes.",
                hint="Name a smaller directory.",
            )
        files[f"{prefix}{name}"] = content
    if skipped:
        names = ", ".join(f"{item.path} ({item.reason})" for item in skipped)
        _log.warning("directory(%r) left out: %s", os.fspath(path), names)
    return DirectoryFiles(files, tuple(skipped))


def _walk(root: Path, skipped: list[Skipped]) -> Iterator[Path]:
    """Yield the regular files to copy, in order; note the rest."""
    real_root = root.resolve()
    folders = [root]
    while folders:
        below: list[Path] = []
        for found in sorted(_children(folders.pop())):
            reason = _reason_to_skip(found, real_root)
            if reason is None and found.is_dir():
                below.append(found)
            elif reason is None:
                yield found
            elif reason:
                skipped.append(Skipped(found.relative_to(root).as_posix(), reason))
        folders += reversed(below)


def _children(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise DefinitionError(f"directory(): {folder} cannot be read: {error.strerror}.") from None


def _reason_to_skip(found: Path, real_root: Path) -> str | None:
    """Return why a path is left out, empty when that needs no mention, None to take it."""
    if found.name in CLUTTER and found.is_dir():
        return ""
    if found.is_symlink():
        real = found.resolve()
        if not real.is_relative_to(real_root):
            raise SecurityError(
                f"directory(): the link {found} leads out of the directory, to {real}.",
                code="link_leaves_directory",
                hint="Remove the link, or copy what it leads to into the directory.",
            )
        if _is_secret(real.name):
            return "leads to a file that may hold secrets"
        if real.is_dir():
            return "a link to a directory"
    if _is_secret(found.name):
        return "may hold secrets"
    if not found.is_dir() and not found.is_file():
        return "not a regular file"
    return None


def _is_secret(name: str) -> bool:
    return any(fnmatch(name.lower(), pattern) for pattern in SECRET_PATTERNS)


def _read(found: Path, name: str) -> bytes:
    try:
        size = found.stat().st_size
        if size <= MAX_FILE_BYTES:
            return found.read_bytes()
    except OSError as error:
        raise DefinitionError(f"directory(): {found} cannot be read: {error.strerror}.") from None
    raise DefinitionError(
        f"directory(): {name} has {size:,} bytes; a virtual sandbox takes at most {MAX_FILE_BYTES:,} a file.",
        hint="Move it out of the directory.",
    )

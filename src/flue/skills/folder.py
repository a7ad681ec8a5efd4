"""Reads the folder of a packaged skill: what belongs to it, what is left out, and what must not be in it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib.resources.abc import Traversable
from pathlib import Path

from flue.definitions.skill import Skill, skill_id, warn_of_large_files
from flue.definitions.skill_file import FILE_NAME, MAX_FILE_BYTES, invalid_skill, read_skill_file, too_large
from flue.errors import DefinitionError, SecurityError

LEFT_OUT_FOLDERS = {".git", ".cache", ".turbo", ".wrangler", "dist", "node_modules"}
LEFT_OUT_FILES = (".ds_store", "*.swp", "*.swo", "*~")
# Python writes these by itself when a script of the skill is run: no reason to warn.
BYTECODE = {"__pycache__"}
SECRET_FOLDERS = {".aws", ".gnupg", ".ssh"}
SECRET_FILES = (
    ".env*", ".dev.vars*", ".netrc", "_netrc", ".npmrc", ".pypirc", "credentials.json", "*.key", "*.pem", "*.p12",
    "*.pfx", "secret.*", "secrets.*",
)  # fmt: skip
"""Names that usually hold secrets; all lists are compared without regard to case."""

MAX_FILES = 1_000
MAX_BYTES = 50 * 1024 * 1024
MAX_DEPTH = 16

_log = logging.getLogger("flue")


def read_folder(folder: Traversable, shown: str, place: str) -> Skill:
    """Return the skill in a folder. `shown` is what messages call the folder; `place` what its id is made of."""
    main = _read(folder.joinpath(FILE_NAME), f"{shown}/{FILE_NAME}", MAX_FILE_BYTES)
    file = read_skill_file(main, f"{shown}/{FILE_NAME}", folder.name)
    resources: dict[str, bytes] = {}
    left_out: list[str] = []
    room = MAX_BYTES
    for name, found in _walk(folder, shown, left_out):
        if name == FILE_NAME:
            continue
        if len(resources) == MAX_FILES:
            raise _too_much(shown)
        content = _read(found, f"{shown}/{name}", room)
        room -= len(content)
        resources[name] = content
    if left_out:
        _log.warning("Skill folder %s: left out %s", shown, ", ".join(left_out))
    warn_of_large_files(file.name, resources)
    return Skill(file.name, file.description, file.instructions, resources, main, skill_id(file.name, place))


def _walk(folder: Traversable, shown: str, left_out: list[str]) -> Iterator[tuple[str, Traversable]]:
    """Yield files by their path in the folder, sorted; collect what is left out."""
    folders = [("", folder)]
    while folders:
        prefix, at = folders.pop()
        below: list[tuple[str, Traversable]] = []
        for found in sorted(_children(at, f"{shown}/{prefix}"), key=lambda child: child.name):
            name = f"{prefix}{found.name}"
            if isinstance(found, Path) and found.is_symlink():
                raise SecurityError(
                    f"The skill in {shown} holds a symlink: {name}.",
                    code="skill_escape",
                    hint="Copy what it leads to into the skill, or remove it.",
                )
            is_folder = found.is_dir()
            _check_secret(found.name, name, shown, is_folder=is_folder)
            if found.name in BYTECODE and is_folder:
                continue
            if _is_left_out(found.name, is_folder=is_folder):
                left_out.append(name)
            elif is_folder:
                if name.count("/") >= MAX_DEPTH:
                    raise _too_much(shown)
                below.append((f"{name}/", found))
            elif not found.is_file():
                raise invalid_skill(f"{shown}/{name}", 0, "is not a regular file", "Remove it from the skill.")
            else:
                yield _checked(name, shown), found
        folders += reversed(below)


def _children(folder: Traversable, shown: str) -> list[Traversable]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise invalid_skill(shown, 0, f"cannot be read: {error.strerror}") from None


def _checked(name: str, shown: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise invalid_skill(shown, 0, f"holds a file whose name is not valid Unicode: {name!r}", "Rename it.") from None
    return name


def _check_secret(name: str, path: str, shown: str, *, is_folder: bool) -> None:
    lower = name.lower()
    if (is_folder and lower in SECRET_FOLDERS) or any(fnmatch(lower, pattern) for pattern in SECRET_FILES):
        raise SecurityError(
            f"The skill in {shown} holds {path}, whose name says that it holds secrets.",
            code="skill_secret",
            hint="Models can read every file of a skill: move it out, or rename it if it holds none.",
        )


def _is_left_out(name: str, *, is_folder: bool) -> bool:
    lower = name.lower()
    return lower in LEFT_OUT_FOLDERS if is_folder else any(fnmatch(lower, pattern) for pattern in LEFT_OUT_FILES)


def _read(found: Traversable, shown: str, room: int) -> bytes:
    try:
        if isinstance(found, Path):
            if found.is_symlink():
                raise SecurityError(f"{shown} is a symlink.", code="skill_escape", hint="Put the real file there.")
            # Not after reading: a file may be larger than memory.
            size = found.stat().st_size
            if size > room:
                raise _over(shown, size)
        content = found.read_bytes()
    except OSError as error:
        raise invalid_skill(shown, 0, f"cannot be read: {error.strerror}") from None
    if len(content) > room:
        raise _over(shown, len(content))
    return content


def _over(shown: str, size: int) -> DefinitionError:
    folder, _, name = shown.rpartition("/")
    return too_large(shown, size) if name == FILE_NAME else _too_much(folder)


def _too_much(shown: str) -> DefinitionError:
    return invalid_skill(
        shown, 0, f"holds more than {MAX_FILES} files, {MAX_BYTES} bytes or {MAX_DEPTH} levels", "Make it smaller."
    )

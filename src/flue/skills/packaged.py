"""Where a packaged skill lies: below its project's root, or in an installed package."""

from __future__ import annotations

import os
import sys
from importlib.resources import files
from pathlib import Path, PurePosixPath

from flue.definitions.skill import Skill
from flue.definitions.skill_file import FILE_NAME
from flue.errors import DefinitionError, SecurityError
from flue.registrations import current_registrations
from flue.skills.folder import read_folder

_ROOT_MARKS = ("flue.toml", ".flue", "pyproject.toml", ".git")


def skill(path: str | os.PathLike[str], *, root: str | os.PathLike[str] | None = None) -> Skill:
    """Read the skill whose SKILL.md is at `path`, with all the files in its folder.

    A relative path counts from the file of the module that calls this. The folder must lie below `root`, by default
    that of the project being loaded; in a program of your own the nearest folder above the calling module that holds
    flue.toml, .flue, pyproject.toml or .git, else the module's own folder.

    Files that editors and tools leave behind are left out, with a warning. Raises `DefinitionError` (codes
    `invalid_skill`, `skill_not_found`) for a skill that is not in order, and `SecurityError` for a folder outside the
    root, symlinks (`skill_escape`) and files whose names say that they hold secrets (`skill_secret`).
    """
    here = _folder_of_caller(sys._getframe(1).f_globals.get("__file__"))
    top = Path(root).resolve() if root is not None else _project_root(here)
    given = Path(os.path.normpath(here / path))
    folder = given if given.name != FILE_NAME else given.parent
    if not folder.is_relative_to(top) and Path(path).is_absolute():
        # An absolute path may be spelled through a link above the root, as /tmp is on macOS.
        folder = folder.parent.resolve() / folder.name
    if not folder.is_relative_to(top):
        raise SecurityError(
            f"skill(): {os.fspath(path)!r} is {folder}, which lies outside {top}.",
            code="skill_escape",
            hint="Move it there, or pass root=… with the folder that holds both.",
        )
    place = folder.relative_to(top)
    at = top
    for part in place.parts:
        at /= part
        if at.is_symlink():
            raise SecurityError(
                f"skill(): {at} is a symlink.", code="skill_escape", hint="Put the skill's real folder there."
            )
    if not (folder / FILE_NAME).is_file():
        raise DefinitionError(
            f"skill(): there is no {folder / FILE_NAME}.",
            code="skill_not_found",
            hint=f"Relative paths count from {here}.",
        )
    return read_folder(folder, str(folder), place.as_posix())


def skill_from_package(package: str, path: str) -> Skill:
    """Read a skill that is part of an installed Python package; `path` is that of its folder inside the package.

    Works for packages in zip files, too. Raises what `skill` raises, and `DefinitionError` (code `skill_not_found`)
    when the package or the folder is missing.
    """
    inside = PurePosixPath(path)
    if inside.is_absolute() or ".." in inside.parts or "\\" in path:
        raise SecurityError(
            f"skill_from_package(): {path!r} is not inside the package.",
            code="skill_escape",
            hint="Give the folder's path relative to the package.",
        )
    if inside.name == FILE_NAME:
        inside = inside.parent
    try:
        folder = files(package).joinpath(*inside.parts)
    except ImportError as error:
        raise DefinitionError(
            f'skill_from_package(): the package "{package}" cannot be imported: {error}.',
            code="skill_not_found",
            hint="Install it, and give its import name.",
        ) from error
    if not inside.parts or not folder.joinpath(FILE_NAME).is_file():
        raise DefinitionError(
            f'skill_from_package(): the package "{package}" has no {inside / FILE_NAME}.',
            code="skill_not_found",
            hint="Check the path, and that the package ships its data files.",
        )
    return read_folder(folder, f"{package}/{inside}", f"package:{package}/{inside}")


def _folder_of_caller(file: str | None) -> Path:
    """Return the folder of a module; a notebook and the prompt have none and count from the working directory."""
    return Path(file).resolve().parent if file else Path.cwd().resolve()


def _project_root(here: Path) -> Path:
    for registrations in current_registrations().chain():
        if registrations.root and here.is_relative_to(root := Path(registrations.root).resolve()):
            return root
    for folder in (here, *here.parents):
        if any((folder / mark).exists() for mark in _ROOT_MARKS):
            return folder
    return here

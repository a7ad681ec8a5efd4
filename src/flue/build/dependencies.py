"""What a project asks for, and the programs that find it: uv and pip."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from flue.errors import ConfigError

_TIMEOUT = 600


def find_uv() -> str | None:
    """Return the uv to use: the one that runs this, the one of this environment, or any."""
    beside = Path(sys.executable).with_name("uv")
    return os.environ.get("UV") or (str(beside) if beside.is_file() else shutil.which("uv"))


def dependencies_of(project: Path) -> list[str] | Path:
    """Return the project's own requirements, or the file that lists them."""
    file, listed = project / "pyproject.toml", project / "requirements.txt"
    table = tomllib.loads(file.read_text(encoding="utf-8-sig")).get("project", {}) if file.is_file() else {}
    if "dependencies" not in table and listed.is_file():
        return listed
    return [str(requirement) for requirement in table.get("dependencies", [])]


def write_lines(path: Path, lines: Sequence[str]) -> Path:
    """Write a file of these lines and return its path."""
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


def run_resolver(command: Sequence[str], *, cwd: Path | None = None) -> str:
    """Run uv or pip and return what it prints. Raises `ConfigError` (`lock_failed`) that quotes it when it fails."""
    done = try_resolver(command, cwd=cwd)
    if done.returncode:
        raise lock_failed(done.stderr or done.stdout)
    return done.stdout


def try_resolver(command: Sequence[str], *, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run uv or pip, whatever comes of it. Raises `ConfigError` (`lock_failed`) when it cannot be run at all."""
    try:
        return subprocess.run(  # noqa: S603
            command, cwd=cwd, capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise lock_failed(str(error)) from error


def lock_failed(said: str) -> ConfigError:
    """Return the error for requirements that cannot be locked, with the end of what the resolver said, on one line."""
    text = " ".join(re.sub(r"[^\x20-\x7e]+", " ", said).split())
    return ConfigError(
        f"The requirements cannot be locked: {text[-600:] or 'no reason given'}",
        code="lock_failed",
        hint="Check the project's dependencies and the way to the package index.",
    )


def normalised(name: str) -> str:
    """Return a package's name as it is compared (packaging.python.org/specifications/name-normalization)."""
    return re.sub(r"[-_.]+", "-", name).lower()

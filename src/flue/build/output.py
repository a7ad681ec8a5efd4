"""Where a build goes: a folder that is replaced as a whole, and never one that holds anything else (BLD-03)."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from flue.errors import ConfigError
from flue.project.config import Config
from flue.project.data import DATA_FILE
from flue.project.layout import shown

MARK = ".flue-build"
_MARK_TEXT = "Written by flue build, and replaced as a whole by the next one.\n"


def check_output(config: Config) -> None:
    """Raise `ConfigError` (`output_not_ours`) unless the output folder is free, or an earlier build."""
    output = config.output
    if config.root.is_relative_to(output):
        raise _not_ours(config, "holds the project")
    if output.exists() and not output.is_dir():
        raise _not_ours(config, "is a file")
    if output.is_dir() and any(output.iterdir()) and not (output / MARK).is_file():
        raise _not_ours(config, "holds files that flue build did not write")
    data = next(output.rglob(DATA_FILE.parent.name), None)
    if data is not None:  # of a server that was started in the build
        raise _not_ours(config, f"holds conversations in {shown(data, config.root)}")


def write_output(config: Config, write: Callable[[Path], None]) -> None:
    """Have `write` fill a new folder, and put that in the place of the output folder when it is complete.

    Nothing changes when it raises. Raises `ConfigError`: as `check_output`, and `cannot_write`.
    """
    check_output(config)
    output = config.output
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as folder:
            fresh = Path(folder, "new")
            fresh.mkdir()
            write(fresh)
            (fresh / MARK).write_text(_MARK_TEXT, encoding="utf-8")
            with suppress(FileNotFoundError):
                output.rename(Path(folder, "old"))
            fresh.rename(output)
    except OSError as error:
        raise ConfigError(
            f"{shown(output, config.root)} cannot be written: {error.strerror or error}.",
            code="cannot_write",
            hint="Make room and check who may write there, or choose another place with --output.",
        ) from error


def earlier(config: Config, name: str) -> Path | None:
    """Return a file of the build before, None when there is none."""
    path = config.output / name
    return path if (config.output / MARK).is_file() and path.is_file() else None


def copy_file(source: Path, target: Path) -> None:
    """Copy a file's bytes; it can be run if the original can by its owner."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o755 if source.stat().st_mode & 0o100 else 0o644)


def _not_ours(config: Config, what: str) -> ConfigError:
    return ConfigError(
        f"The output folder {shown(config.output, config.root)} {what}.",
        code="output_not_ours",
        hint="Move that away, or choose another folder with --output, or `output` in flue.toml.",
    )

"""Environment files: `.env` beside the configuration, or exactly one file named with `--env`.

Dotenv syntax, read by python-dotenv: comments, `export`, quotes, several lines inside quotes. `${NAME}` is taken
literally: a secret may contain it. A variable that the shell sets, even to nothing, wins over the file.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path

from flue.errors import ConfigError


@dataclass(frozen=True, slots=True)
class EnvFile:
    """What an environment file says. `path` is None when there is no file; values never show in the repr."""

    path: Path | None
    values: Mapping[str, str] = field(repr=False)

    def over(self, shell: Mapping[str, str]) -> dict[str, str]:
        """Return the file's values overlaid by the shell's."""
        return {**self.values, **shell}

    def apply(self, environ: MutableMapping[str, str]) -> None:
        """Set the values that `environ` does not have: `os.environ` for a process that runs this project alone."""
        for name, value in self.values.items():
            environ.setdefault(name, value)


def load_env(directory: Path, named: Path | None = None) -> EnvFile:
    """Read `named`, else `.env` in `directory` if there is one.

    Raises `ConfigError`: `env_not_found` when `named` is missing, `invalid_env` with the line that cannot be read.
    """
    path = named if named is not None else directory / ".env"
    # Not is_file: a file that another program feeds (`--env <(…)`) is a pipe.
    if path.is_dir() or not path.exists():
        if named is None:
            return EnvFile(None, {})
        problem = "is a directory" if path.is_dir() else "does not exist"
        raise ConfigError(
            f"Environment file {named} {problem}.", code="env_not_found", hint="Check the path given to --env."
        )
    return EnvFile(path, _parse(path))


def _parse(path: Path) -> dict[str, str]:
    from dotenv.parser import parse_stream

    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text.", code="invalid_env", hint="Save it as UTF-8.") from error
    values: dict[str, str] = {}
    for binding in parse_stream(io.StringIO(text)):
        if binding.error or (binding.key is not None and binding.value is None):
            # Only the line's number: the line itself may hold a secret.
            raise ConfigError(
                f"{path}:{_first_line(binding.original.string, binding.original.line)}: not of the form NAME=value.",
                code="invalid_env",
                hint="Write NAME=value, with quotes round values that contain spaces, # or line breaks.",
            )
        if binding.key is not None and binding.value is not None:
            values[binding.key] = binding.value
    return values


def _first_line(statement: str, line: int) -> int:
    # python-dotenv counts the blank lines before a statement as part of it.
    blank = statement[: len(statement) - len(statement.lstrip())]
    return line + blank.count("\n")

"""Configuration: `flue.toml`, or `[tool.flue]` in pyproject.toml, under what the command line says.

Keys are `target`, `root` and `output`, and the tables `log` and `keep`, all optional. The file is looked for in
`--root` or the working directory, never further up. Paths in it are relative to it; paths on the command line to the
working directory.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from flue.engine.log_settings import LogSettings
from flue.engine.pruning import KeepFor
from flue.errors import ConfigError
from flue.project.keeping import read_keep, read_log

Target = Literal["server", "cloudflare"]
TARGETS: tuple[Target, ...] = ("server", "cloudflare")
_ALIASES = {"node": "server"}
_TEXTS = ("target", "root", "output")
_KEYS = (*_TEXTS, "log", "keep")


@dataclass(frozen=True, slots=True)
class Config:
    """A resolved configuration: absolute paths. `file` is where it was read, None when there is none.

    `log` and `keep` are for the server or the Worker: what the event log holds, and how long what has ended is kept.
    """

    target: Target
    root: Path
    output: Path
    file: Path | None = None
    log: LogSettings = field(default_factory=LogSettings)
    keep: KeepFor = field(default_factory=KeepFor)

    @property
    def env_directory(self) -> Path:
        """Return the directory whose `.env` belongs to this project: the configuration file's, else the root."""
        return self.file.parent if self.file else self.root


def parse_target(value: str) -> Target:
    """Return the target that `value` names; `node` means `server`. Raises `ConfigError` (`invalid_target`)."""
    name = _ALIASES.get(value, value)
    if name not in TARGETS:
        raise ConfigError(f'Invalid target: "{value}". Supported targets: {", ".join(TARGETS)}.', code="invalid_target")
    return name


def load_config(
    cwd: Path,
    *,
    config: str | Path | None = None,
    root: str | Path | None = None,
    target: str | None = None,
    output: str | Path | None = None,
) -> Config:
    """Resolve a configuration: arguments win over the file, the file over the defaults.

    `config` names the file instead of searching for it (`pyproject.toml`: its `[tool.flue]`). Raises `ConfigError`:
    `config_not_found`, `config_conflict` (flue.toml and [tool.flue] side by side), `invalid_config` (all that is wrong
    in one error), `invalid_target`.
    """
    cwd = cwd.resolve()
    chosen_root = _inside(cwd, root) if root is not None else None
    file, table = _named_file(_inside(cwd, config)) if config is not None else _search(chosen_root or cwd)
    log, keep = _check(file, table)
    if file is not None:
        chosen_root = chosen_root or _inside(file.parent, table.get("root", "."))
        if output is None and "output" in table:
            output = _inside(file.parent, table["output"])
    chosen_root = chosen_root or cwd
    chosen_target = parse_target(target if target is not None else table.get("target", "server"))
    return Config(chosen_target, chosen_root, _inside(cwd, output or chosen_root / "dist"), file, log, keep)


def find_config(directory: Path) -> Path | None:
    """Return the file that configures a project in `directory`: pyproject.toml if it has the table, else flue.toml."""
    own, shared = directory / "flue.toml", directory / "pyproject.toml"
    if shared.is_file() and _tool_table(shared) is not None:
        return shared
    return own if own.is_file() else None


def _inside(base: Path, path: str | Path) -> Path:
    return (base / Path(path).expanduser()).resolve()


def _search(directory: Path) -> tuple[Path | None, Mapping[str, Any]]:
    own, shared = directory / "flue.toml", directory / "pyproject.toml"
    table = _tool_table(shared) if shared.is_file() else None
    if own.is_file():
        if table is not None:
            raise ConfigError(
                f"Both {own} and [tool.flue] in {shared.name} configure this project.",
                code="config_conflict",
                hint="Keep one of them, or choose with --config PATH.",
            )
        return own, _read(own)
    return (shared, table) if table is not None else (None, {})


def _named_file(path: Path) -> tuple[Path, Mapping[str, Any]]:
    if not path.is_file():
        raise ConfigError(
            f"Config file {path} does not exist.", code="config_not_found", hint="Check the path given to --config."
        )
    if path.name != "pyproject.toml":
        return path, _read(path)
    table = _tool_table(path)
    if table is None:
        raise ConfigError(
            f"{path} has no [tool.flue] table.", code="config_not_found", hint="Add one, or name a flue.toml."
        )
    return path, table


def _tool_table(file: Path) -> Mapping[str, Any] | None:
    tool = _read(file).get("tool")
    table = tool.get("flue") if isinstance(tool, Mapping) else None
    if table is None or isinstance(table, Mapping):
        return table
    raise ConfigError(f"Invalid config in {file}: tool.flue must be a table.", hint="Write a [tool.flue] section.")


def _read(file: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not valid TOML: {error}.") from error


def _check(file: Path | None, table: Mapping[str, Any]) -> tuple[LogSettings, KeepFor]:
    problems = [f"unknown key `{key}`" for key in table if key not in _KEYS]
    problems += [
        f"`{key}` must be text that is not empty"
        for key in _TEXTS
        if key in table and not (isinstance(table[key], str) and table[key].strip())
    ]
    problems += _target_problem(table.get("target"))
    log, keep = read_log(table.get("log"), problems), read_keep(table.get("keep"), problems)
    if problems:
        raise ConfigError(f"Invalid config in {file}: {'; '.join(problems)}.", hint=f"Known keys: {', '.join(_KEYS)}.")
    return log, keep


def _target_problem(value: object) -> list[str]:
    if not isinstance(value, str) or not value.strip():
        return []
    try:
        parse_target(value)
    except ConfigError as error:
        return [error.message[0].lower() + error.message[1:].rstrip(".")]
    return []

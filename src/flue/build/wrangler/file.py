"""Reads what a user wrote for Cloudflare: the Wrangler file, `cloudflare.py`, `cloudflare.js`, `package.json`.

Nothing here is ever written to.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flue.build.wrangler.jsonc import JsoncError, read_jsonc
from flue.build.wrangler.own_exports import OwnExports, javascript_names, python_names
from flue.errors import ConfigError
from flue.project.layout import shown

WRANGLER_FILES = ("wrangler.jsonc", "wrangler.json", "wrangler.toml")
SANDBOX_PACKAGE = "@cloudflare/sandbox"
_TOML_PLACE = re.compile(r"\(at line (\d+), column (\d+)\)")


@dataclass(frozen=True, slots=True)
class WranglerFile:
    """A user's Wrangler file: its name, what it says as JSON data, and the ones beside it that are not read."""

    name: str
    document: Mapping[str, Any]
    ignored: tuple[str, ...] = ()


def read_wrangler_file(root: Path) -> WranglerFile | None:
    """Return the Wrangler file in `root`: wrangler.jsonc, else wrangler.json, else wrangler.toml; None without any.

    Raises `ConfigError` (`invalid_wrangler`) with file and line when it cannot be read.
    """
    names = [name for name in WRANGLER_FILES if (root / name).is_file()]
    if not names:
        return None
    name = names[0]
    text = _text(root / name, name)
    document = _toml(text, name) if name.endswith(".toml") else _jsonc(text, name)
    return WranglerFile(name, document, tuple(names[1:]))


def read_own_exports(source_root: Path, root: Path) -> OwnExports:
    """Return what the user's `cloudflare.py` and `cloudflare.js` (or `cloudflare.ts`) in the source root define.

    Raises `ConfigError`: `module_syntax` (cloudflare.py with its line), `invalid_wrangler` (both a .js and a .ts, or
    one whose `export *` hides what it exports).
    """
    python, opened = _python(source_root / "cloudflare.py", root)
    scripts = [path for path in (source_root / "cloudflare.js", source_root / "cloudflare.ts") if path.is_file()]
    if not scripts:
        return OwnExports(python, opened)
    file = shown(scripts[0], root)
    if len(scripts) > 1:
        raise _invalid(f"{file} and {scripts[1].name} are both there.", "Keep one of them.")
    names, hidden = javascript_names(_text(scripts[0], file))
    if hidden:
        raise _invalid(f'{file}: "export *" hides which classes it exports.', "List them: export { MySandbox } from …")
    return OwnExports(python, opened, names, file)


def has_sandbox_package(root: Path) -> bool:
    """Return whether a package.json of `root`, or of a folder above it, asks for `@cloudflare/sandbox`.

    Raises `ConfigError` (`invalid_wrangler`) for one that is not JSON.
    """
    root = root.resolve()
    files = [folder / "package.json" for folder in (root, *root.parents)]
    return any(SANDBOX_PACKAGE in _dependencies(file, root) for file in files if file.is_file())


def _dependencies(file: Path, root: Path) -> set[str]:
    name = shown(file, root)
    try:
        package = json.loads(_text(file, name))
    except json.JSONDecodeError as error:
        raise _invalid(f"{name}:{error.lineno}:{error.colno}: not valid JSON: {error.msg}.") from None
    if not isinstance(package, dict):
        return set()
    groups = [package.get(key) for key in ("dependencies", "devDependencies", "optionalDependencies")]
    return {name for group in groups if isinstance(group, dict) for name in group}


def _python(path: Path, root: Path) -> tuple[frozenset[str], bool]:
    if not path.is_file():
        return frozenset(), False
    file = shown(path, root)
    try:
        return python_names(_text(path, file))
    except (SyntaxError, ValueError) as error:
        where = f"{file}:{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else file
        message = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ConfigError(f"{where}: {type(error).__name__}: {message}.", code="module_syntax") from None


def _text(path: Path, name: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise _invalid(f"{name} is not UTF-8 text.", "Save it as UTF-8.") from None
    except OSError as error:
        raise _invalid(f"{name} cannot be read: {error.strerror}.", "Check its permissions.") from None


def _jsonc(text: str, name: str) -> Mapping[str, Any]:
    try:
        document = read_jsonc(text)
    except JsoncError as error:
        raise _invalid(f"{name}:{error.line}:{error.column}: {error.message}.") from None
    if not isinstance(document, dict):
        raise _invalid(f"{name}:1: must be an object, in braces.")
    return document


def _toml(text: str, name: str) -> Mapping[str, Any]:
    try:
        document: dict[str, Any] = _json_data(tomllib.loads(text), "")
    except tomllib.TOMLDecodeError as error:
        place = _TOML_PLACE.search(str(error))
        where = f"{place[1]}:{place[2]}" if place else str(text.count("\n") + 1)
        raise _invalid(f"{name}:{where}: not valid TOML: {str(error).partition(' (at ')[0]}.") from None
    except ValueError as error:
        raise _invalid(f"{name}: {error}.") from None
    return document


def _json_data(value: Any, path: str) -> Any:
    """Return TOML data as JSON data: a date becomes its text, as in `compatibility_date = 2026-09-08`."""
    if isinstance(value, dict):
        return {key: _json_data(item, f"{path}.{key}" if path else key) for key, item in value.items()}
    if isinstance(value, list):
        return [_json_data(item, f"{path}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{path} is {value}, which Wrangler has no way to write")
    return value


def _invalid(message: str, hint: str = "") -> ConfigError:
    return ConfigError(message, code="invalid_wrangler", hint=hint)

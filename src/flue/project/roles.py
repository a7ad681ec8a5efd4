"""Roles of a project: `roles/<name>.md` in the source root, instructions with optional frontmatter.

The fields are `name` (that of the file, or left out), `description`, `model` and `thinkingLevel`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flue.definitions.frontmatter import Frontmatter, FrontmatterError, Unreadable, Value, parse_frontmatter
from flue.definitions.role import Role
from flue.definitions.skill_file import MAX_FILE_BYTES
from flue.errors import ConfigError, DefinitionError
from flue.messages import THINKING_LEVELS
from flue.project.layout import Layout

_FIELDS = ("name", "description", "model", "thinkingLevel")


def read_roles(layout: Layout) -> dict[str, Role]:
    """Return the project's roles by name. Raises `ConfigError` (`invalid_role`) naming file and line."""
    files = sorted((layout.source_root / "roles").glob("*.md"))
    return {
        file.stem: _read(file, layout.shown(file)) for file in files if file.is_file() and not file.name.startswith("_")
    }


def _read(file: Path, shown: str) -> Role:
    data = file.read_bytes()
    if len(data) > MAX_FILE_BYTES:
        raise _invalid(shown, f"has {len(data)} bytes; {MAX_FILE_BYTES} are allowed")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _invalid(f"{shown}:{line}", "the text is not UTF-8", "Save the file as UTF-8.") from None
    try:
        front = parse_frontmatter(text) if text.startswith("---") else Frontmatter({}, {}, text, 1)
    except FrontmatterError as error:
        raise _invalid(f"{shown}:{error.line}", error.problem, error.hint) from None
    values = {key: _field(key, value, f"{shown}:{front.lines[key]}", file.stem) for key, value in front.values.items()}
    level: Any = values.get("thinkingLevel")
    try:
        return Role(
            name=file.stem,
            instructions=front.body.strip(),
            description=values.get("description"),
            model=values.get("model"),
            thinking_level=level,
        )
    except DefinitionError as error:
        raise _invalid(shown, error.message.rstrip("."), error.hint) from None


def _field(key: str, value: Value, place: str, name: str) -> str:
    if key not in _FIELDS:
        raise _invalid(place, f'"{key}" is no field of a role', f"Fields: {', '.join(_FIELDS)}.")
    if isinstance(value, Unreadable):
        raise _invalid(place, f'"{key}" {value.problem}')
    text = value.strip() if isinstance(value, str) else ""
    if not text:
        raise _invalid(place, f'"{key}" must be text that is not empty')
    if key == "name" and text != name:
        hint = f"Write name: {name}, or leave it out, or rename the file."
        raise _invalid(place, f'"name" is "{text}", but the file is named "{name}"', hint)
    if key == "thinkingLevel" and text not in THINKING_LEVELS:
        raise _invalid(place, f'"thinkingLevel" must be one of {", ".join(THINKING_LEVELS)}, got "{text}"')
    return text


def _invalid(place: str, problem: str, hint: str = "") -> ConfigError:
    return ConfigError(f"{place}: {problem}.", code="invalid_role", hint=hint)

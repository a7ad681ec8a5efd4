"""`SKILL.md`: its frontmatter, checked field by field, and the instructions after it.

The format is that of agentskills.io/specification.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from flue.definitions.frontmatter import Frontmatter, FrontmatterError, Unreadable, parse_frontmatter
from flue.errors import DefinitionError

FILE_NAME = "SKILL.md"
MAX_FILE_BYTES = 256 * 1024
"""A longer SKILL.md is refused: its instructions go into the conversation as a whole."""

MAX_NAME = 64
MAX_DESCRIPTION = 1024
MAX_COMPATIBILITY = 500
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*\Z")
_TOOL = re.compile(r"[^\s,(]+(?:\([^)]*\))?")


@dataclass(frozen=True, slots=True)
class SkillFile:
    """A SKILL.md that is in order. `instructions` is its text after the frontmatter, trimmed."""

    name: str
    description: str
    instructions: str
    license: str | None = None
    compatibility: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    allowed_tools: tuple[str, ...] = ()


def read_skill_file(data: bytes, path: str, directory: str) -> SkillFile:
    """Read the bytes of a SKILL.md that lies in a folder named `directory`; `path` is what errors call it.

    Raises `DefinitionError` (code `invalid_skill`) naming file and line.
    """
    if len(data) > MAX_FILE_BYTES:
        raise too_large(path, len(data))
    if b"\0" in data:
        raise invalid_skill(path, 0, "is a binary file, not text", "A skill is a Markdown file.")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise invalid_skill(path, line, "the text is not UTF-8", "Save the file as UTF-8.") from None
    try:
        return _Fields(path, parse_frontmatter(text)).skill_file(directory)
    except FrontmatterError as error:
        raise invalid_skill(path, error.line, error.problem, error.hint) from None


def check_skill_name(name: str) -> str | None:
    """Return what is wrong with a skill's name, None when nothing is."""
    if len(name) > MAX_NAME:
        return f"has {len(name)} characters; {MAX_NAME} are allowed"
    if not _NAME.match(name):
        return f"is {name!r}; only lower-case letters, digits and single hyphens between them are allowed"
    return None


def invalid_skill(path: str, line: int, problem: str, hint: str = "") -> DefinitionError:
    """Return the error for a SKILL.md; line 0 means the file as a whole."""
    place = f"{path}:{line}" if line else path
    return DefinitionError(f"{place}: {problem}.", code="invalid_skill", hint=hint)


def too_large(path: str, size: int) -> DefinitionError:
    """Return the error for a SKILL.md of too many bytes."""
    problem = f"has {size} bytes; a {FILE_NAME} may have {MAX_FILE_BYTES}"
    return invalid_skill(path, 0, problem, "Move details to other files of the skill.")


class _Fields:
    """Reads the fields of one file."""

    def __init__(self, path: str, frontmatter: Frontmatter) -> None:
        self._path = path
        self._frontmatter = frontmatter

    def skill_file(self, directory: str) -> SkillFile:
        name = self._name(directory)
        return SkillFile(
            name,
            self._required("description", MAX_DESCRIPTION),
            self._frontmatter.body.strip(),
            self._text("license"),
            self._text("compatibility", MAX_COMPATIBILITY),
            self._metadata(),
            tuple(_TOOL.findall(self._text("allowed-tools") or "")),
        )

    def _name(self, directory: str) -> str:
        name = self._required("name")
        if problem := check_skill_name(name):
            raise self._error("name", problem)
        if name != directory:
            hint = f"Write name: {directory}, or rename the folder." if check_skill_name(directory) is None else ""
            raise self._error("name", f'is "{name}", but the folder is named "{directory}"', hint)
        return name

    def _required(self, key: str, limit: int | None = None) -> str:
        if key not in self._frontmatter.values:
            raise invalid_skill(self._path, 1, f'the frontmatter has no "{key}"', f"Add {key}: … to it.")
        text = self._text(key, limit)
        if not text:
            raise self._error(key, "must not be empty")
        return text

    def _text(self, key: str, limit: int | None = None) -> str | None:
        value = self._frontmatter.values.get(key)
        if value is None:
            return None
        if isinstance(value, Unreadable):
            raise self._error(key, value.problem, line=value.line)
        if not isinstance(value, str):
            raise self._error(key, "must be text, not a map")
        text = value.strip()
        if limit is not None and len(text) > limit:
            raise self._error(key, f"has {len(text)} characters; {limit} are allowed")
        return text

    def _metadata(self) -> Mapping[str, str]:
        value = self._frontmatter.values.get("metadata", "")
        if isinstance(value, Unreadable):
            raise self._error("metadata", value.problem, line=value.line)
        if isinstance(value, str):
            if value:
                raise self._error("metadata", "must be a map of texts", "Write one indented line an entry: key: text.")
            return {}
        for key, item in value.items():
            if isinstance(item, Unreadable):
                raise self._error(f"metadata.{key}", item.problem, line=item.line)
        return {key: item for key, item in value.items() if isinstance(item, str)}

    def _error(self, key: str, problem: str, hint: str = "", *, line: int | None = None) -> DefinitionError:
        return invalid_skill(self._path, line or self._frontmatter.lines.get(key, 1), f'"{key}" {problem}', hint)

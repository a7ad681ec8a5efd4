"""Skills: instructions for one kind of work, which a model gets when it needs them.

Three kinds: a `Skill` carries its instructions and files with the program; a `WorkspaceSkill` was found in the
sandbox; a plain `SkillInfo` is a name and a description of one that lies, or will lie, there.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from flue.definitions.checks import check_text
from flue.definitions.skill_file import FILE_NAME, MAX_DESCRIPTION, MAX_FILE_BYTES, check_skill_name
from flue.errors import DefinitionError

LARGE_FILE_BYTES = 1024 * 1024
"""A resource above this size is named in a warning."""

_log = logging.getLogger("flue")


@dataclass(frozen=True, slots=True)
class SkillInfo:
    """A skill by name and description; the model reads `.agents/skills/<name>/SKILL.md` when it needs it."""

    name: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        check_text(self.name, "skill", "name")
        check_text(self.description, f'skill "{self.name}"', "description")


@dataclass(frozen=True, slots=True)
class WorkspaceSkill(SkillInfo):
    """A skill found in the sandbox. `path` is that of its SKILL.md, absolute."""

    path: str = ""


@dataclass(frozen=True, slots=True)
class Skill(SkillInfo):
    """A skill that comes with the program. Made by `skill`, `skill_from_package` or `define_skill`.

    `instructions` is what the model is to do; `resources` are further files by path relative to the skill, which the
    model can look at with its `read` tool; `source` is the whole SKILL.md; `id` is the same in every process.
    """

    instructions: str = ""
    resources: Mapping[str, bytes] = field(default_factory=dict, repr=False, hash=False)
    source: bytes = field(default=b"", repr=False)
    id: str = ""

    def __post_init__(self) -> None:
        SkillInfo.__post_init__(self)
        object.__setattr__(self, "resources", MappingProxyType(dict(sorted(self.resources.items()))))


def define_skill(
    *, name: str, description: str, instructions: str, resources: Mapping[str, str | bytes] | None = None
) -> Skill:
    """Make a skill in code; `resources` maps relative paths to text or bytes.

    Raises `DefinitionError` for a name or a description that a SKILL.md could not have either, empty instructions, and
    paths that are not inside the skill.
    """
    owner = f'skill "{name}"'
    check_text(name, "skill", "name")
    if problem := check_skill_name(name):
        raise DefinitionError(f"skill: name {problem}.")
    check_text(description, owner, "description")
    if len(description) > MAX_DESCRIPTION:
        raise DefinitionError(f"{owner}: description has {len(description)} characters; {MAX_DESCRIPTION} are allowed.")
    text = check_text(instructions, owner, "instructions").strip()
    head = f"---\nname: {name}\ndescription: {json.dumps(description, ensure_ascii=False)}\n---\n\n"
    source = _encoded(f"{head}{text}\n", owner, "instructions")
    if len(source) > MAX_FILE_BYTES:
        raise DefinitionError(
            f"{owner}: instructions may have {MAX_FILE_BYTES} bytes, not {len(source)}.",
            hint="Move details to resources.",
        )
    files = {_checked_path(path, owner): _content(content, owner, path) for path, content in (resources or {}).items()}
    warn_of_large_files(name, files)
    return Skill(name, description, text, files, source, skill_id(name, f"inline:{name}"))


def skill_id(name: str, place: str) -> str:
    """Return the id of a skill: `place` says where it comes from, the same on every machine."""
    return f"skill:{name}:{hashlib.sha256(place.encode()).hexdigest()[:16]}"


def warn_of_large_files(name: str, files: Mapping[str, bytes]) -> None:
    """Log a warning that names resources over `LARGE_FILE_BYTES`."""
    large = [f"{path} ({len(content)} bytes)" for path, content in files.items() if len(content) > LARGE_FILE_BYTES]
    if large:
        _log.warning('Skill "%s" has large files, which stay in memory: %s', name, ", ".join(large))


def _checked_path(path: object, owner: str) -> str:
    if not isinstance(path, str) or "\0" in path or "\\" in path:
        raise DefinitionError(f"{owner}: {path!r} cannot be the path of a resource.")
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise DefinitionError(
            f"{owner}: the resource {path!r} is not inside the skill.", hint='Use a plain relative path: "data/x.csv".'
        )
    if path == FILE_NAME:
        raise DefinitionError(f"{owner}: a resource cannot be named {FILE_NAME}; that file holds the instructions.")
    return path


def _content(content: object, owner: str, path: str) -> bytes:
    if isinstance(content, str):
        return _encoded(content, owner, f"the resource {path!r}")
    if isinstance(content, bytes | bytearray | memoryview):
        return bytes(content)
    raise DefinitionError(f"{owner}: the resource {path!r} must be text or bytes, got {type(content).__name__}.")


def _encoded(text: str, owner: str, what: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise DefinitionError(f"{owner}: {what} is not valid Unicode text.") from None

"""The files of packaged skills, at virtual paths that only the `read` tool knows."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from urllib.parse import quote, unquote

from flue.definitions.skill import Skill
from flue.definitions.skill_file import FILE_NAME
from flue.definitions.tool import Tool, ToolContext
from flue.harness.tools.files import decode_text, image_type
from flue.harness.tools.read import show_file
from flue.messages import Json

ROOT = "/.flue/packaged-skills/"


class SkillFiles:
    """Packaged skills by id. A skill passed to a call is added when it comes."""

    def __init__(self, skills: Iterable[Skill] = ()) -> None:
        self._by_id = {skill.id: skill for skill in skills}

    def add(self, skill: Skill) -> None:
        """Make a skill's files readable."""
        self._by_id[skill.id] = skill

    def find(self, path: object) -> bytes | None:
        """Return the file at a virtual path; None for every other path, directories included."""
        if not isinstance(path, str) or not path.startswith(ROOT):
            return None
        # Models also write the id as it is, without the escapes.
        encoded, _, name = path.removeprefix(ROOT).partition("/")
        skill = self._by_id.get(unquote(encoded))
        if skill is None:
            return None
        return skill.source if name == FILE_NAME else skill.resources.get(name)


def virtual_path(skill: Skill, name: str) -> str:
    """Return the path under which `read` shows a file of a skill."""
    return f"{ROOT}{quote(skill.id, safe='')}/{name}"


def with_skill_files(tools: Iterable[Tool], files: SkillFiles) -> tuple[Tool, ...]:
    """Return the tools, with a `read` that also finds the files of skills."""
    return tuple(_with_files(tool, files) if tool.name == "read" else tool for tool in tools)


def _with_files(read: Tool, files: SkillFiles) -> Tool:
    async def execute(arguments: Json, context: ToolContext) -> object:
        path = arguments.get("path")
        data = files.find(path)
        if data is None:
            return await read.run(arguments, context)
        if image_type(data) is None and decode_text(data) is None:
            data = base64.encodebytes(data)
        return show_file(str(path), data, arguments)

    return read.with_execute(execute)

"""Skills in the sandbox: `.agents/skills/<name>/SKILL.md` below the working directory."""

from __future__ import annotations

import asyncio

from flue.definitions.skill import WorkspaceSkill
from flue.definitions.skill_file import FILE_NAME, MAX_FILE_BYTES, SkillFile, invalid_skill, read_skill_file, too_large
from flue.errors import DefinitionError, UsageError
from flue.harness.env import SessionEnv
from flue.harness.tools.files import load_file

DIRECTORY = ".agents/skills"
MAX_SKILLS = 256
"""More folders in `.agents/skills` are refused: every skill takes a line of the system prompt."""

_AT_ONCE = 8


async def find_skills(env: SessionEnv) -> tuple[WorkspaceSkill, ...]:
    """Return the skills of the working directory, by name.

    Raises `DefinitionError` (code `invalid_skill`), with file and line, for the first SKILL.md that is not in order.
    """
    try:
        names = await env.readdir(DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return ()
    if len(names) > MAX_SKILLS:
        problem = f"holds {len(names)} entries; up to {MAX_SKILLS} skills are looked at"
        raise invalid_skill(env.resolve_path(DIRECTORY), 0, problem, "Move those that are not needed elsewhere.")
    # A sandbox may be far away: some are read at a time. Failures are values, so that the first by name is raised.
    gate = asyncio.Semaphore(_AT_ONCE)

    async def read(name: str) -> WorkspaceSkill | DefinitionError | None:
        async with gate:
            try:
                return await find_skill(env, name)
            except DefinitionError as error:
                return error

    skills: list[WorkspaceSkill] = []
    for found in await asyncio.gather(*map(read, sorted(names))):
        if isinstance(found, DefinitionError):
            raise found
        if found is not None:
            skills.append(found)
    return tuple(skills)


async def find_skill(env: SessionEnv, name: str) -> WorkspaceSkill | None:
    """Return one skill as it is in the sandbox now; None where there is no such SKILL.md. Raises `DefinitionError`."""
    path = skill_path(env, name)
    try:
        file = await read_skill(env, path, name)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return WorkspaceSkill(file.name, file.description, path)


async def read_skill(env: SessionEnv, path: str, name: str) -> SkillFile:
    """Return the checked SKILL.md at `path`.

    Raises `DefinitionError` when it is not in order, `FileNotFoundError` or `NotADirectoryError` when it is missing.
    """
    try:
        data = await load_file(env, path, limit=MAX_FILE_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except IsADirectoryError:
        raise invalid_skill(path, 0, "is a directory", f"{FILE_NAME} must be a file.") from None
    except OSError as error:
        raise invalid_skill(path, 0, f"cannot be read: {error.strerror or error}") from error
    except UsageError as error:
        size = (await env.stat(path)).size
        if size > MAX_FILE_BYTES:
            raise too_large(path, size) from None
        raise invalid_skill(path, 0, f"cannot be read: {error.message}") from None
    return read_skill_file(data, path, name)


def skill_path(env: SessionEnv, name: str) -> str:
    """Return the absolute path of a workspace skill's SKILL.md."""
    return env.resolve_path(f"{DIRECTORY}/{name}/{FILE_NAME}")

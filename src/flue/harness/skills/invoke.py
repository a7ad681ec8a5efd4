"""`session.skill`: one skill as one prompt."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flue.definitions.skill import Skill, SkillInfo, WorkspaceSkill
from flue.definitions.skill_file import check_skill_name
from flue.errors import DefinitionError, SecurityError, UsageError
from flue.events import Scope
from flue.harness.env import SessionEnv
from flue.harness.prompting import CallOptions, run_prompt
from flue.harness.responses import PromptResponse, ResultResponse
from flue.harness.results import ResultType
from flue.harness.setup import SessionSetup
from flue.harness.skills.wording import task_text
from flue.harness.skills.workspace import DIRECTORY, find_skill, skill_path

if TYPE_CHECKING:
    from flue.harness.session import Session


async def run_skill(
    session: Session,
    scope: Scope,
    skill: str | SkillInfo,
    args: Mapping[str, Any] | None,
    *,
    wanted: ResultType | None,
    options: CallOptions,
) -> PromptResponse | ResultResponse[Any]:
    """Run a skill and return the answer. Raises what `Session.skill` says."""
    text = await skill_text(session.setup, skill, args)
    return await run_prompt(session, scope, text, wanted=wanted, options=options, source="skill")


def check_skill_arguments(skill: object, args: object) -> None:
    """Raise `UsageError` unless these can be the arguments of `session.skill`."""
    if not isinstance(skill, SkillInfo) and not (isinstance(skill, str) and skill.strip()):
        raise UsageError(
            f"skill() needs a name, a path or a Skill, got {skill!r}.",
            code="invalid_skill_arguments",
            hint="Names are those of the agent's skills and of .agents/skills in its workspace.",
        )
    if args is None:
        return
    if not isinstance(args, Mapping):
        raise UsageError(f"skill(): args must be a mapping, got {type(args).__name__}.", code="invalid_skill_arguments")
    try:
        json.dumps(args)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"skill(): args have no JSON form: {error}.",
            code="invalid_skill_arguments",
            hint="Pass text, numbers, true and false, lists and mappings of these.",
        ) from None


async def skill_text(setup: SessionSetup, skill: str | SkillInfo, args: Mapping[str, Any] | None) -> str:
    """Return the message that asks for a skill, given by its name, its path below `.agents/skills`, or itself."""
    if isinstance(skill, str):
        known = setup.skills.get(skill)
        if known is None and is_path(skill):
            path = await _skill_file(setup.env, skill)
            return task_text(f"Read the skill file {path} and do what it says.", None, args)
        skill = known or await _found_now(setup, skill)
    if isinstance(skill, Skill):
        setup.skills.files.add(skill)
        return task_text(f'Use the skill "{skill.name}".', skill, args)
    path = skill.path if isinstance(skill, WorkspaceSkill) else skill_path(setup.env, skill.name)
    return task_text(f'Use the skill "{skill.name}": read {path} and do what it says.', None, args)


def is_path(skill: str) -> bool:
    """Say whether a text is the path of a skill file and no name."""
    return "/" in skill or skill.endswith((".md", ".markdown"))


async def _found_now(setup: SessionSetup, name: str) -> WorkspaceSkill:
    """Return a skill that was written into the workspace after the agent had looked around."""
    found = await find_skill(setup.env, name) if check_skill_name(name) is None else None
    if found is not None:
        return found
    raise DefinitionError(
        f'Skill "{name}" is not known. Available: {setup.skills.names}.',
        code="unknown_skill",
        hint=f"Add it to the agent's skills, or write {setup.env.cwd.rstrip('/')}/{DIRECTORY}/<name>/SKILL.md.",
    )


async def _skill_file(env: SessionEnv, path: str) -> str:
    root = env.resolve_path(DIRECTORY)
    resolved = env.resolve_path(posixpath.join(root, path))
    if not resolved.startswith(f"{root}/"):
        raise SecurityError(
            f"skill(): {path!r} leads out of {root}.", code="skill_escape", hint="Name a file below that directory."
        )
    try:
        stat = await env.stat(resolved)
    except OSError:
        stat = None
    if stat is None or stat.is_directory:
        raise DefinitionError(
            f"There is no skill file {resolved}.", code="skill_not_found", hint=f"Paths count from {root}."
        )
    return resolved

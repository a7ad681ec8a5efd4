"""The `activate_skill` tool: the model gets a skill's instructions when its work calls for them."""

from __future__ import annotations

from flue.definitions.skill import Skill, SkillInfo, WorkspaceSkill
from flue.definitions.tool import Tool, ToolContext, ToolResult
from flue.errors import UsageError
from flue.harness.env import SessionEnv
from flue.harness.history import History
from flue.harness.setup import SessionSetup
from flue.harness.skills.wording import instructions_text, tagged_instructions
from flue.harness.skills.workspace import read_skill, skill_path
from flue.messages import Json, ToolResultMessage

NAME = "activate_skill"
_DESCRIPTION = (
    "Get the instructions of one of the skills that the system prompt lists. Call it before you begin work that the "
    "skill is for."
)


def skill_tools(setup: SessionSetup, history: History) -> tuple[Tool, ...]:
    """Return `activate_skill` for a session that has skills, else nothing."""
    if not setup.skills:
        return ()

    async def execute(arguments: Json, context: ToolContext) -> ToolResult:
        name = arguments["name"]
        skill = setup.skills.get(name)
        if skill is None:
            raise UsageError(f'There is no skill "{name}". Skills: {setup.skills.names}.', code="unknown_skill")
        if _is_active(history, name):
            return ToolResult.from_text(
                f'The skill "{name}" is already active: its instructions stand further up in this conversation.',
                {"skill": name, "active": True},
            )
        text = await _instructions(setup.env, skill)
        return ToolResult.from_text(f'The skill "{name}" is active now.\n\n{text}', {"skill": name})

    parameters: Json = {
        "type": "object",
        "properties": {"name": {"type": "string", "description": "Name of the skill, as it is listed"}},
        "required": ["name"],
    }
    return (Tool(name=NAME, description=_DESCRIPTION, parameters=parameters, execute=execute),)


async def _instructions(env: SessionEnv, skill: SkillInfo) -> str:
    if isinstance(skill, Skill):
        return instructions_text(skill)
    # As it is now: the workspace belongs to the agent, which may have worked on the skill.
    path = skill.path if isinstance(skill, WorkspaceSkill) else skill_path(env, skill.name)
    file = await read_skill(env, path, skill.name)
    text = tagged_instructions(file.instructions)
    return f"{text}\n\nPaths in the instructions count from {path.rpartition('/')[0]}."


def _is_active(history: History, name: str) -> bool:
    """Say whether the model still sees the instructions; compaction takes them away."""
    return any(
        isinstance(message, ToolResultMessage)
        and message.tool_name == NAME
        and not message.is_error
        and message.details == {"skill": name}
        for message in history.transcript
    )

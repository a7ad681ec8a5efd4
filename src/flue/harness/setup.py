"""What a session is set up with: its profile made concrete in one environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flue.definitions.profile import AgentProfile, ModelChoice, check_unique
from flue.definitions.tool import Tool
from flue.errors import DefinitionError, ModelSetupError
from flue.harness.env import SessionEnv
from flue.harness.prompt import compose, date_text, discover
from flue.harness.runtime import Runtime
from flue.harness.skills.catalogue import Catalogue
from flue.harness.skills.files import with_skill_files
from flue.harness.tools import BUILTIN_TOOL_NAMES
from flue.messages import ThinkingLevel
from flue.ports import Model
from flue.registrations import using_registrations

DEFAULT_THINKING: ThinkingLevel = "medium"


@dataclass(frozen=True, slots=True)
class SessionSetup:
    """A profile in an environment: what every call of a session starts from.

    `base_tools` are the file and shell tools; `profile.tools` come after them. `date` is the day that `system` names.
    """

    profile: AgentProfile
    env: SessionEnv
    model: Model | None
    system: str
    base_tools: tuple[Tool, ...]
    skills: Catalogue
    date: str

    @property
    def thinking(self) -> ThinkingLevel:
        """Return the agent's thinking level."""
        return self.profile.thinking_level or DEFAULT_THINKING

    @property
    def offers_task(self) -> bool:
        """Say whether the model gets the `task` tool."""
        choice = self.profile.task_tool or "auto"
        return choice == "always" or (choice == "auto" and bool(self.profile.subagents))

    def subagent(self, name: str) -> AgentProfile:
        """Return a declared subagent. Raises `DefinitionError` naming those there are."""
        for profile in self.profile.subagents:
            if profile.name == name:
                return profile
        names = ", ".join(str(profile.name) for profile in self.profile.subagents) or "(none)"
        raise DefinitionError(f'Subagent "{name}" is not declared. Available: {names}.', code="unknown_subagent")


async def prepare(
    profile: AgentProfile,
    env: SessionEnv,
    runtime: Runtime,
    variables: Mapping[str, Any],
    base_tools: Sequence[Tool],
) -> SessionSetup:
    """Look around in the environment, resolve the model and compose the system prompt.

    Raises `ModelSetupError` for a model that cannot be used, `DefinitionError` for tools or skills that clash and for
    a SKILL.md in the workspace that is not in order.
    """
    model = resolve_model(profile.model, runtime, variables)
    workspace = await discover(env)
    skills = Catalogue(profile.skills, workspace.skills)
    date = date_text(runtime.clock.now_ms())
    system = compose(profile.instructions, workspace, skills, date)
    setup = SessionSetup(profile, env, model, system, with_skill_files(base_tools, skills.files), skills, date)
    check_custom_tools(profile.tools, setup)
    return setup


def for_subagent(parent: AgentProfile, child: AgentProfile | None) -> AgentProfile:
    """Return the profile of a task: the subagent's own fields, else the parent's; subagents are never inherited."""
    if child is None:
        return parent
    return replace(
        parent,
        name=child.name,
        description=child.description,
        instructions=child.instructions if child.instructions is not None else parent.instructions,
        skills=child.skills or parent.skills,
        tools=child.tools or parent.tools,
        subagents=child.subagents,
        model=child.model if child.model is not None else parent.model,
        thinking_level=child.thinking_level or parent.thinking_level,
        compaction=child.compaction if child.compaction is not None else parent.compaction,
        task_tool=child.task_tool or parent.task_tool,
    )


def resolve_model(choice: ModelChoice | None, runtime: Runtime, variables: Mapping[str, Any]) -> Model | None:
    """Return the model object for a choice; None when the choice is left to each call."""
    if choice is None or choice is False:
        return None
    if not isinstance(choice, str):
        return choice
    # The caller may run in a task that was started outside the context, without the project's registrations.
    with using_registrations(runtime.registrations):
        return runtime.models.resolve(choice, variables)


def require_model(model: Model | None, kind: str) -> Model:
    """Return the model, or raise `ModelSetupError` saying how to pass one."""
    if model is None:
        raise ModelSetupError(
            f"No model configured for this {kind}() call.",
            code="no_model",
            hint="Pass model='provider/model-id' to the call or to create_agent.",
        )
    return model


def check_custom_tools(tools: Sequence[Tool], setup: SessionSetup) -> None:
    """Raise when custom tools clash with each other or with built-in ones."""
    check_unique(tools, "agent", "tools")
    reserved = {tool.name for tool in setup.base_tools} | {"task", "activate_skill", "finish", "give_up"}
    for tool in tools:
        if tool.name in reserved:
            kind = "a built-in tool" if tool.name in BUILTIN_TOOL_NAMES else "a tool of the sandbox or the harness"
            raise DefinitionError(
                f'Custom tool "{tool.name}" conflicts with {kind}.', code="duplicate_tool", hint="Give it another name."
            )

"""What the model is told when a skill is to be used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from flue.definitions.skill import Skill
from flue.harness.skills.files import virtual_path

NOTE = (
    "A skill is a set of instructions for one kind of work. Here stand only names and descriptions. Before you begin "
    "work that a description fits, call `activate_skill` with the name to get the instructions, and follow them."
)
RESOURCES = "More files belong to this skill. They are not loaded yet; read those that the work needs:"


def task_text(order: str, skill: Skill | None, args: Mapping[str, Any] | None) -> str:
    """Return a user message: the order, the instructions of a packaged skill, and the arguments."""
    parts = [order]
    if skill is not None:
        parts.append(instructions_text(skill))
    if args:
        parts.append(f"Arguments:\n{json.dumps(args, indent=2, ensure_ascii=False)}")
    return "\n\n".join(parts)


def instructions_text(skill: Skill) -> str:
    """Return a packaged skill's instructions, and where its other files are."""
    text = tagged_instructions(skill.instructions)
    if skill.resources:
        files = "\n".join(f"- {name} → read {virtual_path(skill, name)}" for name in skill.resources)
        text += f"\n\n{RESOURCES}\n\n<skill_resources>\n{files}\n</skill_resources>"
    return text


def tagged_instructions(instructions: str) -> str:
    """Return instructions between their tags."""
    return f"<skill_instructions>\n{instructions}\n</skill_instructions>"

"""The system prompt: who the agent is, what it knows of its workspace, what day it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from flue.definitions.profile import SkillInfo
from flue.errors import FlueError
from flue.harness.env import SessionEnv

PREAMBLE = (
    "You work on your own, without a person watching. Nobody can answer questions or confirm anything while you work, "
    "so never ask and never wait: decide by yourself, act with the tools you have, and finish the task."
)
SKILLS_NOTE = (
    "Skills are instructions for particular kinds of work. Only their names and descriptions stand here; before you do "
    "work that one of them describes, read `.agents/skills/<name>/SKILL.md`."
)
CONTEXT_FILES = ("AGENTS.md", "CLAUDE.md")


@dataclass(frozen=True, slots=True)
class Workspace:
    """What was found in the working directory when the agent arrived."""

    cwd: str
    context: str = ""
    listing: tuple[str, ...] = ()


async def discover(env: SessionEnv) -> Workspace:
    """Read AGENTS.md, CLAUDE.md and the listing of the working directory; what is not there is left out."""
    try:
        names = tuple(await env.readdir("."))
    except (OSError, FlueError):
        return Workspace(env.cwd)
    texts = [(await env.read_file(name)).strip() for name in CONTEXT_FILES if name in names]
    return Workspace(env.cwd, "\n\n".join(text for text in texts if text), names)


def compose(instructions: str | None, workspace: Workspace, skills: Sequence[SkillInfo], now_ms: int) -> str:
    """Return the system prompt."""
    parts = [PREAMBLE]
    if instructions:
        parts += ["", instructions]
    if workspace.context:
        parts += ["", workspace.context]
    if skills:
        parts += ["", "## Available Skills", "", SKILLS_NOTE, ""]
        parts += [f"- **{skill.name}** — {skill.description}" for skill in skills]
    today = datetime.fromtimestamp(now_ms / 1000, UTC)
    # strftime("%a") follows the process's locale; the prompt must not.
    weekday = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[today.weekday()]
    month = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"][today.month - 1]
    parts += ["", f"Date: {weekday}, {month} {today.day}, {today.year}", f"Working directory: {workspace.cwd}"]
    if workspace.listing:
        parts += ["", "Directory structure:", *workspace.listing]
    return "\n".join(parts)

"""The system prompt: who the agent is, what it knows of its workspace, what day it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from flue.definitions.skill import SkillInfo, WorkspaceSkill
from flue.errors import FlueError
from flue.harness.env import SessionEnv
from flue.harness.skills.wording import NOTE
from flue.harness.skills.workspace import find_skills
from flue.harness.tools.files import load_file
from flue.harness.tools.truncate import cut_bytes

PREAMBLE = (
    "You work on your own, without a person watching. Nobody can answer questions or confirm anything while you work, "
    "so never ask and never wait: decide by yourself, act with the tools you have, and finish the task."
)
CONTEXT_FILES = ("AGENTS.md", "CLAUDE.md")
MAX_CONTEXT_BYTES = 100 * 1024
"""Bytes of one context file that go into the system prompt; of a longer one the beginning."""

MAX_LISTED = 500
"""Names of the working directory that are listed."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """What was found in the working directory when the agent arrived."""

    cwd: str
    context: str = ""
    listing: tuple[str, ...] = ()
    skills: tuple[WorkspaceSkill, ...] = ()


async def discover(env: SessionEnv) -> Workspace:
    """Read AGENTS.md, CLAUDE.md, the skills and the names in the working directory; what is not there is left out.

    An empty directory costs one look at it. Raises `DefinitionError` for a SKILL.md that is not in order.
    """
    try:
        names = tuple(await env.readdir("."))
    except (OSError, FlueError):
        return Workspace(env.cwd)
    # One of the two is often a link to the other, or a copy.
    texts = dict.fromkeys([await _context(env, name) for name in CONTEXT_FILES if name in names])
    skills = await find_skills(env) if ".agents" in names else ()
    return Workspace(env.cwd, "\n\n".join(text for text in texts if text), names, skills)


def compose(instructions: str | None, workspace: Workspace, skills: Iterable[SkillInfo], date: str) -> str:
    """Return the system prompt."""
    parts = [PREAMBLE]
    if instructions:
        parts += ["", instructions]
    if workspace.context:
        parts += ["", workspace.context]
    if listed := [f"- **{skill.name}** — {_one_line(skill.description)}" for skill in skills]:
        parts += ["", "## Available Skills", "", NOTE, "", *listed]
    parts += ["", f"Date: {date}", f"Working directory: {workspace.cwd}"]
    if workspace.listing:
        parts += ["", "Directory structure:", *map(_one_line, workspace.listing[:MAX_LISTED])]
        if len(workspace.listing) > MAX_LISTED:
            parts.append(f"… and {len(workspace.listing) - MAX_LISTED} more")
    return "\n".join(parts)


def date_text(now_ms: int) -> str:
    """Return a day, in UTC, as the model is told it: `Fri, Nov 20, 2026`."""
    day = datetime.fromtimestamp(now_ms / 1000, UTC)
    # strftime("%a") follows the process's locale; the prompt must not.
    weekday = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[day.weekday()]
    month = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")[day.month - 1]
    return f"{weekday}, {month} {day.day}, {day.year}"


async def _context(env: SessionEnv, name: str) -> str:
    try:
        data = await load_file(env, env.resolve_path(name))
    except (FileNotFoundError, IsADirectoryError):
        return ""
    text = data.decode("utf-8", errors="replace").removeprefix("\ufeff").strip()
    shown = cut_bytes(text, MAX_CONTEXT_BYTES)
    return text if shown == text else f"{shown}\n\n[{name} goes on; read the file for the rest.]"


def _one_line(text: str) -> str:
    """Return text in which a name or a description cannot begin a line of its own."""
    return " ".join(text.split("\n")) if "\n" in text else text

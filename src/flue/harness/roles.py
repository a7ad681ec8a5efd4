"""Roles at work: a call's own wins over its session's, that over the agent's."""

from __future__ import annotations

from collections.abc import Mapping

from flue.definitions.role import Role
from flue.errors import UsageError


def find_role(roles: Mapping[str, Role], name: str | None) -> Role | None:
    """Return the role of that name, None for None. Raises `UsageError` (`unknown_role`) naming those there are."""
    if name is None:
        return None
    if name in roles:
        return roles[name]
    raise UsageError(
        f'Role "{name}" not registered. Available roles: {", ".join(sorted(roles)) or "(none)"}.',
        code="unknown_role",
        hint="A project's roles are the files roles/<name>.md; open_context takes them as roles=.",
    )


def with_role(system: str, role: Role | None) -> str:
    """Return the system prompt for a call with this role. It stands last: what is before stays in the prompt cache."""
    return system if role is None else f"{system}\n\n## Your role: {role.name}\n\n{role.instructions}"

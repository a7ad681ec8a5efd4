"""The skills of a session: those of its definition first, then those of its workspace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from flue.definitions.skill import Skill, SkillInfo, WorkspaceSkill
from flue.errors import DefinitionError
from flue.harness.skills.files import SkillFiles


class Catalogue:
    """Skills by name. `files` serves those that carry files.

    Raises `DefinitionError` (code `duplicate_skill`) when a definition and the workspace use one name.
    """

    def __init__(self, defined: Iterable[SkillInfo] = (), found: Iterable[WorkspaceSkill] = ()) -> None:
        self._by_name: dict[str, SkillInfo] = {skill.name: skill for skill in defined}
        for skill in found:
            if skill.name in self._by_name:
                raise DefinitionError(
                    f'Skill "{skill.name}" is defined by the agent and also lies in the workspace, at {skill.path}.',
                    code="duplicate_skill",
                    hint="Remove one of the two, or rename it.",
                )
            self._by_name[skill.name] = skill
        self.files = SkillFiles(skill for skill in self if isinstance(skill, Skill))

    def get(self, name: str) -> SkillInfo | None:
        """Return a skill, or None."""
        return self._by_name.get(name)

    @property
    def names(self) -> str:
        """Return the names for a message."""
        return ", ".join(self._by_name) or "(none)"

    def __iter__(self) -> Iterator[SkillInfo]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

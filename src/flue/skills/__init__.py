"""Skills from disk: `skill()` reads one beside the module that names it, `skill_from_package()` one that is installed.

Both read it when they are called and return a `flue.Skill`, which is plain data from then on.
"""

from __future__ import annotations

from flue.skills.packaged import skill, skill_from_package

__all__ = ["skill", "skill_from_package"]

"""Thinking levels: what a model supports, what it calls them, how many tokens they may take."""

from __future__ import annotations

from flue.messages import THINKING_LEVELS, ThinkingLevel
from flue.models.compat import Compat
from flue.ports import ModelInfo

# Tokens for reasoning where a protocol wants a number. `xhigh` only exists where a model names it itself.
BUDGETS: dict[ThinkingLevel, int] = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 16384}


def supported_levels(info: ModelInfo, compat: Compat) -> tuple[ThinkingLevel, ...]:
    """Return the levels a model can be asked for, in rising order.

    Without word from the catalogue these are `off` to `high`; `xhigh` needs a name of the model's own, and a level
    that the model maps to None is excluded.
    """
    if not info.reasoning:
        return ("off",)
    named = dict(compat.thinking_levels)
    return tuple(level for level in THINKING_LEVELS if named.get(level, None if level == "xhigh" else level))


def clamp_level(info: ModelInfo, compat: Compat, level: ThinkingLevel) -> ThinkingLevel:
    """Return the level itself when the model supports it, else the nearest higher one, else the nearest lower one."""
    levels = supported_levels(info, compat)
    if level in levels:
        return level
    wanted = THINKING_LEVELS.index(level)
    higher = [one for one in levels if THINKING_LEVELS.index(one) > wanted]
    return higher[0] if higher else levels[-1] if levels else "off"


def level_name(compat: Compat, level: ThinkingLevel) -> str:
    """Return what the model calls a supported level; by default the level's own name."""
    return dict(compat.thinking_levels).get(level) or level

"""Durations as people write them."""

from __future__ import annotations

import re

from flue.errors import DefinitionError

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(value: object) -> float:
    """Return a duration in seconds: a number of them, or text like "500ms", "90s", "30m", "1h", "2d"."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*", value) if isinstance(value, str) else None
    if found is None:
        raise DefinitionError(
            f"A duration must be a number of seconds or text like '90s' or '1h', got {value!r}.",
            code="invalid_duration",
        )
    return float(found[1]) * _UNITS[found[2]]

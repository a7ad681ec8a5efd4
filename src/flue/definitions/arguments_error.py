"""What the model is told when the arguments of a tool call do not fit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from flue.errors import UsageError

MAX_ISSUES = 20
"""How many issues are listed; the rest is counted."""

MAX_ARGUMENTS = 4_000
"""How many characters of the received arguments are repeated to the model."""


def arguments_error(
    tool: str, issues: Sequence[tuple[str, str]], arguments: Mapping[str, Any], *, total: int | None = None
) -> UsageError:
    """Return the error (code `invalid_arguments`) that lists `(path, message)` issues and the received arguments.

    `total` is the number of issues when `issues` is only a part of them.
    """
    listed = [f"  - {path}: {message}" for path, message in issues[:MAX_ISSUES]]
    more = (total or len(issues)) - len(listed)
    if more > 0:
        listed.append(f"  - … and {more} more")
    return UsageError(
        f'Validation failed for tool "{tool}":\n' + "\n".join(listed) + f"\n\nReceived arguments:\n{_show(arguments)}",
        code="invalid_arguments",
    )


def _show(arguments: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(arguments, indent=2, ensure_ascii=False, default=str)
    except (RecursionError, ValueError):
        return "(nested too deeply to show)"
    if len(text) > MAX_ARGUMENTS:
        return f"{text[:MAX_ARGUMENTS]}… ({len(text)} characters in all)"
    return text

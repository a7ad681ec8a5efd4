"""What the model is told when the arguments of a tool call do not fit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from flue.errors import UsageError

MAX_ISSUES = 20
"""How many issues are listed; the rest is counted."""

MAX_ARGUMENTS = 4_000
"""How many characters of the received arguments are repeated to the model."""


class ArgumentsError(UsageError):
    """The arguments of a tool call do not fit its schema; the message is written for the model.

    `issues` are all that were found, each `path: problem`.
    """

    default_code = "invalid_arguments"

    def __init__(self, tool: str, issues: Sequence[str], arguments: Any) -> None:
        listed = [f"  - {issue}" for issue in issues[:MAX_ISSUES]]
        if len(issues) > MAX_ISSUES:
            listed.append(f"  - … and {len(issues) - MAX_ISSUES} more")
        lines = "\n".join(listed)
        super().__init__(f'Validation failed for tool "{tool}":\n{lines}\n\nReceived arguments:\n{_show(arguments)}')
        self.issues = tuple(issues)


def _show(arguments: Any) -> str:
    try:
        text = json.dumps(arguments, indent=2, ensure_ascii=False, default=str)
    except (RecursionError, ValueError):
        return "(nested too deeply to show)"
    if len(text) > MAX_ARGUMENTS:
        return f"{text[:MAX_ARGUMENTS]}… ({len(text)} characters in all)"
    return text

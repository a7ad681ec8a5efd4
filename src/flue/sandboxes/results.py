"""What every sandbox says in the same words: checked environments, timeouts, decoded output."""

from __future__ import annotations

from collections.abc import Mapping

from flue.errors import UsageError
from flue.ports import ExecResult

TIMEOUT_EXIT_CODE = 124
"""The status of a command that ran out of time, as `timeout(1)` of GNU coreutils gives it."""


def check_environment(env: Mapping[str, str] | None) -> dict[str, str]:
    """Return the variables as a dict. Raises `UsageError` (`invalid_command`) for what no process could be given."""
    variables = dict(env or {})
    for name, value in variables.items():
        if not name or "=" in name or "\0" in name or "\0" in value:
            raise UsageError(
                f"The environment variable {name!r} cannot be set.",
                code="invalid_command",
                hint="A name must not be empty or contain =, and neither name nor value may contain NUL.",
            )
        try:
            f"{name}{value}".encode()
        except UnicodeEncodeError:
            raise UsageError(
                f"The environment variable {name!r} is not valid Unicode text.", code="invalid_command"
            ) from None
    return variables


def text_result(stdout: bytes, stderr: bytes, exit_code: int, *notes: str) -> ExecResult:
    """Return a result whose output is text (bytes that are not UTF-8 become U+FFFD), with notes after stderr."""
    errors = stderr.decode("utf-8", errors="replace")
    for note in filter(None, notes):
        errors += f"{'' if not errors or errors.endswith(chr(10)) else chr(10)}[flue] {note}\n"
    return ExecResult(stdout.decode("utf-8", errors="replace"), errors, exit_code)


def timeout_note(seconds: float) -> str:
    """Return the sentence for a command that ran out of time."""
    return f"Command timed out after {seconds:g} seconds."

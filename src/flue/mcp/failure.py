"""What goes wrong with an MCP server, and the check that the SDK is there."""

from __future__ import annotations

import importlib.metadata

from flue.errors import FlueError, UsageError


class McpError(FlueError):
    """An MCP server cannot be reached, or did not do what was asked of it.

    Raised by `connect_mcp_server`; in a call of one of its tools the model gets the message as an error result.
    """

    default_code = "mcp_failed"


def require_sdk() -> None:
    """Raise `UsageError` (`missing_package`) when the MCP SDK is missing or older than version 2."""
    try:
        found = importlib.metadata.version("mcp")
    except importlib.metadata.PackageNotFoundError:
        found = "0"
    if int(found.partition(".")[0]) < 2:
        raise UsageError(
            "MCP needs the official Python SDK (package `mcp`), version 2.",
            code="missing_package",
            hint='Install it: pip install "flue-agents[mcp]"',
        )


def single_cause(error: BaseException) -> BaseException:
    """Return the first plain exception in a group: what a task group of the SDK ended with."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def describe(error: BaseException) -> str:
    """Return an exception in one short line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 500 else f"{text[:499]}…"

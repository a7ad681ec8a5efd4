"""Where sandboxes come from: the factory an agent names, and the way a connector makes an environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from flue.definitions.tool import Tool
from flue.errors import DefinitionError
from flue.harness.env import SessionEnv
from flue.ports import Sandbox

_SANDBOX_METHODS = ("read_file", "write_file", "stat", "readdir", "exists", "mkdir", "rm", "exec")


@runtime_checkable
class SandboxFactory(Protocol):
    """What an agent's `sandbox` is. Called once for every harness.

    A factory may also have `tools`, see `SandboxToolFactory`.
    """

    async def create_session_env(self, *, id: str, cwd: str | None = None) -> SessionEnv:
        """Return the environment of the instance or run `id`.

        `cwd` is the agent's own working directory, as a hint: the harness applies it afterwards in any case.
        """
        ...


@runtime_checkable
class SandboxToolFactory(SandboxFactory, Protocol):
    """A factory that brings its own tools."""

    def tools(self, env: SessionEnv, subagents: Sequence[Any]) -> list[Tool]:
        """Return the tools that replace the six built-in ones; none may be named `task` or `activate_skill`."""
        ...


def create_sandbox_session_env(api: Sandbox, cwd: str) -> SessionEnv:
    """Return a session environment over a connector's sandbox, with `cwd` (absolute) as its working directory.

    Raises `DefinitionError` naming what is missing when `api` does not implement the `Sandbox` port.
    """
    missing = [name for name in _SANDBOX_METHODS if not callable(getattr(api, name, None))]
    if missing:
        raise DefinitionError(
            f"{type(api).__name__} is not a sandbox: it has no {', '.join(missing)}.",
            hint="Implement every method of flue.ports.Sandbox.",
        )
    return SessionEnv(api, cwd)

"""A container of `@cloudflare/sandbox` as an agent's sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flue.cloudflare.container_failures import told
from flue.cloudflare.container_shell import ContainerShell
from flue.cloudflare.container_stub import ObjectStub
from flue.errors import SandboxError
from flue.harness.env import SessionEnv
from flue.sandboxes.remote_sandbox import RemoteSandbox

DEFAULT_CWD = "/workspace"
"""The working directory that Cloudflare's images have."""
DESCRIPTION = (
    "A Linux container of its own, with bash and the programs of its image. Files last as long as the container runs: "
    "it may be stopped when nothing was asked of it for some minutes, and starts anew from its image. Every cd, export "
    "and function is gone when the command ends."
)


class ContainerSandbox:
    """A container, as an agent's `sandbox`. `title` names it in messages; `options` are those of `configure`.

    Nothing here creates or destroys it: it is the platform's, and outlives every agent that uses it.
    """

    def __init__(self, stub: ObjectStub, title: str, cwd: str, options: Mapping[str, Any]) -> None:
        self._stub = stub
        self._title = title
        self._cwd = cwd
        self._options = options

    async def create_session_env(self, *, id: str, cwd: str | None = None) -> SessionEnv:
        """Return the environment, once the container runs.

        Raises `SandboxError`: `missing_directory` when its working directory is none, others as `docs/troubleshooting`
        lists them when it cannot be started.
        """
        if self._options:
            await self.call("configure", dict(self._options))
        env = SessionEnv(RemoteSandbox(ContainerShell(self._stub, self._title), DESCRIPTION), self._cwd)
        if not await env.exists("."):
            raise SandboxError(
                f"{self._title} has no directory {env.cwd}.",
                code="missing_directory",
                hint="Create it in the image's Dockerfile, or pass another cwd.",
            )
        return env

    async def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the container's object, for what agents have no tool for.

        For example `await box.call("exposePort", 8080, {"hostname": "example.com"})` or `await box.call("destroy")`.
        Names, arguments and results are those of `@cloudflare/sandbox`, as plain Python. Raises `SandboxError`.
        """
        with told(self._title):
            return await self._stub.call(method, *arguments)

    def __repr__(self) -> str:
        return f"<{self._title}>"

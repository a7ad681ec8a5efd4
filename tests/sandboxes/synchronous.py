"""Virtual sandboxes as a Worker has them, on this machine."""

from __future__ import annotations

from collections.abc import Mapping

from flue.harness.env import SessionEnv
from flue.sandboxes.engine import EngineOptions, Limits
from flue.sandboxes.places import WORKSPACE
from flue.sandboxes.synchronous_engine import open_synchronous
from flue.sandboxes.virtual_sandbox import VirtualSandboxFactory


async def open_synchronous_env(files: Mapping[str, bytes] | None = None, *, limits: Limits | None = None) -> SessionEnv:
    """Return the environment of a new sandbox."""
    options = EngineOptions(files or {}, limits or Limits())
    return await VirtualSandboxFactory(options, WORKSPACE, open_synchronous).create_session_env(id="test")

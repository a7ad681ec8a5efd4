"""Environments to use the built-in tools in."""

from __future__ import annotations

from pathlib import Path

import pytest

from flue.harness.env import SessionEnv
from flue.sandboxes.local_sandbox import local
from flue.sandboxes.virtual_sandbox import virtual
from tests.harness.memory_sandbox import MemorySandbox


async def open_env(kind: str, directory: Path) -> SessionEnv:
    if kind == "memory":
        return SessionEnv(MemorySandbox(), "/workspace")
    factory = virtual() if kind == "virtual" else local(directory)
    return await factory.create_session_env(id="test")


@pytest.fixture(params=["memory", "virtual", "local"])
async def env(request: pytest.FixtureRequest, tmp_path: Path) -> SessionEnv:
    """An environment with an empty working directory, in each kind of sandbox."""
    return await open_env(request.param, tmp_path)


@pytest.fixture(params=["virtual", "local"])
async def shell_env(request: pytest.FixtureRequest, tmp_path: Path) -> SessionEnv:
    """The same, where commands really run."""
    return await open_env(request.param, tmp_path)

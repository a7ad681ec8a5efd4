"""The shared contract, run against the built-in sandboxes."""

from __future__ import annotations

from pathlib import Path

import pytest

from flue.harness.env import SessionEnv
from flue.sandboxes import local, virtual
from flue.testing.sandbox_conformance import SandboxConformance
from tests.sandboxes.synchronous import open_synchronous_env


class TestVirtual(SandboxConformance):
    async def open_env(self, directory: Path) -> SessionEnv:
        return await virtual().create_session_env(id="test")


class TestSynchronous(SandboxConformance):
    synchronous = True

    async def open_env(self, directory: Path) -> SessionEnv:
        return await open_synchronous_env()


# SBX-12
@pytest.mark.faults
class TestIsolated(SandboxConformance):
    async def open_env(self, directory: Path) -> SessionEnv:
        return await virtual(isolated=True).create_session_env(id="test")


class TestLocal(SandboxConformance):
    async def open_env(self, directory: Path) -> SessionEnv:
        work = directory / "work folder"
        work.mkdir()
        return await local(work).create_session_env(id="test")

"""A container as an agent's sandbox, over a stand-in for its Durable Object and for what runs in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flue.cloudflare.container.sandbox import ContainerSandbox
from flue.harness.env import SessionEnv
from flue.testing.sandbox_conformance import SandboxConformance
from tests.cloudflare.containers.control_server import ControlServer
from tests.cloudflare.containers.fake_stub import FakeStub


# Each of some ninety tests starts a shell: too long for the fast tests, whose containers do what agents do.
@pytest.mark.faults
class TestContainer(SandboxConformance):
    sessions_only = False

    @pytest.fixture
    def server(self) -> Iterator[ControlServer]:
        server = ControlServer()
        yield server
        server.close()

    @pytest.fixture(autouse=True)
    def _container(self, server: ControlServer) -> None:
        self.stub = FakeStub(server, sessions_only=self.sessions_only)

    async def open_env(self, directory: Path) -> SessionEnv:
        work = directory / "work folder"
        work.mkdir()
        box = ContainerSandbox(self.stub, 'Container "ann"', str(work), {})
        return await box.create_session_env(id="test")


class TestContainerWithSessionsOnly(TestContainer):
    sessions_only = True

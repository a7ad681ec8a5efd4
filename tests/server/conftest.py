from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from flue import create_agent
from flue.registrations import PROCESS
from flue.server.app import FlueApp
from flue.server.application import Application
from flue.server.served import Served, of_objects
from flue.testing import SequentialIds, VirtualClock
from tests.conftest import SCHEMATHESIS
from tests.server.asgi_client import Client
from tests.server.fake_service import FakeService


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out what makes up its cases while it is collected, seconds long, where it is not run anyway."""
    left_out = not config.pluginmanager.has_plugin(SCHEMATHESIS) and collection_path.name == "test_schemathesis.py"
    return True if left_out else None


async def noop(ctx: Any) -> None:
    """Do nothing."""


@dataclass
class Site:
    """A served project over a fake service: `change` the modules, `call` the routes."""

    served: Served
    service: FakeService = field(default_factory=FakeService)
    clock: VirtualClock = field(default_factory=VirtualClock)
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        opening: Any = self.service.opening
        self.application = Application(
            lambda: self.served, opening=opening, env=self.env, clock=self.clock, ids=SequentialIds()
        )

    def app(self, **options: Any) -> FlueApp:
        return FlueApp(self.application, **options)

    @property
    def client(self) -> Client:
        return Client(self.app())

    @property
    def admin(self) -> Client:
        return Client(FlueApp(self.application, "admin"))


def module(**names: Any) -> Any:
    """Return a module as the loader would give it."""
    from types import ModuleType

    made = ModuleType("made")
    vars(made).update(names)
    return made


@pytest.fixture
def serve() -> Callable[..., Site]:
    """Return a function that serves agents and workflows over a fake service."""

    def make(agents: dict[str, Any] | None = None, workflows: dict[str, Any] | None = None) -> Site:
        return Site(of_objects(agents or {}, workflows or {}, PROCESS, None))

    return make


@pytest.fixture
async def site(serve: Callable[..., Site]) -> Any:
    """Serve one of each: exposed, hidden, and a function agent."""
    made = serve(
        {
            "chat": create_agent(model=False),
            "hidden": module(agent=create_agent(model=False)),
            "reporter": noop,
            "private": module(run=noop),
        },
        {"noop": noop, "hidden": module(run=noop)},
    )
    yield made
    await made.application.drain()

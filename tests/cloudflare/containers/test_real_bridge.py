"""A container behind the package's own bridge, in real `wrangler dev`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from flue.harness.env import SessionEnv
from flue.sandboxes import cloudflare_bridge
from flue.testing.sandbox_conformance import SandboxConformance
from tests.cloudflare.containers.bridge_server import KEY
from tests.cloudflare.containers.control_http import served_containers
from tests.cloudflare.containers.wrangler_dev import HERE, stand_in_for_containers, wrangler_dev

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]
CLASSES = ("Sandbox", "WarmPool")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("bridge")
    (root / "workspace").mkdir()
    with served_containers("0.12.10", str(root / "workspace")) as containers:
        config = {
            "name": "bridge",
            "main": str(HERE / "real_bridge.js"),
            "compatibility_date": "2026-09-08",
            "compatibility_flags": ["nodejs_compat"],
            "durable_objects": {"bindings": [{"name": name, "class_name": name} for name in CLASSES]},
            "migrations": [{"tag": "v1", "new_sqlite_classes": list(CLASSES)}],
            "containers": [{"class_name": "Sandbox", "image": "./Dockerfile"}],
            "vars": {"SANDBOX_API_KEY": KEY},
        }
        (root / "Dockerfile").write_text("FROM docker.io/cloudflare/sandbox:0.12.10\n")
        (root / "wrangler.json").write_text(json.dumps(stand_in_for_containers(config, containers_url=containers.url)))
        with wrangler_dev(root, "wrangler.json") as served:
            yield served.url


class TestRealBridge(SandboxConformance):
    @pytest.fixture(autouse=True)
    def _url(self, url: str) -> None:
        self.url = url

    @pytest.fixture
    async def env(self, tmp_path: Path) -> AsyncIterator[SessionEnv]:
        opened = await self.open_env(tmp_path)
        yield opened
        await opened.close()

    async def open_env(self, directory: Path) -> SessionEnv:
        work = directory / "work folder"
        work.mkdir()
        return await cloudflare_bridge(self.url, "ann", api_key=KEY, cwd=str(work)).create_session_env(id="test")

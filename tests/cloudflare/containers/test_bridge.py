"""A container behind a bridge, for agents that run elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flue
from flue.errors import DefinitionError, SandboxError
from flue.harness.env import SessionEnv
from flue.sandboxes import cloudflare_bridge
from flue.sandboxes.remote_shell import LARGE
from flue.testing import ScriptedModel
from flue.testing.sandbox_conformance import SandboxConformance
from tests.cloudflare.containers.bridge_server import KEY, BridgeServer, served_bridge


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[BridgeServer]:
    (tmp_path / "workspace").mkdir()
    with served_bridge(str(tmp_path / "workspace")) as served:
        yield served


def box(bridge: BridgeServer, cwd: Path, id: str = "abc234", api_key: str = KEY) -> Any:
    return cloudflare_bridge(bridge.url, id, api_key=api_key, cwd=str(cwd))


@pytest.mark.faults
class TestBridge(SandboxConformance):
    @pytest.fixture(autouse=True)
    def _bridge(self, bridge: BridgeServer) -> None:
        self.bridge = bridge

    @pytest.fixture
    async def env(self, tmp_path: Path) -> Any:
        opened = await self.open_env(tmp_path)
        yield opened
        await opened.close()

    async def open_env(self, directory: Path) -> SessionEnv:
        work = directory / "work folder"
        work.mkdir()
        env: SessionEnv = await box(self.bridge, work).create_session_env(id="test")
        return env


# SBX-16
async def test_an_agent_works_behind_a_bridge_and_gives_its_connections_back(
    bridge: BridgeServer, tmp_path: Path
) -> None:
    agent = flue.create_agent(model=ScriptedModel(), sandbox=box(bridge, tmp_path, "customer-7"))
    async with flue.open_context() as ctx:
        harness = await ctx.init(agent)
        await harness.fs.write_file("large.txt", "x" * (LARGE + 1))
        done = await harness.shell("wc -c < large.txt; cat large.txt", env={"SECRET": "canary-3"})
    assert done.stdout == f"{LARGE + 1}\n{'x' * (LARGE + 1)}"
    # An id that is none over there has a hash for one, always the same.
    assert bridge.ids == {"vsw6l7sy2c22qbnafoftuvdnry"}
    assert list((tmp_path / "workspace").iterdir()) == []
    assert not [body for _, body in bridge.container.asked if "canary" in str(body.get("command"))]


# SBX-18
async def test_a_wrong_key_is_refused_and_told_nowhere(bridge: BridgeServer, tmp_path: Path) -> None:
    refused = box(bridge, tmp_path, api_key="key-that-is-wrong")
    with pytest.raises(SandboxError, match="was refused: Unauthorized") as caught:
        await refused.create_session_env(id="x")
    assert "key-that" not in f"{caught.value}{refused!r}"


@pytest.mark.parametrize(
    ("status", "code"),
    [(503, "sandbox_busy"), (429, "sandbox_busy"), (502, "sandbox_interrupted"), (500, "sandbox_error")],
)
async def test_what_the_bridge_says_has_a_code_and_a_next_step(
    bridge: BridgeServer, tmp_path: Path, status: int, code: str
) -> None:
    env = await box(bridge, tmp_path).create_session_env(id="x")
    bridge.fails = (status, "pool error: something")
    for work in (env.exec("true"), env.write_file("large", b"x" * (LARGE + 1))):
        with pytest.raises(SandboxError, match="pool error: something") as caught:
            await work
        assert (caught.value.code, bool(caught.value.hint)) == (code, True)
    await env.close()


async def test_an_answer_that_breaks_off_is_an_interruption(bridge: BridgeServer, tmp_path: Path) -> None:
    env = await box(bridge, tmp_path).create_session_env(id="x")
    bridge.cut = True
    with pytest.raises(SandboxError, match="broke off") as caught:
        await env.exec("true")
    assert caught.value.code == "sandbox_interrupted"
    await env.close()


async def test_a_bridge_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    nowhere = cloudflare_bridge("http://127.0.0.1:9", "abc", api_key=KEY, cwd=str(tmp_path))
    with pytest.raises(SandboxError, match="ConnectError"):
        await nowhere.create_session_env(id="x")


@pytest.mark.parametrize(
    "arguments",
    [("box.example.com", "a", KEY), ("https://box.example.com", "", KEY), ("https://box.example.com", "a", "")],
)
def test_what_cannot_work_is_refused_at_once(arguments: tuple[str, str, str]) -> None:
    url, id, key = arguments
    with pytest.raises(DefinitionError):
        cloudflare_bridge(url, id, api_key=key)

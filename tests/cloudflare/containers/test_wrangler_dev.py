"""Containers through the second Worker of a build, in real `wrangler dev`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from flue.cloudflare.container.sandbox import ContainerSandbox
from flue.errors import SandboxError
from flue.harness.env import SessionEnv
from flue.testing.sandbox_conformance import SandboxConformance
from tests.build.cloudflare.samples import additions, javascript, merge
from tests.cloudflare.containers.control_http import Containers, served_containers
from tests.cloudflare.containers.upstream import served_upstream
from tests.cloudflare.containers.wrangler_dev import Bridge, stand_in, wrangler_dev, write_workers

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

TOKEN = "token-of-the-worker"
OWN_CLASSES = ("MySandbox", "ChildSandbox", "AssignedSandbox", "FencedSandbox", "Sandbox")
CLASSES = (*OWN_CLASSES, "PyBoxSandbox", "NodeSandbox")
# As the guide writes it, but for the host; then the same by inheritance, by assignment, for every host; and a class
# of the user's own with the name that the package's class has.
OWN = """
import { Sandbox as Original } from '@cloudflare/sandbox';

const withToken = (request, env, ctx) => {
  const headers = new Headers(request.headers);
  headers.set('Authorization', `Bearer ${env.GITHUB_TOKEN}`);
  return fetch(request, { headers });
};

export class MySandbox extends Original {
  static outboundByHost = { '127.0.0.1': withToken };
}

class Base extends Original {
  static outboundByHost = { '127.0.0.1': withToken };
}
export class ChildSandbox extends Base {}

export class AssignedSandbox extends Original {}
AssignedSandbox.outboundByHost = { '127.0.0.1': withToken };

export class FencedSandbox extends Original {
  enableInternet = false;
  static outbound = (request) => new Response(`not ${new URL(request.url).hostname}`, { status: 403 });
}

export class Sandbox extends Original {
  static outboundByHost = { '127.0.0.1': withToken };
}
"""


def config(*classes: str) -> dict[str, object]:
    return {
        "name": "agent",
        "durable_objects": {"bindings": [{"name": name, "class_name": name} for name in classes]},
        "migrations": [{"tag": "v1", "new_sqlite_classes": list(classes)}],
        "containers": [{"class_name": name, "image": "./Dockerfile"} for name in classes],
        "vars": {"GITHUB_TOKEN": TOKEN},
    }


@pytest.fixture(scope="module")
def containers() -> Iterator[Containers]:
    with served_containers("0.12.10") as found:
        yield found


@pytest.fixture(scope="module")
def bridge(containers: Containers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    root = tmp_path_factory.mktemp("project")
    merged = merge(config(*CLASSES), additions(own=javascript(*OWN_CLASSES)))
    write_workers(root, merged, {"cloudflare.js": OWN})
    stand_in(root, containers_url=containers.url)
    with wrangler_dev(root) as found:
        yield found


@pytest.fixture(scope="module")
def older_bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    root = tmp_path_factory.mktemp("older")
    with served_containers("0.9.2") as containers:
        write_workers(root, merge(config("Sandbox"), additions()), {})
        stand_in(root, package="sandbox-0.9.2", containers_url=containers.url)
        with wrangler_dev(root) as found:
            yield found


def container(bridge: Bridge, class_name: str, name: str, cwd: Path) -> ContainerSandbox:
    return ContainerSandbox(bridge.stub(class_name, name), f'Container "{name}"', str(cwd), {})


class TestContainer(SandboxConformance):
    bridge_name = "bridge"
    class_name = "NodeSandbox"

    @pytest.fixture(autouse=True)
    def _bridge(self, request: pytest.FixtureRequest) -> None:
        self.bridge: Bridge = request.getfixturevalue(self.bridge_name)

    async def open_env(self, directory: Path) -> SessionEnv:
        work = directory / "work folder"
        work.mkdir()
        return await container(self.bridge, self.class_name, "conformance", work).create_session_env(id="test")


class TestContainerOfVersion092(TestContainer):
    """The version that has sessions only."""

    bridge_name = "older_bridge"
    class_name = "Sandbox"


async def ask_from_inside(bridge: Bridge, class_name: str, tmp_path: Path, url: str) -> dict[str, object]:
    """Return what a program in a container gets that asks for a URL."""
    box = container(bridge, class_name, "egress", tmp_path)
    env = await box.create_session_env(id="egress")
    assert TOKEN not in (await env.exec("env")).stdout
    answer: dict[str, object] = await box.call("outgoing", url, {"accept": "text/plain"})
    return answer


# SBX-15
@pytest.mark.parametrize("class_name", ["MySandbox", "ChildSandbox", "AssignedSandbox", "Sandbox"])
async def test_a_token_is_added_outside_of_the_container(bridge: Bridge, tmp_path: Path, class_name: str) -> None:
    with served_upstream() as upstream:
        answer = await ask_from_inside(bridge, class_name, tmp_path, f"{upstream.url}/user")
    assert answer == {"intercepted": True, "status": 200, "body": "hello"}
    [request] = upstream.requests
    assert (request["path"], request["authorization"], request["accept"]) == ("/user", f"Bearer {TOKEN}", "text/plain")


async def test_what_is_not_allowed_out_does_not_leave(bridge: Bridge, tmp_path: Path) -> None:
    answer = await ask_from_inside(bridge, "FencedSandbox", tmp_path, "http://example.com/")
    assert answer == {"intercepted": True, "status": 403, "body": "not example.com"}


# SBX-15
@pytest.mark.parametrize("class_name", ["PyBoxSandbox", "NodeSandbox"])
async def test_handlers_of_one_class_are_not_those_of_another(bridge: Bridge, tmp_path: Path, class_name: str) -> None:
    answer = await ask_from_inside(bridge, class_name, tmp_path, "http://127.0.0.1:9/")
    assert answer == {"intercepted": False, "internet": True}


async def test_each_class_and_each_id_has_a_container_of_its_own(
    bridge: Bridge, containers: Containers, tmp_path: Path
) -> None:
    before = set(containers.running)
    for class_name, name in (("PyBoxSandbox", "ann"), ("NodeSandbox", "ann"), ("NodeSandbox", "bob")):
        env = await container(bridge, class_name, name, tmp_path).create_session_env(id="x")
        again = await container(bridge, class_name, name, tmp_path).create_session_env(id="x")
        assert (await env.exec("echo hello")).stdout == (await again.exec("echo hello")).stdout == "hello\n"
    assert len(set(containers.running) - before) == 3


async def test_options_reach_the_object(bridge: Bridge, tmp_path: Path) -> None:
    options = {"sandboxName": {"name": "named", "normalizeId": False}, "sleepAfter": "30m", "keepAlive": True}
    box = ContainerSandbox(bridge.stub("NodeSandbox", "named"), "Container", str(tmp_path), options)
    env = await box.create_session_env(id="x")
    assert (await env.exec("echo started")).stdout == "started\n"


async def test_a_container_that_was_destroyed_starts_anew(
    bridge: Bridge, containers: Containers, tmp_path: Path
) -> None:
    before = set(containers.running)
    box = container(bridge, "NodeSandbox", "short", tmp_path)
    env = await box.create_session_env(id="x")
    [id] = set(containers.running) - before
    await box.call("destroy")
    assert id not in containers.running
    assert (await env.exec("echo again")).stdout == "again\n"
    assert id in containers.running


async def test_a_container_that_is_lost_while_a_command_runs_is_an_error(
    bridge: Bridge, containers: Containers, tmp_path: Path
) -> None:
    before = set(containers.running)
    env = await container(bridge, "NodeSandbox", "lost", tmp_path).create_session_env(id="x")
    [id] = set(containers.running) - before
    containers.break_off(id)
    with pytest.raises(SandboxError) as caught:
        await env.exec("echo never said")
    assert caught.value.code == "sandbox_interrupted", caught.value


async def test_where_containers_are_switched_off_the_error_says_so(tmp_path: Path) -> None:
    write_workers(tmp_path, merge(config("Sandbox"), additions()), {})
    stand_in(tmp_path)
    with wrangler_dev(tmp_path) as bridge:
        with pytest.raises(SandboxError) as caught:
            await container(bridge, "Sandbox", "ann", tmp_path).create_session_env(id="x")
        assert caught.value.code == "sandbox_without_container", caught.value


async def test_many_commands_at_once_in_a_container(bridge: Bridge, containers: Containers, tmp_path: Path) -> None:
    before = set(containers.running)
    env = await container(bridge, "NodeSandbox", "busy", tmp_path).create_session_env(id="x")
    results = await asyncio.gather(*(env.exec(f"echo {number}") for number in range(20)))
    assert [result.stdout for result in results] == [f"{number}\n" for number in range(20)]
    [id] = set(containers.running) - before
    commands = [str(body.get("command")) for _, body in containers.running[id].asked]
    tokens = {command.partition("token=")[2][:16] for command in commands if "token=" in command}
    assert len(tokens) == 20
    assert not [path for token in tokens for path in Path("/tmp").glob(f".flue-{token}*")]

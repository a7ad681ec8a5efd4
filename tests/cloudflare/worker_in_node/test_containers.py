"""A built Worker's agents at work in containers: its own Python, the second Worker of the same build in `wrangler dev`.

What stands in is the platform around the first Worker, and the container with what runs in it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import pytest

from flue.sandboxes.remote_sandbox import SEEN
from flue.sdk import AsyncClient
from flue.testing import ProviderServer
from tests.build.cloudflare.test_worker_dry_run import build
from tests.build.cloudflare.tools import link_npm_packages
from tests.build.conftest import write_files
from tests.cloudflare.containers.control_http import served_containers
from tests.cloudflare.containers.wrangler_dev import stand_in, wrangler_dev
from tests.cloudflare.worker_in_node.node_worker import NodeWorker
from tests.cloudflare.worker_in_node.project import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

AGENT = """
    from flue import create_agent
    from flue.cloudflare import get_sandbox
    from provider import MODEL

    route = True
    agent = create_agent(lambda ctx: {"model": MODEL, "sandbox": SANDBOX})
"""
WRANGLER = """
{
  "name": "coder",
  "durable_objects": { "bindings": [{ "name": "Sandbox", "class_name": "Sandbox" }] },
  "migrations": [{ "tag": "v1", "new_sqlite_classes": ["Sandbox"] }],
  "containers": [{ "class_name": "Sandbox", "image": "./Dockerfile" }]
}
"""


def files(provider: str) -> dict[str, str]:
    return {
        ".flue/provider.py": f"""
            from flue import register_provider

            register_provider("fake", api="anthropic-messages", base_url="{provider}", api_key="test-key")
            MODEL = "fake/any-model"
        """,
        ".flue/agents/coder.py": AGENT.replace("SANDBOX", "get_sandbox(ctx.env.Sandbox, ctx.id, cwd=ctx.env.CWD)"),
        ".flue/agents/stubborn.py": AGENT.replace("SANDBOX", "ctx.env.Sandbox.get(ctx.env.Sandbox.idFromName('x'))"),
        "wrangler.jsonc": WRANGLER,
        "package.json": json.dumps({"dependencies": {"@cloudflare/sandbox": "0.12.10"}}),
        "Dockerfile": "FROM docker.io/cloudflare/sandbox:0.12.10\n",
    }


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the working directory of the containers."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def running(port: int, work: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeWorker]:
    """Have both Workers run, and return the first one."""
    root = write_files(tmp_path_factory.mktemp("built") / "project", files(f"http://127.0.0.1:{port}"))
    link_npm_packages(root)
    build(root)
    with served_containers("0.12.10") as containers:
        stand_in(root, containers_url=containers.url)
        with wrangler_dev(root) as bridge:
            state = tmp_path_factory.mktemp("state")
            worker = NodeWorker(root / "dist" / "worker", state, {"CWD": str(work)}, bridge.url)
            worker.start()
            try:
                yield worker
            finally:
                worker.stop()
                # The containers have this machine's /tmp.
                for id in ("ann", "bob", "cat"):
                    Path(f"{SEEN}{hashlib.sha256(id.encode()).hexdigest()[:16]}").unlink(missing_ok=True)


@pytest.fixture
async def models(port: int) -> AsyncIterator[ProviderServer]:
    async with ProviderServer(port=port) as server:
        yield server


def called(name: str, **arguments: object) -> str:
    return f"[[call {name} {json.dumps(arguments)}]][[then]]"


def told(models: ProviderServer) -> str:
    """Return what the model has been told last."""
    message = json.loads(models.requests[-1].body)["messages"][-1]
    return json.dumps(message, ensure_ascii=False)


async def test_an_agent_reads_writes_and_runs_in_its_container(
    running: NodeWorker, models: ProviderServer, work: Path
) -> None:
    text = "naïve 日本語 😀 'q' $x\n" * 3000  # large enough to travel as a file
    async with AsyncClient(base_url=running.url) as client:
        await client.agents.invoke("coder", "ann", called("write", path="src/text.txt", content=text))
        assert (work / "src" / "text.txt").read_text() == text
        (work / "src" / "small.txt").write_text("from outside")
        await client.agents.invoke("coder", "ann", called("read", path="src/small.txt"))
        assert "from outside" in told(models)
        command = "wc -c < src/text.txt; echo 'naïve' >&2; exit 3"
        await client.agents.invoke("coder", "ann", called("bash", command=command))
        assert str(len(text.encode())) in told(models)
        assert "naïve" in told(models)
        assert "3" in told(models)
        assert "new sandbox" not in told(models)


async def test_a_command_that_takes_too_long_is_ended(running: NodeWorker, models: ProviderServer, work: Path) -> None:
    command = "echo begun; sleep 2; touch late"
    async with AsyncClient(base_url=running.url) as client:
        await client.agents.invoke("coder", "bob", called("bash", command=command, timeout=1))
        assert "timed out after 1 second" in told(models)
        assert "begun" in told(models)
        await client.agents.invoke("coder", "bob", called("bash", command="sleep 2; ls"))
    assert not (work / "late").exists()


# SBX-17
async def test_an_abort_ends_the_command_in_the_container(
    running: NodeWorker, models: ProviderServer, work: Path
) -> None:
    body = {"message": called("bash", command="echo > begun; sleep 3; echo > ended")}
    streamed = {"accept": "text/event-stream"}
    async with (
        httpx2.AsyncClient(base_url=running.url, timeout=60) as http,
        http.stream("POST", "/agents/coder/cat", json=body, headers=streamed) as answer,
        AsyncClient(base_url=running.url) as client,
    ):
        deadline = time.monotonic() + 60
        while not (work / "begun").exists():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        await client.agents.abort("coder", "cat", answer.headers["x-flue-submission-id"])
        await client.agents.invoke("coder", "cat", called("bash", command="sleep 3; ls"))
    assert "begun" in told(models)
    assert "ended" not in told(models)


async def test_a_stub_as_the_sandbox_is_a_container_in_its_workspace(
    running: NodeWorker, models: ProviderServer
) -> None:
    async with AsyncClient(base_url=running.url) as client:
        with pytest.raises(Exception, match="Something went wrong on the server"):
            await client.agents.invoke("stubborn", "ann", "Hello")
    # This machine has no such directory, so that is where it ends.
    assert "The agent's container has no directory /workspace" in running.log

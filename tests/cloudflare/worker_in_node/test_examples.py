"""The examples for Cloudflare: taken by Wrangler, and asked under the platform's Python, with the offline model."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from flue.sdk import AsyncClient, FlueApiError, FlueSocketError
from tests.build.cloudflare.test_worker_dry_run import build
from tests.build.cloudflare.tools import ROOT, dry_run, link_npm_packages
from tests.cloudflare.worker_in_node.node_worker import NodeWorker

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
EXAMPLES = ROOT / "examples" / "cloudflare"


@asynccontextmanager
async def served(tmp_path: Path, example: str, **variables: str) -> AsyncIterator[NodeWorker]:
    """Build a copy of an example, have Wrangler look at it, and serve it."""
    root = tmp_path / example
    made_by_runs = shutil.ignore_patterns("dist", "node_modules", ".wrangler", "__pycache__", "python_modules")
    shutil.copytree(EXAMPLES / example, root, ignore=made_by_runs)
    link_npm_packages(root)
    await asyncio.to_thread(build, root)
    await asyncio.to_thread(dry_run, root, tmp_path / "home")
    worker = NodeWorker(root / "dist" / "worker", tmp_path / "state", variables)
    await asyncio.to_thread(worker.start)
    try:
        yield worker
    finally:
        await asyncio.to_thread(worker.stop)


async def test_translate(tmp_path: Path) -> None:
    async with served(tmp_path, "translate") as worker, AsyncClient(base_url=worker.url) as client:
        done = await client.workflows.invoke("translate", {"language": "French", "text": "Hello"})
    assert sorted(done.result) == ["confidence", "translation"]


async def test_the_chat_answers_who_has_the_token_and_nobody_else(tmp_path: Path) -> None:
    async with served(tmp_path, "chat", CHAT_TOKEN="let me in") as worker:
        async with AsyncClient(base_url=f"{worker.url}/api", token="something") as stranger:
            with pytest.raises(FlueApiError, match="401"):
                await stranger.agents.invoke("chat", "ann", "Hello")
            socket = stranger.agents.connect("chat", "ann")
            with pytest.raises(FlueSocketError):
                await socket.ready()
        program = str(EXAMPLES / "chat" / "talk.py")
        pipe = asyncio.subprocess.PIPE
        talk = await asyncio.create_subprocess_exec(
            sys.executable, program, worker.url, "let me in", "ann", stdin=pipe, stdout=pipe
        )
        said, _ = await asyncio.wait_for(talk.communicate(b"My name is Ann.\nWhat is my name?\n"), 60)
    assert talk.returncode == 0
    assert "name is Ann" in said.decode().rpartition("demo model")[0]


async def test_subagents(tmp_path: Path) -> None:
    async with served(tmp_path, "subagents") as worker, AsyncClient(base_url=worker.url) as client:
        done = await client.workflows.invoke("helpdesk", {"request": "Help me reset my password"})
        events = [event async for event in client.runs.stream(done.run_id or "")]
    assert done.result["answer"]
    assert [event["agent"] for event in events if event["type"] == "task_start"] == ["triager"]


async def test_what_sessions_keep_and_what_is_dispatched_to_them(tmp_path: Path) -> None:
    async with served(tmp_path, "sessions") as worker:
        async with AsyncClient(base_url=worker.url) as client:
            await client.agents.invoke("notebook", "ann", "My favourite tea is Assam.")
            people = {"people": ["ann", "bob"], "note": "The shop closes at six."}
            done = await client.workflows.invoke("remind", people)
            assert sorted(done.result) == ["ann", "bob"]
        await asyncio.to_thread(worker.kill)
        await asyncio.to_thread(worker.start)
        async with AsyncClient(base_url=worker.url) as client:
            remembered = await client.agents.invoke("notebook", "ann", "What is my favourite tea?")
        assert "Assam" in (remembered.text or "")


async def test_reporter_and_its_shell(tmp_path: Path) -> None:
    async with served(tmp_path, "reporter") as worker, AsyncClient(base_url=worker.url) as client:
        done = await client.workflows.invoke("reporter", {"topic": "onboarding"})
    assert "Use bullet points" in done.result["report"]


async def test_support_and_its_articles(tmp_path: Path) -> None:
    async with served(tmp_path, "support") as worker, AsyncClient(base_url=worker.url) as client:
        done = await client.workflows.invoke("support", {"message": "I forgot my password"})
    assert "account settings page" in done.result["response"]


def test_every_example_has_the_same_packages_and_is_listed() -> None:
    listed = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    for folder in sorted(path for path in EXAMPLES.iterdir() if path.is_dir()):
        assert f"`cloudflare/{folder.name}`" in listed
        wanted = json.loads((folder / "package.json").read_text(encoding="utf-8"))["devDependencies"]
        assert wanted == {"pyodide": "314.0.6", "wrangler": "^4.164.0"}

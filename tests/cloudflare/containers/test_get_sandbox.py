"""`get_sandbox` in agents of a project, over the stand-in of the platform."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from flue.cloudflare import get_sandbox
from flue.errors import DefinitionError
from flue.testing import call
from tests.cloudflare.containers.control_server import ControlServer
from tests.cloudflare.containers.namespace import Namespace
from tests.cloudflare.site import Site, model, site
from tests.engine.scenes import texts

AGENT = """
    from flue import create_agent
    from flue.cloudflare import get_sandbox
    from tests.cloudflare.site import model

    route = True
    agent = create_agent(lambda ctx: {{"model": model(), "sandbox": {sandbox}}})
"""


@pytest.fixture
def server() -> Iterator[ControlServer]:
    server = ControlServer()
    yield server
    server.close()


@pytest.fixture(params=[False, True], ids=["without-sessions", "sessions-only"])
def namespace(request: pytest.FixtureRequest, server: ControlServer) -> Namespace:
    return Namespace(server, sessions_only=request.param)


@pytest.fixture
async def cloud(tmp_path: Path, namespace: Namespace) -> AsyncIterator[Site]:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "AGENTS.md").write_text("Be brief.")
    variables = {"Sandbox": namespace, "CWD": str(tmp_path / "work")}
    # Time must not jump while commands really run.
    async with site(tmp_path / "project", variables=variables, auto=False) as made:
        yield made


@pytest.mark.parametrize(
    "sandbox",
    [
        'get_sandbox(ctx.env["Sandbox"], ctx.id, cwd=ctx.env["CWD"])',
        "lambda: get_sandbox(ctx.env.Sandbox, ctx.id, cwd=ctx.env.CWD, sleep_after='1h')",
    ],
    ids=["value", "function"],
)
async def test_an_agent_works_in_the_container_of_its_id(
    cloud: Site, namespace: Namespace, tmp_path: Path, sandbox: str
) -> None:
    model().add(
        call("write", {"path": "src/hello.txt", "content": "hello\n"}),
        call("bash", {"command": "cat src/hello.txt; echo problem >&2; exit 3"}),
        "Done.",
    )
    await cloud.deploy_project({"agents/coder.py": AGENT.format(sandbox=sandbox)})
    answer = await cloud.call("POST", "/agents/coder/ann", json={"message": "Say hello"})
    assert (answer.status, answer.json["result"]["text"]) == (200, "Done.")
    assert (tmp_path / "work" / "src" / "hello.txt").read_text() == "hello\n"
    assert set(namespace.names) == {"ann"}
    [_, _, _, _, result, *_] = texts(await cloud.said("coder", "ann"))
    assert "hello" in result
    assert "problem" in result
    assert "Be brief." in model().requests[0].system


async def test_the_model_is_told_when_the_container_has_started_anew(cloud: Site, seen: Path) -> None:
    model().add(call("write", {"path": "notes.txt", "content": "x"}), "Written.", "Still there.", "Let me look.")
    sandbox = 'get_sandbox(ctx.env["Sandbox"], ctx.id, cwd=ctx.env["CWD"])'
    await cloud.deploy_project({"agents/coder.py": AGENT.format(sandbox=sandbox)})
    for restarted in (False, False, True):
        if restarted:
            for marker in seen.iterdir():
                marker.unlink()
        answer = await cloud.call("POST", "/agents/coder/ann", json={"message": "And now?"})
        assert answer.status == 200
    told = ["new sandbox" in text for text in texts(await cloud.said("coder", "ann")) if text.startswith("user:")]
    assert told == [False, False, True]


async def test_a_stub_given_as_the_sandbox_is_a_container_in_its_workspace(
    cloud: Site, caplog: pytest.LogCaptureFixture
) -> None:
    await cloud.deploy_project({"agents/coder.py": AGENT.format(sandbox="ctx.env.Sandbox.get(ctx.id)")})
    await cloud.call("POST", "/agents/coder/ann", json={"message": "Say hello"})
    # This machine has no such directory.
    assert "The agent's container has no directory /workspace" in caplog.text


async def test_a_binding_that_is_missing_is_named(cloud: Site, caplog: pytest.LogCaptureFixture) -> None:
    await cloud.deploy_project({"agents/coder.py": AGENT.format(sandbox="get_sandbox(ctx.env.get('Box'), ctx.id)")})
    await cloud.call("POST", "/agents/coder/ann", json={"message": "Say hello"})
    assert "no Durable Object namespace" in caplog.text


@pytest.mark.parametrize("id", ["", "x" * 64, "-x", "x-", "www", "Admin", 7], ids=lambda value: repr(value)[:12])
def test_an_id_that_the_package_would_refuse_is_refused(namespace: Namespace, id: Any) -> None:
    with pytest.raises(DefinitionError, match="cannot name a container") as caught:
        get_sandbox(namespace, id)
    assert caught.value.code == "invalid_sandbox_id"
    assert caught.value.hint


def test_ids_are_taken_as_they_are_unless_they_shall_be_host_names(namespace: Namespace) -> None:
    assert repr(get_sandbox(namespace, "Ann:1")) == '<Container "Ann:1">'
    assert repr(get_sandbox(namespace, "Ann:1", normalize_id=True)) == '<Container "ann:1">'


def test_options_are_the_packages(namespace: Namespace) -> None:
    box = get_sandbox(
        namespace,
        "ann",
        sleep_after=90,
        keep_alive=False,
        container_timeouts={"portReadyTimeoutMS": 1000},
        transport="http",
        labels={"team": "a"},
    )
    assert box._options == {
        "sandboxName": {"name": "ann", "normalizeId": False},
        "sleepAfter": 90,
        "keepAlive": False,
        "containerTimeouts": {"portReadyTimeoutMS": 1000},
        "transport": "http",
        "labels": {"team": "a"},
    }

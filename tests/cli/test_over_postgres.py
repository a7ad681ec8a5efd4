"""The commands over a Postgres that `FLUE_DATABASE_URL` names, several at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.cli.conftest import Child, Flue, Write
from tests.stores.postgres_server import INSTALL, PostgresServer, find_binaries

BINARIES = find_binaries()
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(BINARIES is None, reason=f"needs Postgres 15 or newer: {INSTALL}"),
]
AGENT = 'from flue import create_agent\nagent = create_agent(model="ollama/test")\n'


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    assert BINARIES is not None
    running = PostgresServer(BINARIES)
    running.start()
    yield running
    running.stop()


def test_run_logs_and_connect_share_a_database(
    flue: Flue, write: Write, spawn: Callable[..., Child], provider: Any, server: PostgresServer
) -> None:
    env = f"{provider.env_file}FLUE_DATABASE_URL={server.url}\n"
    root = write({"workflows/w.py": "async def run(ctx): return ctx.id\n", "agents/a.py": AGENT, ".env": env})
    run_id = json.loads(flue("run", "w").out)
    assert f"run:end    {run_id}  ok" in flue("logs", "--local", run_id).err
    first, second = spawn("connect", "a", "ann"), spawn("connect", "a", "ann")
    for number in range(3):
        for name, child in (("first", first), ("second", second)):
            child.type(f"[[say {name} {number}.]]\n")
    for name, child in (("first", first), ("second", second)):
        assert child.process.stdin is not None
        child.process.stdin.close()
        child.process.stdin = None
        done = child.finish()
        assert done.code == 0, done.err
        assert [json.loads(line)["text"] for line in done.out.splitlines()] == [f"{name} {n}." for n in range(3)]
    assert len(provider.server.requests[-1].json["messages"]) >= 11, "one conversation of both"
    assert not (root / ".flue-data").exists()

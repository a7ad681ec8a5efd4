"""What a project's configuration says of its event log is what its server keeps and tells."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from flue.server.app import admin, asgi
from tests.server.asgi_client import Client

SECRET = "canary-5c1d"
BOOM = f"""
route = True
async def run(ctx):
    ctx.log.info("a long line", {{"text": "x" * 5000}})
    raise ValueError("{SECRET}")
"""


@pytest.fixture
def project(tmp_path: Path) -> Callable[[str], Path]:
    """Write a project with this configuration and a workflow that fails."""

    def write(config: str) -> Path:
        (tmp_path / "workflows").mkdir()
        (tmp_path / "workflows" / "boom.py").write_text(BOOM, encoding="utf-8")
        (tmp_path / "flue.toml").write_text(config, encoding="utf-8")
        return tmp_path

    return write


@pytest.mark.parametrize("redacted", [True, False])
async def test_errors_are_withheld_from_clients_where_the_project_says_so(
    project: Callable[[str], Path], redacted: bool
) -> None:
    root = project('[log]\nerrors = "redacted"\n' if redacted else "")
    app = asgi(root)
    client = Client(app)
    failed = await client.post("/workflows/boom?wait=result", {})
    run = f"/runs/{failed.headers['x-flue-run-id']}"
    told = [failed, await client.get(run), await client.get(f"{run}/events"), await client.get(f"{run}/stream")]
    assert [SECRET in answer.body.decode() for answer in told] == [False, not redacted, not redacted, not redacted]
    assert json.loads(told[1].body)["error"]["name"] == "ValueError"
    assert SECRET in (await Client(admin(app)).get(run)).body.decode()
    await app.application.drain()


async def test_fields_are_cut_where_the_project_says_so(project: Callable[[str], Path]) -> None:
    app = asgi(project("[log]\nfield_limit = 1000\n"))
    client = Client(app)
    failed = await client.post("/workflows/boom?wait=result", {})
    page = await client.get(f"/runs/{failed.headers['x-flue-run-id']}/events?types=log")
    (event,) = json.loads(page.body)["events"]
    assert event["attributes"]["truncated"] is True
    assert event["message"] == "a long line"
    await app.application.drain()


async def test_times_to_keep_reach_the_engine(project: Callable[[str], Path]) -> None:
    app = asgi(project('[keep]\nruns = "forever"\nkeys = "90d"\n'))
    keep = (await app.application.service()).engine.settings.keep
    assert (keep.runs, keep.keys) == (None, 90 * 86_400.0)
    await app.application.drain()

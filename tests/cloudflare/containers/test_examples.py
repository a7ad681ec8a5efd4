"""The examples with containers: built with real packages, taken by Wrangler, and their Worker in `wrangler dev`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flue.cloudflare.container.sandbox import ContainerSandbox
from tests.build.cloudflare.test_worker_dry_run import build
from tests.build.cloudflare.tools import ROOT, dry_run, link_npm_packages
from tests.cloudflare.containers.control_http import served_containers
from tests.cloudflare.containers.wrangler_dev import stand_in, wrangler_dev

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
EXAMPLES = {
    "assistant": {"Sandbox": ("Sandbox", "Dockerfile")},
    "two-images": {
        "PyBox": ("PyBoxSandbox", "docker/python.Dockerfile"),
        "NodeBox": ("NodeSandbox", "docker/node.Dockerfile"),
    },
    "egress": {"Sandbox": ("GitHubSandbox", "Dockerfile")},
}


def built(tmp_path: Path, example: str) -> Path:
    """Return a copy of an example that was built."""
    made_by_runs = shutil.ignore_patterns("dist", "node_modules", ".wrangler", "__pycache__", "python_modules")
    root = tmp_path / example
    shutil.copytree(ROOT / "examples" / "cloudflare" / example, root, ignore=made_by_runs)
    link_npm_packages(root)
    build(root)
    return root


@pytest.mark.parametrize("example", EXAMPLES)
def test_both_workers_of_an_example_can_be_deployed(tmp_path: Path, example: str) -> None:
    root = built(tmp_path, example)
    first = dry_run(root, tmp_path / "home")
    second = dry_run(root, tmp_path / "home", "-c", "dist/sandboxes/wrangler.json")
    for binding, (class_name, image) in EXAMPLES[example].items():
        assert f"env.{binding} ({class_name}, defined in " in first
        assert f"({class_name})" in second
        assert str(root / image) in second


# SBX-15
async def test_the_token_of_the_egress_example_is_for_its_hosts_over_https_only(tmp_path: Path) -> None:
    root = built(tmp_path, "egress")
    (root / "dist/sandboxes/.dev.vars").write_text("GITHUB_TOKEN=token-of-github\n")
    with served_containers("0.12.10") as containers:
        stand_in(root, containers_url=containers.url)
        with wrangler_dev(root) as bridge:
            box = ContainerSandbox(bridge.stub("Sandbox", "ann"), "Container", str(tmp_path), {})
            env = await box.create_session_env(id="ann")
            assert "token-of-github" not in (await env.exec("env")).stdout
            plain = await box.call("outgoing", "http://api.github.com/user", {})
            assert plain == {"intercepted": True, "status": 403, "body": "https only"}
            elsewhere = await box.call("outgoing", "https://example.com/", {})
            assert (elsewhere["intercepted"], elsewhere["status"]) == (True, 520)

"""Wrangler itself takes the merged configurations; without a network, nothing is deployed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flue.build.wrangler.environment import GLOBAL, INHERITED, relocate, select_environment
from flue.build.wrangler.jsonc import read_jsonc, write_jsonc
from flue.build.wrangler.merge import Merged
from tests.build.cloudflare.conftest import Deploy
from tests.build.cloudflare.samples import CLASSES, ONE_SANDBOX, OUTBOUND, TWO_SANDBOXES, additions, javascript, merge
from tests.build.cloudflare.tools import WRANGLER

ENTRY = "from workers import DurableObject, Response, WorkerEntrypoint\n" + "".join(
    f"class {name}(DurableObject): pass\n" for name in [found.class_name for found in CLASSES]
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def write_project(root: Path, user: dict[str, Any], merged: Merged, environment: str | None = None) -> None:
    """Write what a build writes: both configurations below dist/, entries, and the redirection for Wrangler."""
    texts = {"wrangler.jsonc": write_jsonc(user), "dist/worker/src/entry.py": ENTRY}
    chosen = relocate(select_environment(merged.document, environment), "../..")
    texts["dist/worker/wrangler.json"] = write_jsonc(chosen)
    if merged.sandboxes:
        # Wrangler is told of this one by name, not redirected to it, and then chooses the environment itself.
        texts["dist/sandboxes/wrangler.json"] = write_jsonc(relocate(merged.sandboxes.document, "../.."))
        texts["dist/sandboxes/sandboxes.js"] = merged.sandboxes.entry("../../.flue/cloudflare.js")
        texts[".flue/cloudflare.js"] = OUTBOUND
        texts |= dict.fromkeys(("Dockerfile", "docker/python.Dockerfile", "docker/node.Dockerfile"), "FROM scratch\n")
        (root / "node_modules").symlink_to(WRANGLER / "node_modules")
    texts[".wrangler/deploy/config.json"] = json.dumps({"configPath": "../../dist/worker/wrangler.json"})
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


def test_a_project_without_a_configuration_can_be_deployed_from_its_root(deploy: Deploy, tmp_path: Path) -> None:
    write_project(tmp_path, {"name": "my-agent"}, merge({}, additions(bytecode=True)))
    printed = deploy()
    assert "Using redirected Wrangler configuration" in printed
    for binding in ("env.Assistant (Assistant)", "env.FLUE_REGISTRY (FlueRegistry)"):
        assert binding in printed


@pytest.mark.parametrize("text", [ONE_SANDBOX, TWO_SANDBOXES], ids=["one-sandbox", "two-sandboxes"])
def test_both_workers_of_the_guides_examples_can_be_deployed(deploy: Deploy, tmp_path: Path, text: str) -> None:
    user = read_jsonc(text)
    write_project(tmp_path, user, merge(user, additions()))
    assert "defined in my-agent-sandboxes" in deploy()
    printed = deploy("-c", "dist/sandboxes/wrangler.json")
    for container in user["containers"]:
        assert f"({container['class_name']})" in printed
        assert str(tmp_path / container["image"]) in printed


def test_an_environment_and_a_class_of_the_users_own_can_be_deployed(deploy: Deploy, tmp_path: Path) -> None:
    block = {
        "durable_objects": {"bindings": [{"name": "Box", "class_name": "MySandbox"}]},
        "migrations": [{"tag": "v1", "new_sqlite_classes": ["MySandbox"]}],
        "containers": [{"class_name": "MySandbox", "image": "./Dockerfile"}],
        "vars": {"LEVEL": "1"},
    }
    user = {"name": "agent", **block, "env": {"staging": block}}
    write_project(tmp_path, user, merge(user, additions(own=javascript("MySandbox"))), "staging")
    assert "env.Box (MySandbox, defined in agent-staging-sandboxes)" in deploy("--env", "staging")
    printed = deploy("-c", "dist/sandboxes/wrangler.json", "--env", "staging", "--outdir", "out")
    assert "- agent-staging-sandboxes-mysandbox-staging (" in printed
    built = (tmp_path / "dist/sandboxes/out/sandboxes.js").read_text(encoding="utf-8")
    assert "api.github.com" in built
    assert "ContainerProxy" in built


def test_declarative_exports_can_be_deployed(deploy: Deploy, tmp_path: Path) -> None:
    user = {
        "name": "agent",
        "durable_objects": {"bindings": [{"name": "S", "class_name": "Sandbox"}]},
        "exports": {"Sandbox": {"type": "durable-object", "storage": "sqlite", "container": "box"}},
        "containers": [{"name": "box", "image": "./Dockerfile"}],
    }
    write_project(tmp_path, user, merge(user, additions()))
    assert "defined in agent-sandboxes" in deploy()
    assert "- box (" in deploy("-c", "dist/sandboxes/wrangler.json")


def test_what_environments_inherit_is_what_wrangler_says_in_its_schema(node: str) -> None:
    schema = json.loads((WRANGLER / "node_modules/wrangler/config-schema.json").read_text(encoding="utf-8"))
    block = schema["definitions"]["RawEnvironment"]["properties"]
    everything = schema["definitions"]["RawConfig"]["properties"].keys()
    notes = ("not automatically inherited", "must be specified separately in each named environment")
    inherited = {key for key, value in block.items() if not any(note in value.get("description", "") for note in notes)}
    # The first two and the last lack the note that their neighbours have, but are not inherited either, or not as they
    # are: an environment's name gets its own name behind it.
    assert inherited - {"durable_objects", "version_metadata", "name"} == INHERITED
    assert everything - block.keys() - {"env", "pages_build_output_dir"} == GLOBAL

from __future__ import annotations

from typing import Any

import pytest

from flue.build.wrangler.additions import Additions
from flue.build.wrangler.jsonc import read_jsonc
from flue.build.wrangler.own_exports import OwnExports, javascript_names
from flue.build.wrangler.sandbox_worker import SandboxWorker
from flue.errors import ConfigError
from tests.build.cloudflare.samples import (
    FLUE_BINDINGS,
    FLUE_MIGRATIONS,
    ONE_SANDBOX,
    OUTBOUND,
    TWO_SANDBOXES,
    additions,
    bindings,
    javascript,
    merge,
)


def divided(user: dict[str, Any], added: Additions | None = None) -> tuple[dict[str, Any], SandboxWorker]:
    """Return the first Worker's configuration and the second Worker."""
    merged = merge(user, added or additions())
    assert merged.sandboxes
    return merged.document, merged.sandboxes


def test_the_guides_sandbox_moves_to_a_worker_of_its_own() -> None:
    first, second = divided(read_jsonc(ONE_SANDBOX))
    assert first["durable_objects"]["bindings"] == [
        {"class_name": "Sandbox", "name": "Sandbox", "script_name": "my-agent-sandboxes"},
        *FLUE_BINDINGS,
    ]
    assert first["migrations"] == FLUE_MIGRATIONS
    assert "containers" not in first
    assert second.document == {
        "$schema": "https://workers.cloudflare.com/schema/wrangler.json",
        "name": "my-agent-sandboxes",
        "main": "sandboxes.js",
        "compatibility_date": "2026-09-08",
        "compatibility_flags": ["nodejs_compat"],
        "workers_dev": False,
        "preview_urls": False,
        "durable_objects": {"bindings": [{"class_name": "Sandbox", "name": "Sandbox"}]},
        "migrations": [{"tag": "v1", "new_sqlite_classes": ["Sandbox"]}],
        "containers": [{"class_name": "Sandbox", "image": "./Dockerfile"}],
    }
    assert second.entry("unused").splitlines()[:3] == [
        "export { ContainerProxy } from '@cloudflare/sandbox';",
        "import * as sandbox from '@cloudflare/sandbox';",
        "export class Sandbox extends sandbox.Sandbox {}",
    ]
    assert second.notices == ()


def test_the_guides_two_sandboxes_are_both_the_packages_class() -> None:
    user = read_jsonc(TWO_SANDBOXES)
    first, second = divided(user)
    scripts = {binding["name"]: binding.get("script_name") for binding in first["durable_objects"]["bindings"]}
    assert (scripts["PyBox"], scripts["NodeBox"], scripts["Assistant"]) == (*["my-agent-sandboxes"] * 2, None)
    assert {key: second.document[key] for key in user} == user
    assert "export class PyBoxSandbox extends sandbox.Sandbox {}" in second.entry("x")
    assert "export class NodeSandbox extends sandbox.Sandbox {}" in second.entry("x")


def test_the_guides_class_with_outbound_rules_is_the_users_own() -> None:
    names, _ = javascript_names(OUTBOUND)
    _, second = divided(bindings("MySandbox", "Sandbox"), additions(own=javascript(*names)))
    lines = second.entry("../../.flue/cloudflare.js").splitlines()
    assert 'export { MySandbox } from "../../.flue/cloudflare.js";' in lines
    assert "export class Sandbox extends sandbox.Sandbox {}" in lines
    assert not [line for line in lines if "class MySandbox" in line]


@pytest.mark.parametrize("name", ["Sandboxes", "mysandbox", "SANDBOX", "SandboxBox"])
def test_only_the_exact_suffix_makes_a_class_a_sandbox(name: str) -> None:
    with pytest.raises(ConfigError, match=f"nothing defines {name}"):
        merge(bindings(name), additions())


def test_a_python_class_of_the_users_wins_over_the_suffix() -> None:
    user = bindings("FakeSandbox", migrations=[{"tag": "v1", "new_sqlite_classes": ["FakeSandbox"]}])
    merged = merge(user, additions(own=OwnExports(python=frozenset({"FakeSandbox"}))))
    assert merged.sandboxes is None
    assert merged.document["migrations"] == [*user["migrations"], *FLUE_MIGRATIONS]


def test_a_class_of_another_worker_stays_where_it_is() -> None:
    user = {"durable_objects": {"bindings": [{"name": "S", "class_name": "Sandbox", "script_name": "shared"}]}}
    merged = merge(user, additions(sandbox_package=False))
    assert merged.sandboxes is None
    assert merged.document["durable_objects"]["bindings"][0] == user["durable_objects"]["bindings"][0]


def test_any_class_that_the_javascript_module_exports_moves() -> None:
    first, second = divided(bindings("Counter"), additions(own=javascript("Counter"), sandbox_package=False))
    assert first["durable_objects"]["bindings"][0]["script_name"] == "my-agent-sandboxes"
    assert second.entry("./own.js").splitlines()[0] == 'export { Counter } from "./own.js";'
    assert "@cloudflare/sandbox" not in second.entry("./own.js")
    (notice,) = second.notices
    assert notice == 'migrations: none creates Counter; add "new_sqlite_classes": ["Counter"]'


def test_a_proxy_of_the_users_own_replaces_the_packages() -> None:
    own = javascript("MySandbox", "ContainerProxy")
    _, second = divided(bindings("MySandbox"), additions(own=own))
    assert second.entry("x").splitlines()[0] == 'export { MySandbox, ContainerProxy } from "x";'
    assert "'@cloudflare/sandbox'" not in second.entry("x")


def test_how_containers_run_in_development_is_told_to_the_worker_that_has_them() -> None:
    user = bindings("Sandbox", dev={"enable_containers": False, "port": 3583})
    first, second = divided(user)
    assert second.document["dev"] == {"enable_containers": False}
    assert first["dev"] == user["dev"]


def test_migrations_are_divided_step_by_step() -> None:
    user = bindings(
        "NewSandbox",
        "Counter",
        migrations=[
            {"tag": "v1", "new_sqlite_classes": ["Counter", "Box"], "new_classes": ["GoneSandbox"]},
            {"tag": "v2", "renamed_classes": [{"from": "Box", "to": "NewSandbox"}]},
            {"tag": "v3", "deleted_classes": ["GoneSandbox", "Junk"]},
        ],
    )
    first, second = divided(user, additions(own=OwnExports(python=frozenset({"Counter"}))))
    assert first["migrations"] == [
        {"tag": "v1", "new_sqlite_classes": ["Counter"]},
        {"tag": "v3", "deleted_classes": ["Junk"]},
        *FLUE_MIGRATIONS,
    ]
    assert second.document["migrations"] == [
        {"tag": "v1", "new_sqlite_classes": ["Box"], "new_classes": ["GoneSandbox"]},
        {"tag": "v2", "renamed_classes": [{"from": "Box", "to": "NewSandbox"}]},
        {"tag": "v3", "deleted_classes": ["GoneSandbox"]},
    ]


def test_exports_and_the_containers_they_name_move_too() -> None:
    live = {"type": "durable-object", "storage": "sqlite"}
    user = bindings(
        "Sandbox",
        exports={"Sandbox": {**live, "container": "box"}, "Counter": live},
        containers=[{"name": "box", "image": "./Dockerfile"}, {"name": "other", "image": "./x"}],
    )
    first, second = divided(user)
    assert set(first["exports"]) == {"Counter", "Assistant", "TranslateWorkflow", "FlueRegistry"}
    assert first["containers"] == [{"name": "other", "image": "./x"}]
    assert second.document["exports"] == {"Sandbox": {**live, "container": "box"}}
    assert second.document["containers"] == [{"name": "box", "image": "./Dockerfile"}]
    assert second.notices == ()


def test_declarative_exports_stay_so_when_all_of_them_move() -> None:
    user = bindings("Sandbox", exports={"Sandbox": {"type": "durable-object", "storage": "sqlite"}})
    first, _ = divided(user)
    assert set(first["exports"]) == {"Assistant", "TranslateWorkflow", "FlueRegistry"}
    assert "migrations" not in first


def test_each_environment_has_a_second_worker_named_after_its_first() -> None:
    block = bindings("Sandbox", containers=[{"class_name": "Sandbox", "image": "./D"}])
    named = {**block, "name": "live", "compatibility_flags": ["nodejs_als"], "compatibility_date": "2026-10-10"}
    user = {**block, "name": "agent", "env": {"staging": block, "prod": named, "bare": {}}}
    first, second = divided(user)
    scripts = {name: part["durable_objects"]["bindings"][0].get("script_name") for name, part in first["env"].items()}
    assert scripts == {"staging": "agent-staging-sandboxes", "prod": "live-sandboxes", "bare": None}
    environments = second.document["env"]
    assert {name: part["name"] for name, part in environments.items()} == {
        "staging": "agent-staging-sandboxes",
        "prod": "live-sandboxes",
        "bare": "agent-bare-sandboxes",
    }
    assert environments["staging"]["containers"] == block["containers"]
    assert environments["prod"]["compatibility_flags"] == ["nodejs_als", "nodejs_compat"]
    assert environments["prod"]["compatibility_date"] == "2026-10-10"
    assert "containers" not in first["env"]["staging"]


def test_an_environment_whose_only_migrations_move_keeps_a_list_of_its_own() -> None:
    step = [{"tag": "v1", "new_sqlite_classes": ["Sandbox"]}]
    first, second = divided(bindings("Sandbox", env={"a": bindings("Sandbox", migrations=step)}))
    assert first["env"]["a"]["migrations"] == FLUE_MIGRATIONS
    assert second.document["env"]["a"]["migrations"] == step
    assert second.notices == ('migrations: none creates Sandbox; add "new_sqlite_classes": ["Sandbox"]',)


def test_the_second_worker_shares_variables_and_the_account_and_bindings_only_with_own_classes() -> None:
    more = {
        "account_id": "abc",
        "vars": {"SANDBOX_LOG_LEVEL": "debug"},
        "kv_namespaces": [{"binding": "KV", "id": "1"}],
        "routes": ["a.example/*"],
        "triggers": {"crons": ["* * * * *"]},
    }
    _, plain = divided(bindings("Sandbox", **more))
    assert {key for key in more if key in plain.document} == {"account_id", "vars"}
    _, own = divided(bindings("MySandbox", **more), additions(own=javascript("MySandbox")))
    assert {key for key in more if key in own.document} == {"account_id", "vars", "kv_namespaces"}


def test_a_container_class_needs_no_binding() -> None:
    first, second = divided({"containers": [{"class_name": "Sandbox", "image": "./D"}]})
    assert "containers" not in first
    assert second.document["containers"] == [{"class_name": "Sandbox", "image": "./D"}]

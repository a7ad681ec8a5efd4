from __future__ import annotations

from typing import Any

import pytest

from flue.build.wrangler.environment import relocate, select_environment
from flue.errors import ConfigError

DOCUMENT: dict[str, Any] = {
    "$schema": "s",
    "name": "agent",
    "compatibility_date": "2026-09-08",
    "vars": {"A": 1},
    "migrations": [{"tag": "v1"}],
    "keep_vars": True,
    "routes": ["a"],
    "env": {"staging": {"kv_namespaces": [], "migrations": []}, "prod": {"name": "live", "route": "b"}},
}


def test_the_top_level_is_what_stands_outside_of_environments() -> None:
    selected = select_environment(DOCUMENT, None)
    assert selected.pop("topLevelName") == "agent"
    assert selected.pop("definedEnvironments") == ["staging", "prod"]
    assert selected == {key: value for key, value in DOCUMENT.items() if key != "env"}


def test_an_environment_inherits_settings_and_no_bindings() -> None:
    assert select_environment(DOCUMENT, "staging") == {
        "$schema": "s",
        "name": "agent-staging",
        "compatibility_date": "2026-09-08",
        "migrations": [],
        "keep_vars": True,
        "routes": ["a"],
        "kv_namespaces": [],
        "topLevelName": "agent",
        "definedEnvironments": ["staging", "prod"],
        "targetEnvironment": "staging",
    }


def test_an_environment_may_have_a_name_of_its_own_and_inherited_routes_win_over_one_route() -> None:
    selected = select_environment(DOCUMENT, "prod")
    assert (selected["name"], selected["routes"]) == ("live", ["a"])
    assert "route" not in selected


@pytest.mark.parametrize("document", [DOCUMENT, {"name": "a"}])
def test_an_environment_that_is_not_there_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match='no environment "test"') as caught:
        select_environment(document, "test")
    assert caught.value.code == "invalid_wrangler"


def test_a_document_without_environments_is_selected_as_it_is() -> None:
    assert select_environment({"name": "a", "vars": {}}, None) == {"name": "a", "vars": {}}


def test_every_path_of_the_users_is_written_for_the_other_folder() -> None:
    user = {
        "$schema": "./node_modules/wrangler/config-schema.json",
        "main": "src/entry.py",
        "tsconfig": "tsconfig.json",
        "assets": {"directory": "./public", "binding": "ASSETS"},
        "site": {"bucket": "site"},
        "text_blobs": {"A": "a.txt"},
        "build": {"command": "make", "watch_dir": ["src", "/abs"]},
        "d1_databases": [{"binding": "DB", "migrations_dir": "sql", "migrations_pattern": "sql/*.sql"}],
        "containers": [
            {"class_name": "A", "image": "./docker/a.Dockerfile", "image_build_context": "."},
            {"class_name": "B", "image": "registry.cloudflare.com/me/b:1"},
            {"class_name": "C", "images": {"x": {"dockerfile": "./x", "build_context": "y"}, "z": {"image": "r/z:1"}}},
        ],
        "vars": {"PATH": "./not/a/path"},
        "env": {"a": {"assets": {"directory": "public-a"}, "previews": {"containers": [{"image": "Dockerfile"}]}}},
    }
    assert relocate(user, "../..") == {
        "$schema": "../../node_modules/wrangler/config-schema.json",
        "main": "src/entry.py",
        "tsconfig": "../../tsconfig.json",
        "assets": {"directory": "../../public", "binding": "ASSETS"},
        "site": {"bucket": "../../site"},
        "text_blobs": {"A": "../../a.txt"},
        "build": {"command": "make", "watch_dir": ["../../src", "/abs"]},
        "d1_databases": [{"binding": "DB", "migrations_dir": "../../sql", "migrations_pattern": "../../sql/*.sql"}],
        "containers": [
            {"class_name": "A", "image": "../../docker/a.Dockerfile", "image_build_context": "../.."},
            {"class_name": "B", "image": "registry.cloudflare.com/me/b:1"},
            {
                "class_name": "C",
                "images": {"x": {"dockerfile": "../../x", "build_context": "../../y"}, "z": {"image": "r/z:1"}},
            },
        ],
        "vars": {"PATH": "./not/a/path"},
        "env": {
            "a": {
                "assets": {"directory": "../../public-a"},
                "previews": {"containers": [{"image": "../../Dockerfile"}]},
            }
        },
    }


def test_an_address_of_a_schema_stays() -> None:
    assert relocate({"$schema": "https://x.example/s.json"}, "..") == {"$schema": "https://x.example/s.json"}

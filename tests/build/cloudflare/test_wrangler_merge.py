from __future__ import annotations

import copy
from typing import Any

import pytest

from flue.build.wrangler.environment import relocate
from flue.build.wrangler.jsonc import read_jsonc
from flue.build.wrangler.merge import SCHEMA, worker_name
from flue.build.wrangler.own_exports import OwnExports
from flue.errors import ConfigError
from tests.build.cloudflare.samples import (
    CLASSES,
    FLUE_BINDINGS,
    FLUE_MIGRATIONS,
    ONE_SANDBOX,
    additions,
    bindings,
    javascript,
    merge,
)


def refused(user: dict[str, Any], **more: Any) -> str:
    """Return the message of the error that a configuration is refused with."""
    with pytest.raises(ConfigError) as caught:
        merge(user, additions(**more), file="wrangler.toml")
    assert caught.value.code == "invalid_wrangler"
    assert caught.value.message.startswith("wrangler.toml cannot be used: ")
    return caught.value.message


def test_a_project_without_a_configuration_gets_a_whole_one() -> None:
    merged = merge({}, additions())
    assert merged.document == {
        "$schema": SCHEMA,
        "name": "my-agent",
        "main": "src/entry.py",
        "compatibility_date": "2026-09-08",
        "compatibility_flags": ["python_workers"],
        "durable_objects": {"bindings": FLUE_BINDINGS},
        "migrations": FLUE_MIGRATIONS,
    }
    assert (merged.sandboxes, merged.notices) == (None, ())


def test_the_users_data_stays_as_it_is() -> None:
    user = read_jsonc(ONE_SANDBOX)
    before = copy.deepcopy(user)
    merge(user, additions()).document["durable_objects"]["bindings"].clear()
    assert user == before


def test_a_function_that_looks_as_if_it_answered_requests_is_told_of() -> None:
    own = OwnExports(python=frozenset({"fetch", "queue"}))
    assert merge({}, additions(own=own)).notices == (
        "cloudflare.py: its function fetch is never called, as requests are answered by app.py",
    )


def test_environments_made_of_one_object_are_merged_apart() -> None:
    block: dict[str, Any] = {"containers": [{"image": "./D"}], "durable_objects": {"bindings": []}}
    merged = merge({"env": {"a": block, "b": block}}, additions()).document
    moved = relocate(merged, "..")["env"]
    assert [moved[name]["containers"][0]["image"] for name in "ab"] == ["../D", "../D"]
    assert [moved[name]["durable_objects"]["bindings"] for name in "ab"] == [FLUE_BINDINGS, FLUE_BINDINGS]


@pytest.mark.parametrize(
    ("text", "name"),
    [("My Agent!", "my-agent"), ("a_b", "a_b"), ("héé", "h"), ("---", "flue-agents"), ("", "flue-agents")],
)
def test_a_folders_name_becomes_a_workers_name(text: str, name: str) -> None:
    assert worker_name(text) == name


def test_an_older_date_is_raised_with_a_notice_and_a_newer_one_kept() -> None:
    merged = merge(
        {"compatibility_date": "2025-01-01", "env": {"a": {"compatibility_date": "2026-04-01"}}}, additions()
    )
    assert merged.document["compatibility_date"] == "2026-09-08"
    assert merged.document["env"]["a"]["compatibility_date"] == "2026-09-08"
    assert [notice.split(",")[0] for notice in merged.notices] == [
        "compatibility_date: raised from 2025-01-01 to 2026-09-08",
        "env.a.compatibility_date: raised from 2026-04-01 to 2026-09-08",
    ]
    kept = merge({"compatibility_date": "2026-10-01"}, additions())
    assert (kept.document["compatibility_date"], kept.notices) == ("2026-10-01", ())


@pytest.mark.parametrize("flags", [[], ["nodejs_compat"], ["python_workers", "nodejs_compat"]])
def test_the_python_flag_is_added_and_the_users_flags_are_kept(flags: list[str]) -> None:
    expected = flags if "python_workers" in flags else [*flags, "python_workers"]
    assert merge({"compatibility_flags": flags}, additions()).document["compatibility_flags"] == expected


def test_a_main_of_the_users_is_replaced_and_the_user_told() -> None:
    merged = merge({"main": "src/index.ts"}, additions())
    assert merged.document["main"] == "src/entry.py"
    assert merged.notices == ("main: src/index.ts is replaced by the Worker that Flue generates",)


def test_an_empty_unsafe_block_vanishes_and_a_full_one_stays() -> None:
    full: dict[str, Any] = {"bindings": []}
    merged = merge({"unsafe": {}, "env": {"a": {"unsafe": {}}, "b": {"unsafe": full}}}, additions()).document
    assert "unsafe" not in merged
    assert "unsafe" not in merged["env"]["a"]
    assert merged["env"]["b"]["unsafe"] == full


def test_bindings_are_added_where_their_names_are_absent() -> None:
    own = [{"name": "FLUE_REGISTRY", "class_name": "FlueRegistry"}, {"name": "CHAT", "class_name": "Assistant"}]
    merged = merge({"durable_objects": {"bindings": own, "code_update_strategy": "x"}}, additions()).document
    assert merged["durable_objects"] == {"bindings": [*own, *FLUE_BINDINGS[:2]], "code_update_strategy": "x"}


def test_each_environment_gets_the_entry_and_the_bindings_and_its_own_migrations_only_where_it_has_some() -> None:
    merged = merge({"env": {"a": {}, "b": {"migrations": []}}}, additions()).document["env"]
    assert merged["a"] == {"main": "src/entry.py", "durable_objects": {"bindings": FLUE_BINDINGS}}
    assert merged["b"] == {**merged["a"], "migrations": FLUE_MIGRATIONS}


def test_an_environment_that_loses_bindings_is_named() -> None:
    user = bindings("Counter", env={"a": {}, "b": bindings("Counter")})
    merged = merge(user, additions(own=OwnExports(python=frozenset({"Counter"}))))
    path = "env.a.durable_objects"
    assert merged.notices == (f"{path}: environments do not inherit bindings, so this one is without Counter",)


def test_classes_that_migrations_create_are_not_created_again() -> None:
    user = [
        {"tag": "v1", "new_sqlite_classes": ["Assistant", "OldWorkflow"]},
        {"tag": "v2", "renamed_classes": [{"from": "OldWorkflow", "to": "TranslateWorkflow"}]},
        {"tag": "v3", "transferred_classes": [{"from": "X", "from_script": "y", "to": "FlueRegistry"}]},
    ]
    assert merge({"migrations": user}, additions()).document["migrations"] == user


def test_classes_that_were_deleted_or_renamed_are_created_again_under_a_free_tag() -> None:
    user = [
        {"tag": "flue-class-Assistant", "new_sqlite_classes": ["Assistant", "FlueRegistry"]},
        {"tag": "v2", "deleted_classes": ["Assistant"], "renamed_classes": [{"from": "FlueRegistry", "to": "Old"}]},
    ]
    assert merge({"migrations": user}, additions()).document["migrations"] == [
        *user,
        {"tag": "flue-class-Assistant-2", "new_sqlite_classes": ["Assistant"]},
        *FLUE_MIGRATIONS[1:],
    ]


def test_a_class_with_key_value_storage_does_not_count_as_created_and_the_user_is_told() -> None:
    user = [{"tag": "v1", "new_classes": ["Assistant"]}]
    merged = merge({"migrations": user}, additions())
    assert merged.document["migrations"] == [*user, *FLUE_MIGRATIONS]
    (notice,) = merged.notices
    assert notice.startswith("migrations: Assistant is created with key-value storage, but Flue needs SQLite")


def test_recorded_migrations_keep_their_places_and_new_ones_come_last() -> None:
    recorded = {"": ("v1", "flue-class-TranslateWorkflow", "flue-class-Gone")}
    user = [{"tag": "v1", "new_sqlite_classes": ["Mine"]}, {"tag": "v2", "deleted_classes": ["Gone"]}]
    merged = merge({"migrations": user}, additions(recorded=recorded))
    expected = (*recorded[""], "v2", "flue-class-Assistant", "flue-class-FlueRegistry")
    assert tuple(step["tag"] for step in merged.document["migrations"]) == expected
    assert merged.document["migrations"][2] == {"tag": "flue-class-Gone", "new_sqlite_classes": ["Gone"]}
    assert merged.tags == {"": expected}


def test_exports_are_completed_in_place_of_migrations_where_the_user_has_them() -> None:
    mine = {"Mine": {"type": "durable-object", "storage": "sqlite"}}
    environments = {"a": {}, "b": {"exports": {"Other": {"type": "worker"}}}}
    merged = merge({"exports": mine, "env": environments}, additions()).document
    flue = {found.class_name: {"type": "durable-object", "storage": "sqlite"} for found in CLASSES}
    assert merged["exports"] == {**mine, **flue}
    assert merged["env"]["b"]["exports"] == {"Other": {"type": "worker"}, **flue}
    assert "exports" not in merged["env"]["a"]
    assert "migrations" not in merged


def test_compiled_modules_are_kept_unless_the_user_says_which_files_are_left_out() -> None:
    assert merge({}, additions(bytecode=True)).document["python_modules"] == {"exclude": []}
    own = {"exclude": ["**/*.pyc"]}
    merged = merge({"python_modules": own}, additions(bytecode=True))
    assert merged.document["python_modules"] == own
    assert merged.notices[0].startswith("python_modules.exclude: leaves compiled modules out")
    assert "python_modules" not in merge({}, additions()).document


def test_a_key_that_flue_does_not_know_passes_through() -> None:
    user = {"brand_new": {"x": [1, None, {"y": 2.5}]}, "routes": ["a.example/*"], "env": {"a": {"brand_new": 1}}}
    merged = merge(user, additions()).document
    assert {key: merged[key] for key in ("brand_new", "routes")} == {key: user[key] for key in ("brand_new", "routes")}
    assert merged["env"]["a"]["brand_new"] == 1


@pytest.mark.parametrize(
    ("user", "problem"),
    [
        ({"name": "My Agent"}, 'name: "My Agent" is not a Worker\'s name'),
        ({"compatibility_date": "2026-4-1"}, 'compatibility_date: "2026-4-1" is not a date written YYYY-MM-DD'),
        ({"compatibility_date": "2026-02-30"}, 'compatibility_date: "2026-02-30" is not a date'),
        ({"compatibility_date": 20260908}, "compatibility_date: int is not a date"),
        ({"compatibility_flags": "nodejs_compat"}, "compatibility_flags: must be a list of texts"),
        ({"compatibility_flags": ["no_python_workers_314"]}, "compatibility_flags: no_python_workers_314 switches off"),
        ({"base_dir": "x"}, "base_dir: not possible here"),
        ({"pages_build_output_dir": "x"}, "pages_build_output_dir: not possible here"),
        ({"find_additional_modules": False}, "find_additional_modules: must not be false"),
        ({"env": []}, "env: must be an object"),
        ({"env": {"a": 1}}, "env.a: must be an object"),
        ({"durable_objects": []}, "durable_objects: must be an object"),
        ({"durable_objects": {"bindings": {}}}, "durable_objects.bindings: must be a list"),
        ({"durable_objects": {"bindings": ["X"]}}, "durable_objects.bindings[0]: must be an object"),
        ({"durable_objects": {"bindings": [{"name": "X"}]}}, "durable_objects.bindings[0].class_name: must be text"),
        (bindings("Counter"), "durable_objects.bindings[0].class_name: nothing defines Counter"),
        (
            {"durable_objects": {"bindings": [{"name": "FLUE_REGISTRY", "class_name": "Mine"}]}},
            'durable_objects.bindings[0]: "FLUE_REGISTRY" is the binding of Flue\'s own class FlueRegistry',
        ),
        (
            {"durable_objects": {"bindings": [{"name": "Assistant", "class_name": "Assistant", "script_name": "x"}]}},
            'durable_objects.bindings[0]: "Assistant" is the binding of Flue\'s own class Assistant of this Worker',
        ),
        (
            {"durable_objects": {"bindings": [{"name": "A", "class_name": "B", "script_name": "x"}] * 2}},
            'durable_objects.bindings[1].name: "A" stands there 2 times',
        ),
        ({"vars": {"FLUE_REGISTRY": "1"}}, 'vars.FLUE_REGISTRY: "FLUE_REGISTRY" is the name of a binding'),
        ({"kv_namespaces": [{"binding": "Assistant"}]}, 'kv_namespaces[0].binding: "Assistant" is the name'),
        ({"ai": {"binding": "Assistant"}}, 'ai.binding: "Assistant" is the name'),
        ({"queues": {"producers": [{"binding": "Assistant"}]}}, 'queues.producers[0].binding: "Assistant" is'),
        ({"ratelimits": [{"name": "Assistant"}]}, 'ratelimits[0].name: "Assistant" is the name'),
        ({"migrations": {}}, "migrations: must be a list"),
        ({"migrations": [{"new_sqlite_classes": []}]}, "migrations[0].tag: must be text that is not empty"),
        ({"migrations": [{"tag": "a"}, {"tag": "a"}]}, 'migrations[1].tag: "a" stands there 2 times'),
        (
            {"migrations": [{"tag": "a", "new_classes": "X"}]},
            "migrations[0].new_classes: must be a list of class names",
        ),
        (
            {"migrations": [{"tag": "a", "renamed_classes": [{"from": "X"}]}]},
            "migrations[0].renamed_classes[0]: must have the class names `from` and `to`",
        ),
        ({"containers": {}}, "containers: must be a list"),
        ({"containers": [{"class_name": {}}]}, "containers[0].class_name: must be text"),
        ({"exports": []}, "exports: must be an object"),
        (
            {"exports": {"Assistant": {"type": "durable-object", "state": "deleted"}}},
            "exports.Assistant: this class of Flue's must be a live durable-object",
        ),
        (
            {"exports": {"X": {"type": "durable-object"}}, "env": {"a": {"migrations": [{"tag": "v1"}]}}},
            "env.a.migrations: cannot stand beside `exports`",
        ),
    ],
)
def test_what_cannot_be_built_on_is_refused_with_the_path_of_its_key(user: dict[str, Any], problem: str) -> None:
    assert problem in refused(user)


def test_the_same_is_refused_in_an_environment() -> None:
    assert "env.a.vars.FLUE_REGISTRY: " in refused({"env": {"a": {"vars": {"FLUE_REGISTRY": 1}}}})


def test_all_problems_are_in_one_error() -> None:
    user = {"name": "A", "compatibility_date": "x", "env": {"b": {"migrations": 1}}, **bindings("Counter")}
    message = refused(user)
    for path in ("name: ", "compatibility_date: ", "env.b.migrations: ", "durable_objects.bindings[0].class_name: "):
        assert path in message


def test_a_sandbox_class_without_the_package_is_refused_unless_the_user_defines_it() -> None:
    problem = refused(bindings("MySandbox"), sandbox_package=False)
    assert "durable_objects.bindings[0].class_name: MySandbox ends in Sandbox" in problem
    assert "npm install @cloudflare/sandbox" in problem
    assert merge(bindings("MySandbox"), additions(sandbox_package=False, own=javascript("MySandbox"))).sandboxes


def test_a_class_that_two_modules_define_is_refused() -> None:
    own = OwnExports(frozenset({"Box", "Assistant"}), False, frozenset({"Box"}), "cloudflare.js")
    assert "both cloudflare.py and cloudflare.js define Box" in refused(bindings("Box"), own=own)
    aliased = {"durable_objects": {"bindings": [{"name": "CHAT", "class_name": "Assistant"}]}}
    assert "Assistant is the class of a Flue agent or workflow" in refused(aliased, own=own)


def test_a_cloudflare_workflow_in_javascript_is_refused() -> None:
    user = {"workflows": [{"name": "w", "binding": "W", "class_name": "Job"}]}
    assert "workflows[0].class_name: Job is in .flue/cloudflare.js" in refused(user, own=javascript("Job"))
    assert merge(user, additions()).document["workflows"] == user["workflows"]


def test_a_star_import_may_bring_a_class_that_nothing_else_defines() -> None:
    merged = merge(bindings("Counter"), additions(own=OwnExports(open=True)))
    assert merged.document["durable_objects"]["bindings"][0] == {"name": "Counter", "class_name": "Counter"}

"""Whatever a user's configuration holds: merging again changes nothing, and nothing of the user's is lost."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flue.build.wrangler.environment import select_environment
from flue.build.wrangler.jsonc import write_jsonc
from flue.build.wrangler.merge import Merged
from flue.build.wrangler.own_exports import OwnExports
from tests.build.cloudflare.samples import FLUE_BINDINGS, additions, merge

PYTHON = ("Counter", "FakeSandbox", "Assistant")
JAVASCRIPT = ("MySandbox", "Box")
ADDED = additions(own=OwnExports(frozenset(PYTHON[:2]), False, frozenset(JAVASCRIPT), "cloudflare.js"), bytecode=True)
CLASS_NAMES = (*PYTHON, *JAVASCRIPT, "Sandbox", "PyBoxSandbox", "TranslateWorkflow")
STEPS = ("new_sqlite_classes", "new_classes", "deleted_classes")
# What the page on the configuration lists as changed; every other key has to come through as it is.
CHANGED = {
    "$schema",
    "main",
    "compatibility_date",
    "compatibility_flags",
    "durable_objects",
    "migrations",
    "containers",
}
CHANGED |= {"exports", "unsafe", "env"}

classes = st.sampled_from(CLASS_NAMES)
some_classes = st.lists(classes, max_size=3, unique=True)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=2),
    max_leaves=4,
)


def some(**values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return objects with any of the keys."""
    return st.fixed_dictionaries({}, optional=values)


@st.composite
def durable_objects(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(["B1", "B2", "B3", "FLUE_REGISTRY"]), max_size=4, unique=True))
    found: list[dict[str, str]] = []
    for name in names:
        if name == "FLUE_REGISTRY":
            found.append({"name": name, "class_name": "FlueRegistry"})
        else:
            script = {"script_name": "other"} if draw(st.booleans()) else {}
            found.append({"name": name, "class_name": draw(classes), **script})
    return {"bindings": found} if draw(st.booleans()) or found else {}


@st.composite
def migrations(draw: st.DrawFn) -> list[dict[str, Any]]:
    renames = st.lists(st.fixed_dictionaries({"from": classes, "to": classes}), max_size=2)
    steps = some(**dict.fromkeys(STEPS, some_classes), renamed_classes=renames)
    tags = draw(st.lists(st.sampled_from(["v1", "v2", "flue-class-Assistant"]), max_size=3, unique=True))
    return [{"tag": tag, **draw(steps)} for tag in tags]


def block_values() -> dict[str, st.SearchStrategy[Any]]:
    containers = st.lists(some(class_name=classes, name=st.sampled_from("pq"), image=st.just("./D")), max_size=3)
    return {
        "main": st.just("index.ts"),
        "compatibility_date": st.sampled_from(["2025-01-01", "2026-04-01", "2026-09-08", "2027-01-01"]),
        "compatibility_flags": st.lists(
            st.sampled_from(["nodejs_compat", "python_workers", "other"]), max_size=3, unique=True
        ),
        "durable_objects": durable_objects(),
        "migrations": migrations(),
        "containers": containers,
        "unsafe": st.sampled_from([{}, {"bindings": []}]),
        "vars": st.dictionaries(st.sampled_from(["A", "B"]), json_values, max_size=2),
        "kv_namespaces": st.lists(some(binding=st.sampled_from(["K1", "K2"])), max_size=2),
        "observability": json_values,
        "unheard_of": json_values,
        "python_modules": st.just({"exclude": ["x"]}),
    }


environments = some(staging=some(**block_values(), name=st.just("stage")), prod=some(**block_values()))
users = some(
    **block_values(), name=st.sampled_from(["a", "my-agent"]), env=environments, **{"$schema": st.just("./schema.json")}
)
# What draws so many parts is slow on a busy machine, which says nothing about the code.
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def parts(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "", document
    yield from document.get("env", {}).items()


def part_of(merged: Merged, environment: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a block of the first and of the second Worker's configuration."""
    second = merged.sandboxes.document if merged.sandboxes else {}
    if not environment:
        return merged.document, second
    return merged.document["env"][environment], second.get("env", {}).get(environment, {})


def steps_of(*lists: list[dict[str, Any]]) -> Counter[str]:
    """Return every single step of migrations, each with its tag."""
    return Counter(
        f"{migration['tag']} {key} {item}"
        for migrations in lists
        for migration in migrations
        for key, items in migration.items()
        if key != "tag"
        for item in items
    )


@quick
@given(users)
def test_merging_again_changes_nothing(user: dict[str, Any]) -> None:
    once = merge(user, ADDED)
    again = merge(once.document, ADDED)
    assert write_jsonc(again.document) == write_jsonc(once.document)
    assert again.sandboxes is None
    assert again.tags == once.tags


@quick
@given(users)
def test_the_same_input_gives_the_same_text_and_stays_as_it_is(user: dict[str, Any]) -> None:
    before = copy.deepcopy(user)
    first, second = merge(user, ADDED), merge(copy.deepcopy(user), ADDED)
    assert write_jsonc(first.document) == write_jsonc(second.document)
    assert first == second
    assert user == before


@quick
@given(users)
def test_every_key_that_is_not_listed_comes_through_untouched_and_in_order(user: dict[str, Any]) -> None:
    merged = merge(user, ADDED)
    for environment, block in parts(user):
        first, _ = part_of(merged, environment)
        kept = {key: value for key, value in block.items() if key not in CHANGED}
        assert {key: first[key] for key in kept} == kept
        order = [key for key in first if key in kept]
        assert order == list(kept)
        added = first.keys() - block.keys()
        assert added <= CHANGED | ({"name", "python_modules"} if not environment else set())


@quick
@given(users)
def test_the_users_flags_and_bindings_stay_in_front_and_no_date_falls(user: dict[str, Any]) -> None:
    merged = merge(user, ADDED)
    for environment, block in parts(user):
        first, second = part_of(merged, environment)
        flags = block.get("compatibility_flags", [])
        assert first.get("compatibility_flags", [])[: len(flags)] == flags
        assert first.get("compatibility_date", "9") >= max(block.get("compatibility_date", ""), "2026-09-08")
        own = block.get("durable_objects", {}).get("bindings", [])
        moved = second.get("durable_objects", {}).get("bindings", [])
        for before, after in zip(own, first["durable_objects"]["bindings"], strict=False):
            assert before == after or ({**before, "script_name": after["script_name"]} == after and before in moved)
        assert all(binding in first["durable_objects"]["bindings"] for binding in FLUE_BINDINGS)
        assert len(first["durable_objects"]["bindings"]) == len({*(b["name"] for b in own + FLUE_BINDINGS)})


@quick
@given(users)
def test_no_step_of_a_migration_and_no_container_is_lost_or_doubled(user: dict[str, Any]) -> None:
    merged = merge(user, ADDED)
    for environment, block in parts(user):
        first, second = part_of(merged, environment)
        own = steps_of(block.get("migrations", []))
        both = steps_of(first.get("migrations", []), second.get("migrations", []))
        assert own <= both
        # What is there beside creates classes of Flue's.
        assert all(step.startswith("flue-class-") and "new_sqlite_classes" in step for step in both - own)
        containers = first.get("containers", []) + second.get("containers", [])
        assert Counter(map(write_jsonc, containers)) == Counter(map(write_jsonc, block.get("containers", [])))


@quick
@given(users)
def test_every_class_of_flues_is_created_in_each_environment(user: dict[str, Any]) -> None:
    merged = merge(user, ADDED)
    for environment, _ in parts(user):
        effective = select_environment(merged.document, environment or None)
        tags = [migration["tag"] for migration in effective["migrations"]]
        assert len(tags) == len(set(tags))
        live: set[str] = set()
        for step in effective["migrations"]:
            moves = step.get("renamed_classes", [])
            live |= {*step.get("new_sqlite_classes", [])}
            for move in moves:
                live = (live - {move["from"]}) | {move["to"]}
            live -= {*step.get("deleted_classes", [])}
        assert {"Assistant", "TranslateWorkflow", "FlueRegistry"} <= live


@quick
@given(users)
def test_an_environment_that_says_nothing_is_like_the_top_level(user: dict[str, Any]) -> None:
    merged = merge({**user, "env": {"empty": {}}}, ADDED).document
    top, empty = select_environment(merged, None), select_environment(merged, "empty")
    inherited = ("main", "compatibility_date", "compatibility_flags", "migrations", "observability", "python_modules")
    assert {key: empty[key] for key in inherited if key in empty} == {key: top[key] for key in inherited if key in top}
    assert empty["durable_objects"]["bindings"] == FLUE_BINDINGS
    assert empty["name"] == f"{top['name']}-empty"

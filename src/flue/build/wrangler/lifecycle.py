"""Which Durable Object classes a configuration creates, and what to add so that it creates Flue's.

Cloudflare applies the migrations that follow the tag it applied last. A list sorted anew by each build would put a new
class before that tag, and it would never be created. `recorded` therefore holds the tags in the order in which earlier
builds listed them: they keep their places, and what is new comes last. Without it the order is: the user's migrations
as they are, then Flue's by class.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flue.build.wrangler.blocks import text_list

_OWN_TAG = re.compile(r"flue-class-(\w+?)(?:-\d+)?\Z")

Migration = Mapping[str, Any]

# What a migration may do: with classes, and with pairs of `from` and `to`.
STEPS = ("new_classes", "new_sqlite_classes", "deleted_classes")
MOVES = ("renamed_classes", "transferred_classes")


def created_classes(migrations: Iterable[Migration]) -> tuple[set[str], set[str]]:
    """Return the classes that stand after all migrations, and those of all classes that have key-value storage.

    A class of `new_classes` is only among the latter; what is renamed or transferred to a name counts as standing.
    """
    standing: set[str] = set()
    key_value: set[str] = set()
    for migration in migrations:
        standing.update(text_list(migration.get("new_sqlite_classes")))
        key_value.update(text_list(migration.get("new_classes")))
        for rename in _objects(migration, "renamed_classes"):
            standing.discard(rename["from"])
            standing.add(rename["to"])
            if rename["from"] in key_value:
                key_value.remove(rename["from"])
                key_value.add(rename["to"])
        standing.update(move["to"] for move in _objects(migration, "transferred_classes"))
        deleted = set(text_list(migration.get("deleted_classes")))
        standing -= deleted
        key_value -= deleted
    return standing, key_value


def with_created(migrations: Sequence[Migration], classes: Iterable[str], recorded: Sequence[str]) -> list[Migration]:
    """Return `migrations` with one more for each of `classes` that none creates, in an order that can be deployed."""
    ordered = _in_recorded_order(migrations, recorded)
    created, _ = created_classes(ordered)
    for name in sorted(set(classes) - created):
        ordered.append({"tag": _free_tag(name, ordered), "new_sqlite_classes": [name]})
    return ordered


def with_exported(exports: Mapping[str, Any], classes: Iterable[str]) -> dict[str, Any]:
    """Return `exports`, the declarative form of the same, with the classes that it lacks; order means nothing there."""
    missing = sorted(set(classes) - set(exports))
    return {**exports, **{name: {"type": "durable-object", "storage": "sqlite"} for name in missing}}


def related_classes(migrations: Iterable[Migration], classes: set[str]) -> set[str]:
    """Return `classes` and the names that they had before or were renamed to."""
    renames = [
        {rename["from"], rename["to"]} for migration in migrations for rename in _objects(migration, "renamed_classes")
    ]
    found = set(classes)
    while more := [pair for pair in renames if pair & found and not pair <= found]:
        found.update(*more)
    return found


def divide(migrations: Iterable[Migration], classes: set[str]) -> tuple[list[Migration], list[Migration]]:
    """Return the migrations of all other classes, and those of `classes`; a step for both stands in both, divided."""
    others: list[Migration] = []
    own: list[Migration] = []
    for migration in migrations:
        steps = {key: migration[key] for key in (*STEPS, *MOVES) if key in migration}
        taken = {key: [item for item in value if _class_of(item) in classes] for key, value in steps.items()}
        taken = {key: value for key, value in taken.items() if value}
        if not taken:
            others.append(migration)
            continue
        own.append({"tag": migration["tag"], **taken})
        left = {key: [item for item in steps[key] if item not in taken[key]] for key in taken}
        rest = {key: left.get(key, value) for key, value in migration.items() if left.get(key, value) != []}
        if rest.keys() - {"tag"}:
            others.append(rest)
    return others, own


def _class_of(item: Any) -> Any:
    return item.get("to") if isinstance(item, dict) else item


def _objects(migration: Migration, key: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = migration.get(key, [])
    return found


def _in_recorded_order(migrations: Sequence[Migration], recorded: Sequence[str]) -> list[Migration]:
    by_tag = {migration["tag"]: migration for migration in migrations}
    kept = [by_tag.get(tag) or _own_migration(tag) for tag in recorded]
    return [
        *(migration for migration in kept if migration is not None),
        *(migration for tag, migration in by_tag.items() if tag not in recorded),
    ]


def _own_migration(tag: str) -> Migration | None:
    match = _OWN_TAG.match(tag)
    return {"tag": tag, "new_sqlite_classes": [match[1]]} if match else None


def _free_tag(name: str, migrations: Iterable[Migration]) -> str:
    taken = {migration["tag"] for migration in migrations}
    tag, number = f"flue-class-{name}", 2
    while tag in taken:
        tag, number = f"flue-class-{name}-{number}", number + 1
    return tag

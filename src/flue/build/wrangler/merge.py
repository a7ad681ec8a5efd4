"""Merges what a build adds into a user's Wrangler configuration.

The result is new data; the user's stays as it is. What changes on the way is listed in
docs/reference/cloudflare-config.md, and nothing else does: every other key passes through untouched, in its order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flue.build.wrangler.additions import FIRST_DATE, Additions
from flue.build.wrangler.blocks import blocks, copied, object_exports, path_in, records, text_list
from flue.build.wrangler.check import problems_in
from flue.build.wrangler.lifecycle import created_classes, with_created, with_exported
from flue.build.wrangler.sandbox_worker import SandboxWorker, split_sandboxes
from flue.errors import ConfigError

SCHEMA = "https://workers.cloudflare.com/schema/wrangler.json"


@dataclass(frozen=True, slots=True)
class Merged:
    """A merged configuration.

    `document` is that of the Worker, `sandboxes` the second Worker with the container classes, None without any.
    `notices` say what a user should know; `tags` are the migration tags in their order, by environment, to be recorded
    for the next build.
    """

    document: dict[str, Any]
    sandboxes: SandboxWorker | None
    notices: tuple[str, ...]
    tags: Mapping[str, tuple[str, ...]]


def merge_wrangler(user: Mapping[str, Any], additions: Additions, *, file: str = "wrangler.jsonc") -> Merged:
    """Return a user's configuration with what Flue adds; an empty one is fine. `file` is named in errors.

    Raises `ConfigError` (`invalid_wrangler`) with everything that is wrong, each with the path of its key.
    """
    given = copied(user)
    problems = problems_in(given, additions)
    if problems:
        raise ConfigError(
            f"{file} cannot be used: {'; '.join(problems)}.",
            code="invalid_wrangler",
            hint="docs/reference/cloudflare-config.md lists what Flue merges and what it refuses.",
        )
    notices = list(_notices(given, additions))
    document = {"$schema": SCHEMA, **given}
    document.setdefault("name", worker_name(additions.default_name))
    for environment, block in blocks(document):
        _merge_block(block, environment, additions)
    declarative = any(object_exports(block) for _, block in blocks(document))
    document, sandboxes = split_sandboxes(document, additions)
    _add_classes(document, additions, declarative=declarative)
    if sandboxes:
        notices += sandboxes.notices
    return Merged(document, sandboxes, tuple(notices), _tags(document))


def worker_name(text: str) -> str:
    """Return a Worker's name made of `text`, such as a folder's name; `flue-agents` where nothing of it can be used."""
    return re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-") or "flue-agents"


def _merge_block(block: dict[str, Any], environment: str, additions: Additions) -> None:
    block["main"] = additions.main
    if "compatibility_date" in block or not environment:
        block["compatibility_date"] = max(block.get("compatibility_date") or FIRST_DATE, FIRST_DATE)
    if "compatibility_flags" in block or not environment:
        flags = block.get("compatibility_flags", [])
        block["compatibility_flags"] = [*flags, *({"python_workers"} - set(flags))]
    if additions.bytecode and not environment:
        block.setdefault("python_modules", {"exclude": []})
    if block.get("unsafe") == {}:
        del block["unsafe"]


def _add_classes(document: dict[str, Any], additions: Additions, *, declarative: bool) -> None:
    names = [found.class_name for found in additions.classes]
    for environment, block in blocks(document):
        objects = block.setdefault("durable_objects", {})
        bound = {binding["name"] for _, binding in records(block, "durable_objects", "bindings")}
        objects["bindings"] = [
            *objects.get("bindings", []),
            *(
                {"name": found.binding, "class_name": found.class_name}
                for found in additions.classes
                if found.binding not in bound
            ),
        ]
        # Environments inherit both, so one that declares neither gets the top level's.
        if declarative and ("exports" in block or not environment):
            block["exports"] = with_exported(block.get("exports", {}), names)
        elif not declarative and ("migrations" in block or not environment):
            recorded = additions.recorded.get(environment, ())
            block["migrations"] = with_created(block.get("migrations", []), names, recorded)


def _tags(document: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    return {
        environment: tuple(migration["tag"] for _, migration in records(block, "migrations"))
        for environment, block in blocks(document)
        if "migrations" in block
    }


def _notices(given: dict[str, Any], additions: Additions) -> Iterator[str]:
    if "fetch" in additions.own.python:
        yield "cloudflare.py: its function fetch is never called, as requests are answered by app.py"
    for environment, block in blocks(given):
        for key, notice in _block_notices(block, additions):
            yield f"{path_in(environment, key)}: {notice}"
        missing = [binding["name"] for _, binding in records(given, "durable_objects", "bindings")]
        if environment and missing and "durable_objects" not in block:
            path = path_in(environment, "durable_objects")
            yield f"{path}: environments do not inherit bindings, so this one is without {', '.join(missing)}"


def _block_notices(block: Mapping[str, Any], additions: Additions) -> Iterator[tuple[str, str]]:
    date = block.get("compatibility_date")
    if date and date < FIRST_DATE:
        yield "compatibility_date", f"raised from {date} to {FIRST_DATE}, the first with Python 3.14"
    if block.get("main", additions.main) != additions.main:
        yield "main", f"{block['main']} is replaced by the Worker that Flue generates"
    _, key_value = created_classes([migration for _, migration in records(block, "migrations")])
    for found in additions.classes:
        if found.class_name in key_value:
            problem = f"{found.class_name} is created with key-value storage, but Flue needs SQLite"
            yield "migrations", f"{problem}: rename the file, or delete the class and its data in a migration first"
    modules = block.get("python_modules")
    excluded = text_list(modules.get("exclude")) if isinstance(modules, dict) else []
    if additions.bytecode and any(pattern.endswith(".pyc") for pattern in excluded):
        yield (
            "python_modules.exclude",
            "leaves compiled modules out, so that the Worker starts slower and needs more memory",
        )

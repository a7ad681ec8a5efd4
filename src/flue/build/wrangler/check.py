"""Everything in a user's Wrangler configuration that Flue cannot build on, with the path of each key.

Only what Flue itself reads or changes is checked; the rest is Wrangler's.
"""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from flue.build.wrangler.additions import SANDBOX_SUFFIX, Additions
from flue.build.wrangler.blocks import blocks, local_bindings, object_exports, path_in, records, text_list
from flue.build.wrangler.lifecycle import MOVES, STEPS

# As Wrangler has it.
_WORKER_NAME = re.compile(r"[a-z0-9_][a-z0-9_-]*\Z")
_DATE = re.compile(r"\d{4}-\d\d-\d\d\Z")
# What would make Wrangler look for the Worker's modules elsewhere, or not at all.
_REFUSED_KEYS = ("base_dir", "pages_build_output_dir")


def problems_in(document: dict[str, Any], additions: Additions) -> list[str]:
    """Return all problems, each beginning with the path of its key; none means that the document can be merged."""
    found = [*_environments(document), *_lifecycles(document)]
    for environment, block in blocks(document):
        for key, problem in _block(block, environment, additions):
            found.append(f"{path_in(environment, key)}: {problem}")
    return found


def _environments(document: dict[str, Any]) -> Iterator[str]:
    environments = document.get("env", {})
    if not isinstance(environments, dict):
        yield "env: must be an object"
        return
    yield from (f"env.{name}: must be an object" for name, block in environments.items() if not isinstance(block, dict))


def _lifecycles(document: dict[str, Any]) -> Iterator[str]:
    """Report migrations beside exports: Wrangler takes one or the other, and both are inherited by environments."""
    if not any(object_exports(block) for _, block in blocks(document)):
        return
    for environment, block in blocks(document):
        if block.get("migrations"):
            yield f"{path_in(environment, 'migrations')}: cannot stand beside `exports` that declare Durable Objects"


def _block(block: Mapping[str, Any], environment: str, additions: Additions) -> Iterator[tuple[str, str]]:
    yield from _name(block)
    yield from _compatibility(block)
    yield from (
        (key, "not possible here, since Flue generates the Worker: remove it") for key in _REFUSED_KEYS if key in block
    )
    if block.get("find_additional_modules") is False:
        yield "find_additional_modules", "must not be false: the Worker consists of many modules"
    yield from _durable_objects(block)
    yield from _classes(block, additions)
    yield from _foreign_names(block, additions)
    yield from _migrations(block)
    yield from _exports(block, additions)
    yield from _containers(block)
    yield from _workflows(block, additions)


def _name(block: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    name = block.get("name", "x")
    if not isinstance(name, str) or not _WORKER_NAME.match(name):
        yield "name", f"{_shown(name)} is not a Worker's name: lower-case letters, digits, hyphens and underscores"


def _compatibility(block: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    date = block.get("compatibility_date")
    if date is not None and not _is_date(date):
        yield "compatibility_date", f"{_shown(date)} is not a date written YYYY-MM-DD"
    flags = block.get("compatibility_flags", [])
    if text_list(flags) != flags:
        yield "compatibility_flags", "must be a list of texts"
    if "no_python_workers_314" in text_list(flags):
        yield (
            "compatibility_flags",
            "no_python_workers_314 switches off the Python that the Worker is built for: remove it",
        )


def _is_date(value: Any) -> bool:
    if not isinstance(value, str) or not _DATE.match(value):
        return False
    try:
        dt.date.fromisoformat(value)
    except ValueError:
        return False
    return True


def _list_of_objects(block: Mapping[str, Any], *keys: str) -> Iterator[tuple[str, str]]:
    path, value = ".".join(keys), block
    for key in keys[:-1]:
        value = value[key] if isinstance(value.get(key), dict) else {}
    items = value.get(keys[-1], [])
    if not isinstance(items, list):
        yield path, "must be a list"
        return
    yield from (
        (f"{path}[{index}]", "must be an object") for index, item in enumerate(items) if not isinstance(item, dict)
    )


def _durable_objects(block: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if not isinstance(block.get("durable_objects", {}), dict):
        yield "durable_objects", "must be an object"
    path = "durable_objects.bindings"
    yield from _list_of_objects(block, "durable_objects", "bindings")
    bindings = records(block, "durable_objects", "bindings")
    for index, binding in bindings:
        for key in ("name", "class_name"):
            if not isinstance(binding.get(key), str) or not binding[key]:
                yield f"{path}[{index}].{key}", "must be text that is not empty"
        if not isinstance(binding.get("script_name", ""), str):
            yield f"{path}[{index}].script_name", "must be text"
    yield from _twice(bindings, path, "name")


def _twice(items: list[tuple[int, dict[str, Any]]], path: str, key: str) -> Iterator[tuple[str, str]]:
    counts = Counter(item[key] for _, item in items if isinstance(item.get(key), str))
    for index, item in items:
        if isinstance(item.get(key), str) and counts[item[key]] > 1:
            yield f"{path}[{index}].{key}", f'"{item[key]}" stands there {counts[item[key]]} times'


def _classes(block: Mapping[str, Any], additions: Additions) -> Iterator[tuple[str, str]]:
    """Report bindings that Flue needs for itself, and classes that no module of the deployment has."""
    path = "durable_objects.bindings"
    reserved = {found.binding: found for found in additions.classes}
    for index, binding in records(block, "durable_objects", "bindings"):
        found = reserved.get(str(binding.get("name")))
        if found and (binding.get("class_name") != found.class_name or binding.get("script_name")):
            yield (
                f"{path}[{index}]",
                f'"{found.binding}" is the binding of Flue\'s own class {found.class_name} of this Worker',
            )
    for index, binding in local_bindings(block):
        if binding.get("name") not in reserved:
            yield from _owned(binding["class_name"], f"{path}[{index}].class_name", additions)
    for index, container in records(block, "containers"):
        if isinstance(container.get("class_name"), str) and additions.owner(container["class_name"]) == "package":
            yield from _owned(container["class_name"], f"containers[{index}].class_name", additions)


def _owned(name: str, path: str, additions: Additions) -> Iterator[tuple[str, str]]:
    own, owner = additions.own, additions.owner(name)
    if name in own.python and name in own.javascript:
        yield path, f"both cloudflare.py and {own.javascript_file} define {name}: rename one"
    elif owner == "flue" and name in own.python | own.javascript:
        yield path, f"{name} is the class of a Flue agent or workflow, and your own module defines it too: rename one"
    elif owner == "package" and not additions.sandbox_package:
        what = (
            f"{name} ends in {SANDBOX_SUFFIX}, so it is taken from @cloudflare/sandbox, for which no package.json asks"
        )
        yield path, f"{what}: run `npm install @cloudflare/sandbox`, or define {name} in cloudflare.py or cloudflare.js"
    elif owner == "unknown":
        yield (
            path,
            f"nothing defines {name}: write it in cloudflare.py or cloudflare.js, or name its Worker in script_name",
        )


def _foreign_names(block: Mapping[str, Any], additions: Additions) -> Iterator[tuple[str, str]]:
    reserved = {found.binding for found in additions.classes}
    yield from (
        (path, f'"{name}" is the name of a binding of Flue\'s own: choose another')
        for path, name in _binding_names(block)
        if name in reserved
    )


def _binding_names(block: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the names that a block puts into `env`, but for those of Durable Objects, each with its path."""
    variables = block.get("vars")
    yield from ((f"vars.{name}", name) for name in (variables if isinstance(variables, dict) else ()))
    for key, value in block.items():
        if isinstance(value, dict) and isinstance(value.get("binding"), str):
            yield f"{key}.binding", value["binding"]
        for index, item in records(block, key):
            # Two kinds of bindings say `name` where all others say `binding`.
            field = "name" if key in ("send_email", "ratelimits") else "binding"
            if isinstance(item.get(field), str):
                yield f"{key}[{index}].{field}", item[field]
    for path in (("queues", "producers", "binding"), ("unsafe", "bindings", "name"), ("logfwdr", "bindings", "name")):
        for index, item in records(block, *path[:2]):
            if isinstance(item.get(path[2]), str):
                yield f"{path[0]}.{path[1]}[{index}].{path[2]}", item[path[2]]


def _migrations(block: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield from _list_of_objects(block, "migrations")
    migrations = records(block, "migrations")
    for index, migration in migrations:
        path = f"migrations[{index}]"
        if not isinstance(migration.get("tag"), str) or not migration["tag"]:
            yield f"{path}.tag", "must be text that is not empty"
        for key in STEPS:
            if text_list(migration.get(key, [])) != migration.get(key, []):
                yield f"{path}.{key}", "must be a list of class names"
        for key in MOVES:
            yield from ((f"{path}.{place}", problem) for place, problem in _moves(migration, key))
    yield from _twice(migrations, "migrations", "tag")


def _moves(migration: Mapping[str, Any], key: str) -> Iterator[tuple[str, str]]:
    yield from _list_of_objects(migration, key)
    for index, move in records(migration, key):
        if not all(isinstance(move.get(end), str) for end in ("from", "to")):
            yield f"{key}[{index}]", "must have the class names `from` and `to`"


def _exports(block: Mapping[str, Any], additions: Additions) -> Iterator[tuple[str, str]]:
    exports = block.get("exports", {})
    if not isinstance(exports, dict):
        yield "exports", "must be an object"
        return
    yield from (
        (f"exports.{name}", "must be an object") for name, entry in exports.items() if not isinstance(entry, dict)
    )
    for found in additions.classes:
        entry = exports.get(found.class_name)
        if isinstance(entry, dict) and (
            entry.get("type") != "durable-object"
            or entry.get("storage") != "sqlite"
            or entry.get("state", "created") not in ("created", "expecting-transfer")
        ):
            yield (
                f"exports.{found.class_name}",
                "this class of Flue's must be a live durable-object with storage sqlite",
            )


def _containers(block: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield from _list_of_objects(block, "containers")
    for index, container in records(block, "containers"):
        for key in ("class_name", "name"):
            if not isinstance(container.get(key, ""), str):
                yield f"containers[{index}].{key}", "must be text"


def _workflows(block: Mapping[str, Any], additions: Additions) -> Iterator[tuple[str, str]]:
    for index, workflow in records(block, "workflows"):
        name = workflow.get("class_name")
        if isinstance(name, str) and name in additions.own.javascript and not workflow.get("script_name"):
            problem = f"{name} is in {additions.own.javascript_file}, whose classes may only be Durable Objects"
            yield (
                f"workflows[{index}].class_name",
                f"{problem}: write it in cloudflare.py, or name its Worker in script_name",
            )


def _shown(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else type(value).__name__

"""The parts of a Wrangler document: its top level and each `env.<name>`, and the lists of records in them.

Records that are not well formed are left out here; `wrangler_check` reports them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def copied(value: Any) -> Any:
    """Return a copy of JSON data in which no part stands twice, so that each may be changed by itself.

    `copy.deepcopy` would keep two environments made of one object together.
    """
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list) else value


def blocks(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield `("", top level)`, then `(name, block)` of each environment."""
    yield "", document
    environments = document.get("env")
    if isinstance(environments, dict):
        yield from ((name, block) for name, block in environments.items() if isinstance(block, dict))


def path_in(environment: str, key: str) -> str:
    """Return the path of a key as messages show it: `env.staging.migrations`."""
    return f"env.{environment}.{key}" if environment else key


def records(block: Mapping[str, Any], *keys: str) -> list[tuple[int, dict[str, Any]]]:
    """Return the objects in the list at `keys`, each with its index."""
    found: Any = block
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return (
        [(index, item) for index, item in enumerate(found) if isinstance(item, dict)] if isinstance(found, list) else []
    )


def local_bindings(block: Mapping[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """Return the Durable Object bindings of a block whose class belongs to this Worker, not to another one."""
    return [
        (index, binding)
        for index, binding in records(block, "durable_objects", "bindings")
        if isinstance(binding.get("class_name"), str) and not binding.get("script_name")
    ]


def object_exports(block: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the entries of `exports` that declare Durable Objects."""
    exports = block.get("exports")
    entries = exports.items() if isinstance(exports, dict) else ()
    return {name: entry for name, entry in entries if isinstance(entry, dict) and entry.get("type") == "durable-object"}


def text_list(value: Any) -> list[str]:
    """Return the texts of a list, nothing for anything else."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []

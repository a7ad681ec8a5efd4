"""One environment of a configuration, and a configuration for another folder.

Wrangler refuses a generated configuration that it is redirected to when that still has environments: it wants the
chosen one, already applied. What environments inherit is written down here as Wrangler 4.164 has it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from typing import Any

from flue.build.wrangler.blocks import copied
from flue.errors import ConfigError

INHERITED = frozenset(
    {
        "access",
        "account_id",
        "assets",
        "base_dir",
        "build",
        "cache",
        "compatibility_date",
        "compatibility_flags",
        "compliance_region",
        "exports",
        "find_additional_modules",
        "first_party_worker",
        "jsx_factory",
        "jsx_fragment",
        "keep_names",
        "limits",
        "logfwdr",
        "logpush",
        "main",
        "migrations",
        "minify",
        "no_bundle",
        "observability",
        "placement",
        "preserve_file_names",
        "preview_urls",
        "previews",
        "python_modules",
        "route",
        "routes",
        "rules",
        "triggers",
        "tsconfig",
        "upload_source_maps",
        "workers_dev",
    }
)
# What stands at the top level only and holds for all environments.
GLOBAL = frozenset(
    {
        "$schema",
        "addresses",
        "alias",
        "data_blobs",
        "dependencies_instrumentation",
        "dev",
        "keep_vars",
        "send_metrics",
        "site",
        "text_blobs",
        "wasm_modules",
    }
)


def select_environment(document: Mapping[str, Any], environment: str | None) -> dict[str, Any]:
    """Return the configuration that Wrangler would use for `environment`, without environments; None: the top level.

    Raises `ConfigError` (`invalid_wrangler`) when the document has environments, and this is none of them.
    """
    environments = document.get("env", {})
    top = {key: value for key, value in document.items() if key != "env"}
    origin = {"topLevelName": document["name"], "definedEnvironments": list(environments)} if environments else {}
    if environment is None:
        return {**copied(top), **origin}
    if environment not in environments:
        raise ConfigError(
            f'The Wrangler configuration has no environment "{environment}".',
            code="invalid_wrangler",
            hint=f"It has {', '.join(environments)}."
            if environments
            else f"Write an object env.{environment}, or none.",
        )
    block = environments[environment]
    kept = {key: value for key, value in top.items() if key in INHERITED | GLOBAL}
    merged = {**kept, "name": f"{document['name']}-{environment}", **block}
    if "route" in merged and "routes" in merged:
        # Wrangler deploys to `routes` when an environment ends up with both.
        del merged["route"]
    return {**copied(merged), **origin, "targetEnvironment": environment}


def relocate(document: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return a configuration that means the same from another folder.

    `prefix` is the relative path from that folder to the one the paths were written for, such as `..`. Every path of a
    user's is put behind it; `main` is left alone, being the build's.
    """

    def moved(path: Any) -> Any:
        # An absolute path stays: `join` begins anew at it.
        return posixpath.normpath(posixpath.join(prefix, path)) if isinstance(path, str) and path else path

    relocated: dict[str, Any] = copied(document)
    schema = relocated.get("$schema")
    if isinstance(schema, str) and "://" not in schema:
        relocated["$schema"] = moved(schema)
    for key in ("wasm_modules", "text_blobs", "data_blobs"):
        if isinstance(relocated.get(key), dict):
            relocated[key] = {name: moved(path) for name, path in relocated[key].items()}
    _change(relocated, "site", "bucket", moved)
    _relocate_block(relocated, moved)
    for block in relocated.get("env", {}).values():
        _relocate_block(block, moved)
    return relocated


def _relocate_block(block: dict[str, Any], moved: Callable[[Any], Any]) -> None:
    if "tsconfig" in block:
        block["tsconfig"] = moved(block["tsconfig"])
    _change(block, "assets", "directory", moved)
    _change(
        block, "build", "watch_dir", lambda paths: [*map(moved, paths)] if isinstance(paths, list) else moved(paths)
    )
    for database in _objects(block.get("d1_databases")):
        for key in database.keys() & {"migrations_dir", "migrations_pattern"}:
            database[key] = moved(database[key])
    for container in [*_objects(block.get("containers")), *_objects(_preview_containers(block))]:
        _relocate_container(container, moved)


def _relocate_container(container: dict[str, Any], moved: Callable[[Any], Any]) -> None:
    if "image" in container:
        container["image"] = _image(container["image"], moved)
    configuration = container.get("configuration")
    if isinstance(configuration, dict) and "image" in configuration:
        configuration["image"] = _image(configuration["image"], moved)
    if "image_build_context" in container:
        container["image_build_context"] = moved(container["image_build_context"])
    images = container.get("images")
    for image in _objects(list(images.values()) if isinstance(images, dict) else None):
        for key in image.keys() & {"dockerfile", "build_context"}:
            image[key] = moved(image[key])


def _image(image: Any, moved: Callable[[Any], Any]) -> Any:
    # An image in a registry has a tag or a digest after its last slash; everything else is a path to a Dockerfile.
    in_registry = isinstance(image, str) and ":" in image.rpartition("/")[2]
    return image if in_registry else moved(image)


def _preview_containers(block: Mapping[str, Any]) -> Any:
    previews = block.get("previews")
    return previews.get("containers") if isinstance(previews, dict) else None


def _change(block: dict[str, Any], key: str, inner: str, change: Callable[[Any], Any]) -> None:
    value = block.get(key)
    if isinstance(value, dict) and inner in value:
        value[inner] = change(value[inner])


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []

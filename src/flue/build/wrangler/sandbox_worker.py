"""The second Worker of a deployment: the classes that are written in JavaScript, container sandboxes above all.

A Python Worker cannot define the `Sandbox` class of `@cloudflare/sandbox`. A small JavaScript Worker of the same name
with `-sandboxes` after it does, and the bindings of the first Worker name it in `script_name`. The containers and the
lifecycle of those classes move with them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from flue.build.wrangler.additions import Additions
from flue.build.wrangler.blocks import blocks, local_bindings, object_exports, path_in, records
from flue.build.wrangler.lifecycle import created_classes, divide, related_classes

SUFFIX = "-sandboxes"
# What is true of the whole deployment. `vars` also configure the classes of @cloudflare/sandbox.
_SHARED = ("account_id", "compliance_region", "send_metrics", "logpush", "observability", "vars")
# How containers run in development. What the command line says of it reaches the first Worker only (wrangler 4.164.0).
_DEV = ("enable_containers", "container_engine")
# What a class of the user's own may reach through `env`.
_BINDINGS = (
    "secrets",
    "kv_namespaces",
    "r2_buckets",
    "d1_databases",
    "services",
    "secrets_store_secrets",
    "hyperdrive",
    "vectorize",
    "ai",
    "browser",
    "images",
    "analytics_engine_datasets",
    "ratelimits",
    "send_email",
    "mtls_certificates",
    "vpc_services",
    "vpc_networks",
)


# What handles a container's traffic is found by the name of its class, where setters of @cloudflare/containers put it.
# A static field of a class hides those setters, also the field of a class that it extends (seen with 0.3.7).
_REGISTER = """
for (const found of [%s]) {
  for (const name of ['outbound', 'outboundByHost', 'outboundHandlers']) {
    let holder = found;
    while (holder && !Object.getOwnPropertyDescriptor(holder, name)?.set) holder = Object.getPrototypeOf(holder);
    if (holder && found[name]) Object.getOwnPropertyDescriptor(holder, name).set.call(found, found[name]);
  }
}
"""


@dataclass(frozen=True, slots=True)
class SandboxWorker:
    """The second Worker: its configuration, what its entry exports, and what a user should know.

    `sandboxes` are the classes that are `@cloudflare/sandbox`'s own, `own` those of the user's cloudflare.js; `proxy`
    says which of the two has the class that outgoing traffic goes through, None when neither has.
    """

    document: dict[str, Any]
    sandboxes: tuple[str, ...]
    own: tuple[str, ...]
    proxy: Literal["package", "own"] | None
    notices: tuple[str, ...]

    def entry(self, module: str) -> str:
        """Return the text of its entry; `module` is how that imports the user's cloudflare.js."""
        lines = []
        if self.proxy == "package":
            lines.append("export { ContainerProxy } from '@cloudflare/sandbox';")
        if self.sandboxes:
            lines.append("import * as sandbox from '@cloudflare/sandbox';")
        # Each is a class of its own: one name for several would make one's outbound handlers (SBX-15) those of all.
        lines += [f"export class {name} extends sandbox.Sandbox {{}}" for name in self.sandboxes]
        if exported := [*self.own, *(["ContainerProxy"] if self.proxy == "own" else [])]:
            lines.append(f"export {{ {', '.join(exported)} }} from {json.dumps(module)};")
        if self.own:
            lines.append(f"import * as own from {json.dumps(module)};")
            lines.append(_REGISTER.strip() % ", ".join(f"own.{name}" for name in self.own))
        # Wrangler takes a module for a Worker only if it has a default export; nobody calls this one.
        lines.append("export default { fetch: () => new Response(null, { status: 404 }) };")
        return "\n".join(lines) + "\n"


def split_sandboxes(document: dict[str, Any], additions: Additions) -> tuple[dict[str, Any], SandboxWorker | None]:
    """Return the first Worker's configuration without the JavaScript classes, and the Worker that has them, if any."""
    live = _javascript_classes(document, additions)
    if not live:
        return document, None
    moved = live | _former_classes(document, live, additions)
    own = bool(live & additions.own.javascript)
    first, part = _divided(document, moved, _script(document, ""), own=own)
    second = {**_head(document, additions), **part}
    if isinstance(document.get("env"), dict):
        first["env"], second["env"] = {}, {}
        for name, block in document["env"].items():
            script = _script(document, name)
            first["env"][name], part = _divided(block, moved, script, own=own)
            second["env"][name] = {"name": script, **_flags(block), **part}
    written = additions.own.javascript
    classes = tuple(sorted(live - written)), tuple(sorted(live & written))
    return first, SandboxWorker(second, *classes, _proxy(additions), tuple(_notices(second, live)))


def _javascript_classes(document: dict[str, Any], additions: Additions) -> set[str]:
    """Return the classes that bindings and containers name."""
    named = [
        found.get("class_name")
        for _, block in blocks(document)
        for _, found in [*local_bindings(block), *records(block, "containers")]
    ]
    return {name for name in named if isinstance(name, str) and additions.is_javascript(name)}


def _former_classes(document: dict[str, Any], live: set[str], additions: Additions) -> set[str]:
    """Return what else the lifecycles know of: earlier names of the classes, and container classes long gone."""
    migrations = [migration for _, block in blocks(document) for _, migration in records(block, "migrations")]
    steps = [item for migration in migrations for step in migration.values() if isinstance(step, list) for item in step]
    listed = {item for item in steps if isinstance(item, str)}
    listed.update(name for _, block in blocks(document) for name in object_exports(block))
    return related_classes(migrations, live | {name for name in listed if additions.is_javascript(name)})


def _script(document: dict[str, Any], environment: str) -> str:
    """Return the second Worker's name, from the name that Wrangler gives the first one in an environment."""
    name = document["name"]
    if environment:
        name = document["env"][environment].get("name", f"{name}-{environment}")
    return f"{name}{SUFFIX}"


def _head(document: dict[str, Any], additions: Additions) -> dict[str, Any]:
    given = document.get("dev")
    dev = {key: given[key] for key in _DEV if key in given} if isinstance(given, dict) else {}
    return {
        "$schema": document["$schema"],
        "name": _script(document, ""),
        "main": additions.sandboxes_main,
        **_flags(document),
        # It answers no requests: the first Worker reaches its classes through bindings.
        "workers_dev": False,
        "preview_urls": False,
        **({"dev": dev} if dev else {}),
    }


def _flags(block: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "compatibility_date" in block:
        found["compatibility_date"] = block["compatibility_date"]
    if "compatibility_flags" in block:
        flags = [flag for flag in block["compatibility_flags"] if "python" not in flag]
        # The package needs Node's modules.
        found["compatibility_flags"] = [*flags, *({"nodejs_compat"} - set(flags))]
    return found


def _divided(
    block: Mapping[str, Any], moved: set[str], script: str, *, own: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a block of the first Worker's configuration, and what the same block of the second one gets."""
    first = dict(block)
    second = {key: block[key] for key in (*_SHARED, *(_BINDINGS if own else ())) if key in block}
    bindings = [binding for _, binding in local_bindings(block) if binding["class_name"] in moved]
    if bindings:
        all_bindings = block["durable_objects"]["bindings"]
        named = [{**binding, "script_name": script} if binding in bindings else binding for binding in all_bindings]
        first["durable_objects"] = {**block["durable_objects"], "bindings": named}
        second["durable_objects"] = {"bindings": bindings}
    if "migrations" in block:
        first["migrations"], second["migrations"] = divide(block["migrations"], moved)
    if "exports" in block:
        first["exports"] = {name: entry for name, entry in block["exports"].items() if name not in moved}
        second["exports"] = {name: entry for name, entry in block["exports"].items() if name in moved}
    _divide_containers(block, moved, first, second)
    return first, second


def _divide_containers(
    block: Mapping[str, Any], moved: set[str], first: dict[str, Any], second: dict[str, Any]
) -> None:
    # A container belongs to a class by its own `class_name`, or by its name in the class's entry of `exports`.
    names = {
        entry["container"]
        for name, entry in object_exports(block).items()
        if name in moved and isinstance(entry.get("container"), str)
    }
    containers = block.get("containers", [])
    taken = [found for found in containers if found.get("class_name") in moved or found.get("name") in names]
    if taken:
        second["containers"] = taken
        first["containers"] = [found for found in containers if found not in taken]
        if not first["containers"]:
            del first["containers"]


def _proxy(additions: Additions) -> Literal["package", "own"] | None:
    if "ContainerProxy" in additions.own.javascript:
        return "own"
    return "package" if additions.sandbox_package else None


def _notices(second: dict[str, Any], live: set[str]) -> Iterator[str]:
    top = records(second, "migrations")
    for environment, block in blocks(second):
        migrations = records(block, "migrations") if "migrations" in block else top
        exports = block.get("exports", second.get("exports", {}))
        created = set().union(*created_classes([migration for _, migration in migrations])) | set(exports)
        for _, binding in local_bindings(block):
            if binding["class_name"] in live - created:
                name = binding["class_name"]
                yield f'{path_in(environment, "migrations")}: none creates {name}; add "new_sqlite_classes": ["{name}"]'

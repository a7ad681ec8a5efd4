"""A project on its way to Cloudflare: all that a build and the development server write, before either writes it."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flue.build.cloudflare.bundle import Bundle, bundle_module, read_bundle
from flue.build.cloudflare.entry import entry_module
from flue.build.cloudflare.node import Pyodide, find_pyodide
from flue.build.cloudflare.own_modules import own_modules
from flue.build.cloudflare.vendor import Vendored, vendor
from flue.build.cloudflare.worker_lock import WorkerLock, lock_worker
from flue.build.own_wheel import installed
from flue.build.wrangler.additions import Additions
from flue.build.wrangler.blocks import blocks, local_bindings, records
from flue.build.wrangler.environment import relocate, select_environment
from flue.build.wrangler.file import has_sandbox_package, read_own_exports, read_wrangler_file
from flue.build.wrangler.jsonc import write_jsonc
from flue.build.wrangler.merge import Merged, merge_wrangler
from flue.build.wrangler.record import read_record
from flue.cloudflare.names import durable_classes
from flue.project.config import Config
from flue.project.layout import Layout

WORKER, SANDBOXES = "worker", "sandboxes"
CONFIG = "wrangler.json"
_MAIN = "src/entry.py"
_BUNDLE = "src/flue_bundle.py"
_LIBRARIAN = "demo/librarian"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a project's Workers consist of.

    `environment` is the one of the Wrangler file that they are for, None for its top level. `pyodide` is what compiled
    the modules, None where they are sources.
    """

    layout: Layout
    environment: str | None
    additions: Additions
    merged: Merged
    document: dict[str, Any]
    bundle: Bundle
    lock: WorkerLock
    vendored: Vendored
    pyodide: Pyodide | None

    @property
    def notices(self) -> tuple[str, ...]:
        """Return what a user should know."""
        return (*self.lock.notices, *self.merged.notices)

    def texts(self, place: Path, *, selected: bool = False) -> dict[str, str]:
        """Return the files of both Workers for a folder `place`, by their paths in it; packages are not among them.

        The second Worker's configuration has all environments, of which Wrangler is told one, unless `selected`.
        """
        own = self.additions.own.python
        files = {
            f"{WORKER}/{_MAIN}": entry_module(self.additions.classes, self._own_classes()),
            f"{WORKER}/{_BUNDLE}": bundle_module(self.bundle, self.layout, own, installed().version),
            f"{WORKER}/{CONFIG}": write_jsonc(relocate(self.document, self._way_from(place / WORKER))),
        }
        sandboxes = self.merged.sandboxes
        if sandboxes is not None:
            way = self._way_from(place / SANDBOXES)
            document = select_environment(sandboxes.document, self.environment) if selected else sandboxes.document
            files[f"{SANDBOXES}/{CONFIG}"] = write_jsonc(relocate(document, way))
            module = posixpath.join(way, self.additions.own.javascript_file or "")
            files[f"{SANDBOXES}/{self.additions.sandboxes_main}"] = sandboxes.entry(module)
        return files

    def _own_classes(self) -> set[str]:
        """Return the classes of the user's `cloudflare.py` that the configuration binds."""
        named: list[object] = []
        for _, block in blocks(self.merged.document):
            named += [binding["class_name"] for _, binding in local_bindings(block)]
            named += [item.get("class_name") for _, item in records(block, "workflows") if not item.get("script_name")]
        return {name for name in named if isinstance(name, str) and self.additions.owner(name) == "python"}

    def _way_from(self, folder: Path) -> str:
        return Path(os.path.relpath(self.layout.root, folder)).as_posix()


def plan_worker(
    layout: Layout,
    config: Config,
    *,
    environment: str | None,
    tell: Callable[[str], None],
    without: Iterable[Path] = (),
    before: Path | None = None,
) -> Plan:
    """Read a project and find its packages.

    `without` are files that must not go in, whatever their names; `before` is an earlier build's lock; `tell` is told
    what takes long. Raises `ConfigError`: `invalid_wrangler`, `invalid_name`, `duplicate_name`, `lock_failed`,
    `no_worker_wheel`, `cannot_compile`, `cannot_write`, `not_installed`.
    """
    root = layout.root
    pyodide = find_pyodide(root)
    merged, additions = _merge(layout, bytecode=pyodide is not None)
    document = select_environment(merged.document, environment)
    bundle = read_bundle(layout, config, without=[*without, *_assets(document, root)])
    lock = lock_worker(root, before=before)
    vendored = vendor(lock, own_modules(librarian=bundle.mentions(_LIBRARIAN)), pyodide, tell)
    return Plan(layout, environment, additions, merged, document, bundle, lock, vendored, pyodide)


def _assets(document: dict[str, Any], root: Path) -> list[Path]:
    """Return the folder of static files, which go to Cloudflare by themselves."""
    assets = document.get("assets")
    directory = assets.get("directory") if isinstance(assets, dict) else None
    return [root / directory] if isinstance(directory, str) else []


def _merge(layout: Layout, *, bytecode: bool) -> tuple[Merged, Additions]:
    root = layout.root
    file = read_wrangler_file(root)
    additions = Additions(
        classes=durable_classes(
            {name: layout.shown(path) for name, path in layout.agents.items()},
            {name: layout.shown(path) for name, path in layout.workflows.items()},
        ),
        main=_MAIN,
        default_name=root.name,
        own=read_own_exports(layout.source_root, root),
        sandbox_package=has_sandbox_package(root),
        bytecode=bytecode,
        recorded=read_record(root),
    )
    merged = merge_wrangler(file.document if file else {}, additions, file=file.name if file else "wrangler.jsonc")
    return merged, additions

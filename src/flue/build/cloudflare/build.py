"""Builds a project for Cloudflare: a folder from which Wrangler deploys.

    dist/
      worker/
        wrangler.json       the user's configuration with what Flue adds
        src/entry.py        the Worker's main module: its classes
        src/flue_bundle.py  the project's files
        python_modules/     packages for the Worker's platform, and Flue
      sandboxes/            the second Worker, where there are JavaScript classes
      requirements.txt      what python_modules holds, with hashes

The same input gives the same bytes. The user's files are never changed; beside them lie `flue.migrations.json`, and
what points Wrangler to the build (`flue.build.cloudflare.deployment`).
"""

from __future__ import annotations

import os
import posixpath
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from flue.build.cloudflare.additions import Additions
from flue.build.cloudflare.blocks import blocks, local_bindings, records
from flue.build.cloudflare.bundle import Bundle, bundle_module, read_bundle
from flue.build.cloudflare.deployment import check_modules_link, point_wrangler
from flue.build.cloudflare.entry import entry_module
from flue.build.cloudflare.jsonc import write_jsonc
from flue.build.cloudflare.node import Pyodide, find_pyodide
from flue.build.cloudflare.own_modules import own_modules
from flue.build.cloudflare.record import RECORD, read_record, write_record
from flue.build.cloudflare.vendor import MODULES, Size, Vendored, size_of, vendor
from flue.build.cloudflare.worker_lock import WorkerLock, lock_worker
from flue.build.cloudflare.wrangler_env import relocate, select_environment
from flue.build.cloudflare.wrangler_file import has_sandbox_package, read_own_exports, read_wrangler_file
from flue.build.cloudflare.wrangler_merge import Merged, merge_wrangler
from flue.build.output import check_output, earlier, write_output
from flue.build.own_wheel import installed
from flue.cloudflare.names import durable_classes
from flue.project.config import Config
from flue.project.layout import Layout

WORKER, SANDBOXES = "worker", "sandboxes"
_LOCK = "requirements.txt"
_MAIN = "src/entry.py"
_LIBRARIAN = "demo/librarian"


@dataclass(frozen=True, slots=True)
class Built:
    """What a build consists of, and what a user should know of it."""

    bundle: Bundle
    lock: WorkerLock
    vendored: Vendored
    size: Size
    pyodide: Pyodide | None
    merged: Merged
    environment: str | None
    notices: tuple[str, ...]


def build(layout: Layout, config: Config, *, environment: str | None = None, without: Collection[Path] = ()) -> Built:
    """Build a project into the output folder, which is replaced when all is there.

    `environment` is the one of the Wrangler file to build for, None for its top level. `without` are files that must
    not go in, whatever their names. Raises `ConfigError`: `invalid_wrangler`, `invalid_name`, `duplicate_name`,
    `lock_failed`, `no_worker_wheel`, `cannot_compile`, `output_not_ours`, `cannot_write`, `not_installed`.
    """
    root = config.root
    check_output(config)
    check_modules_link(root)
    pyodide = find_pyodide(root)
    merged, additions = _merge(layout, bytecode=pyodide is not None)
    chosen = select_environment(merged.document, environment)
    bundle = read_bundle(layout, without=[config.output, *without])
    lock = lock_worker(root, before=earlier(config, _LOCK))
    vendored = vendor(lock, own_modules(librarian=bundle.mentions(_LIBRARIAN)), pyodide)
    sizes: list[Size] = []

    def write(folder: Path) -> None:
        worker = folder / WORKER
        (worker / "src").mkdir(parents=True)
        (worker / _MAIN).write_text(entry_module(additions.classes, _own_classes(merged, additions)), encoding="utf-8")
        text = bundle_module(bundle, layout, additions.own.python, installed().version)
        (worker / "src" / "flue_bundle.py").write_text(text, encoding="utf-8")
        sizes.append(vendored.size + size_of(worker / "src"))
        shutil.copytree(vendored.folder, worker / MODULES)
        prefix = _relative(root, config.output / WORKER)
        (worker / "wrangler.json").write_text(write_jsonc(relocate(chosen, prefix)), encoding="utf-8")
        (folder / _LOCK).write_text(lock.text, encoding="utf-8")
        if merged.sandboxes is not None:
            _write_sandboxes(folder / SANDBOXES, merged, additions, _relative(root, config.output / SANDBOXES))

    write_output(config, write)
    notices = [*lock.notices, *merged.notices]
    if write_record(root, merged.tags):
        notices.append(f"{RECORD} has the order of the migrations now: commit it")
    notices += point_wrangler(root, config.output / WORKER)
    return Built(bundle, lock, vendored, sizes[0], pyodide, merged, environment, tuple(notices))


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


def _own_classes(merged: Merged, additions: Additions) -> set[str]:
    """Return the classes of the user's `cloudflare.py` that the configuration binds."""
    named: list[object] = []
    for _, block in blocks(merged.document):
        named += [binding["class_name"] for _, binding in local_bindings(block)]
        named += [item.get("class_name") for _, item in records(block, "workflows") if not item.get("script_name")]
    return {name for name in named if isinstance(name, str) and additions.owner(name) == "python"}


def _write_sandboxes(folder: Path, merged: Merged, additions: Additions, prefix: str) -> None:
    sandboxes = merged.sandboxes
    assert sandboxes is not None
    folder.mkdir()
    # Wrangler is told of this one by name, and then chooses the environment itself.
    (folder / "wrangler.json").write_text(write_jsonc(relocate(sandboxes.document, prefix)), encoding="utf-8")
    module = posixpath.join(prefix, additions.own.javascript_file or "")
    (folder / additions.sandboxes_main).write_text(sandboxes.entry(module), encoding="utf-8")


def _relative(root: Path, folder: Path) -> str:
    return Path(os.path.relpath(root, folder)).as_posix()

"""The part of `flue build` that is for Cloudflare: checks the project, builds it, and says how large it became."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from flue.build.cloudflare.build import SANDBOXES, WORKER, Built, build
from flue.build.cloudflare.deployment import missing_ignores
from flue.build.cloudflare.measuring import Measured, measure_worker
from flue.cli.build import tell_left_out, tell_notices
from flue.errors import ConfigError
from flue.messages import Json
from flue.project.config import Config
from flue.project.layout import find_layout, shown
from flue.project.loader import build_schemas, load_project
from flue.serve.logs import say
from flue.serve.source import Source

ENVIRONMENT = "CLOUDFLARE_ENV"
# What can be imported in a Worker only.
_ONLY_THERE = {"_pyodide", "_workers_sdk", "asgi", "js", "pyodide", "pyodide_js", "workers"}
# developers.cloudflare.com/workers/platform/limits
_UPLOAD_LIMIT = 64 * 2**20
_HEAP_LIMIT = 128 * 2**20
_MIB = 2**20


def build_worker(source: Source, config: Config, env: Mapping[str, str], without: list[Path], *, cwd: Path) -> Json:
    """Build a project's Worker, say what was built on stderr, and return it as data."""
    layout = find_layout(config.root, target="cloudflare")
    unchecked = _check(config)
    built = build(layout, config, environment=env.get(ENVIRONMENT) or None, without=without)
    measured = measure_worker(config.output / WORKER, built.pyodide) if built.pyodide else Measured()
    size = built.size
    kept = ", kept from an earlier build" if built.vendored.cached else ""
    say(f"Locked {built.lock.packages} packages for the Worker's Python{kept}")
    notices = tell_notices([*unchecked, *built.notices, *_size_notices(built, measured)])
    left_out = tell_left_out(built.bundle.secrets, built.bundle.links)
    upload = f"{size.raw / _MIB:.1f} MiB of {_UPLOAD_LIMIT // _MIB} ({size.gzip / _MIB:.1f} as gzip)"
    say(f"Upload: {upload}, {size.files} modules")
    if measured.heap:
        memory = f"{measured.heap / _MIB:.0f} MiB of {_HEAP_LIMIT // _MIB}"
        say(f"Memory: {memory} once imported, before anything is asked; {measured.modules} modules loaded")
    ignores = missing_ignores(config.root, config.output)
    if ignores:
        say(f"Add to .gitignore: {' '.join(ignores)}")
    return {
        "environment": built.environment,
        "packages": built.lock.packages,
        "files": len(built.bundle.files),
        "bytecode": built.pyodide is not None,
        "upload": {"modules": size.files, "bytes": size.raw, "gzipBytes": size.gzip, "limitBytes": _UPLOAD_LIMIT},
        "memory": {"importedBytes": measured.heap, "limitBytes": _HEAP_LIMIT} if measured.heap else None,
        "leftOut": left_out,
        "notices": notices,
        "next": [_deploy(built, shown(config.output, cwd))],
    }


def _check(config: Config) -> list[str]:
    """Import the project's modules, which finds mistakes; return a notice where that is possible in a Worker only."""
    try:
        project = load_project(config=config)
    except ConfigError as error:
        cause = error.__cause__
        if isinstance(cause, ModuleNotFoundError) and (cause.name or "").partition(".")[0] in _ONLY_THERE:
            return [f"{error.message} Only a Worker has that, so the modules were not checked."]
        raise
    try:
        build_schemas(project)
    finally:
        project.unload()
    return []


def _size_notices(built: Built, measured: Measured) -> list[str]:
    notices = []
    if built.pyodide is None:
        notices.append("Modules go up as sources, which need more memory: npm install -D pyodide@314 has them compiled")
    if built.size.raw > _UPLOAD_LIMIT:
        notices.append(f"The Worker is larger than Cloudflare takes: {built.size.raw / _MIB:.1f} MiB")
    if measured.problem:
        notices.append(f"The Worker's main module cannot be imported under Pyodide: {measured.problem}")
    return notices


def _deploy(built: Built, folder: str) -> str:
    deploy = "npx wrangler deploy"
    if built.merged.sandboxes is None:
        return deploy
    environment = f" --env {built.environment}" if built.environment else ""
    return f"{deploy} -c {folder}/{SANDBOXES}/wrangler.json{environment} && {deploy}"

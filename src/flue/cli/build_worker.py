"""The part of `flue build` that is for Cloudflare: checks the project, builds it, and says how large it became."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from flue.build.cloudflare.build import Built, build
from flue.build.cloudflare.checking import load_here
from flue.build.cloudflare.deployment import missing_ignores
from flue.build.cloudflare.measuring import Measured, measure_worker
from flue.build.cloudflare.node import why_no_pyodide
from flue.build.cloudflare.plan import CONFIG, SANDBOXES, WORKER
from flue.cli.build import tell_left_out, tell_notices
from flue.messages import Json
from flue.project.config import Config
from flue.project.layout import find_layout, shown
from flue.serve.logs import say
from flue.serve.source import Source

ENVIRONMENT = "CLOUDFLARE_ENV"
# developers.cloudflare.com/workers/platform/limits
_UPLOAD_LIMIT = 64 * 2**20
_HEAP_LIMIT = 128 * 2**20
_MIB = 2**20
_MANY_BYTES = 8 * _MIB


def build_worker(source: Source, config: Config, env: Mapping[str, str], without: list[Path], *, cwd: Path) -> Json:
    """Build a project's Worker, say what was built on stderr, and return it as data."""
    layout = find_layout(config.root, target="cloudflare")
    project, unchecked = load_here(config)
    if project is not None:
        project.unload()
    built = build(layout, config, environment=env.get(ENVIRONMENT) or None, without=without, tell=say)
    plan, size = built.plan, built.size
    measured = measure_worker(config.output / WORKER, plan.pyodide) if plan.pyodide else Measured()
    kept = ", kept from an earlier build" if plan.vendored.cached else ""
    say(f"Locked {plan.lock.packages} packages for the Worker's Python{kept}")
    notices = tell_notices([*unchecked, *built.notices, *_size_notices(built, measured)])
    left_out = tell_left_out(plan.bundle.secrets, plan.bundle.links)
    upload = f"{size.raw / _MIB:.1f} MiB of {_UPLOAD_LIMIT // _MIB} ({size.gzip / _MIB:.1f} as gzip)"
    say(f"Upload: {upload}, {size.files} modules")
    if measured.heap:
        memory = f"{measured.heap / _MIB:.0f} MiB of {_HEAP_LIMIT // _MIB}"
        say(f"Memory: {memory} once imported, before anything is asked; {measured.modules} modules loaded")
    ignores = missing_ignores(config.root, config.output)
    if ignores:
        say(f"Add to .gitignore: {' '.join(ignores)}")
    return {
        "environment": plan.environment,
        "packages": plan.lock.packages,
        "files": len(plan.bundle.files),
        "bytecode": plan.pyodide is not None,
        "upload": {"modules": size.files, "bytes": size.raw, "gzipBytes": size.gzip, "limitBytes": _UPLOAD_LIMIT},
        "memory": {"importedBytes": measured.heap, "limitBytes": _HEAP_LIMIT} if measured.heap else None,
        "leftOut": left_out,
        "notices": notices,
        "next": [_deploy(built, shown(config.output, cwd))],
    }


def _size_notices(built: Built, measured: Measured) -> list[str]:
    notices = []
    plan = built.plan
    if plan.pyodide is None:
        needed = why_no_pyodide(plan.layout.root)
        notices.append(
            f"Modules go up as sources, which need more memory and time at the start. To compile them: {needed}"
        )
    files = sum(map(len, plan.bundle.files.values()))
    if files > _MANY_BYTES:
        notices.append(f"The project's files are {files / _MIB:.0f} MiB, all of which lie in the Worker's memory")
    if built.size.raw > _UPLOAD_LIMIT:
        notices.append(f"The Worker is larger than Cloudflare takes: {built.size.raw / _MIB:.1f} MiB")
    if measured.problem:
        notices.append(f"The Worker's main module cannot be imported under Pyodide: {measured.problem}")
    return notices


def _deploy(built: Built, folder: str) -> str:
    deploy = "npx wrangler deploy"
    plan = built.plan
    if plan.merged.sandboxes is None:
        return deploy
    environment = f" --env {plan.environment}" if plan.environment else ""
    return f"{deploy} -c {folder}/{SANDBOXES}/{CONFIG}{environment} && {deploy}"

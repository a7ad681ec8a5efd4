"""The packages that a Worker carries: each with its version and the hash of the one wheel that fits there.

pip resolves them for the Worker's platform, from the project's own dependencies and what Flue needs there. That is less
than on a server: a Worker is called by its platform instead of an HTTP server, and calls out through it.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from flue.build.cloudflare import target_pip
from flue.build.cloudflare.missing_wheels import no_wheel
from flue.build.dependencies import (
    dependencies_of,
    find_uv,
    lock_failed,
    normalised,
    run_resolver,
    try_resolver,
    write_lines,
)
from flue.build.own_wheel import NAME, installed, write_name_wheel
from flue.errors import ConfigError

# Of what Flue itself depends on (with the extra `server`), what is used in a Worker.
NEEDED = ("bashkit", "cronsim", "pydantic", "starlette")
# Beside those: Cloudflare's own modules `workers` and `asgi`; and of what Starlette depends on, versions that can be
# imported there (anyio 4.15.1 imports the module of sub-interpreters, which Pyodide does not have).
ONLY_THERE = ("anyio<4.15.1", "workers-runtime-sdk>=1.9,<2")
# Two platforms: bashkit's wheel has the older tag, and runs. Requires-Python is not judged, because pip would take the
# Python that it runs in for the one to judge.
WHEEL_OPTIONS = (
    "--only-binary=:all:",
    "--platform=pyemscripten_2026_0_wasm32",
    "--platform=pyemscripten_2025_0_wasm32",
    "--python-version=3.14",
    "--implementation=cp",
    "--abi=cp314",
    "--abi=abi3",
    "--abi=none",
    "--ignore-requires-python",
    "--disable-pip-version-check",
    "--no-input",
)
_HEAD = "# Written by flue build: what the Worker carries, for Python 3.14 on WebAssembly."
_ASKED = "# Resolved from: "
_PIN = re.compile(r"^([A-Za-z0-9._-]+)(==\S+| @ \S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class WorkerLock:
    """The text of a requirements file that pins everything with hashes, and notices for the user."""

    text: str
    notices: tuple[str, ...] = ()

    @property
    def packages(self) -> int:
        """Return how many packages it pins."""
        return len(_PIN.findall(self.text))


def pip_for_worker() -> list[str]:
    """Return the command that runs pip for a Worker. Raises `ConfigError` (`missing_package`) without pip and uv."""
    uv = find_uv()
    if find_spec("pip") is not None:
        python = [sys.executable]
    elif uv is not None:
        python = [uv, "run", "--quiet", "--no-project", "--with", "pip", "python"]
    else:
        raise ConfigError(
            "A build for Cloudflare needs pip, which this environment does not have.",
            code="missing_package",
            hint="Run: python -m ensurepip",
        )
    return [*python, "-P", target_pip.__file__]


def lock_worker(project: Path, *, before: Path | None) -> WorkerLock:
    """Resolve what a project's Worker needs.

    `before` is the lock of an earlier build: it is taken as it is while nothing that was asked for has changed, and its
    versions are kept as far as they still fit. Raises `ConfigError`: `lock_failed`, `no_worker_wheel`, `not_installed`.
    """
    own = installed()
    asked = dependencies_of(project)
    locked = project / "uv.lock"
    uv_lock = locked.read_text(encoding="utf-8") if locked.is_file() else ""
    digest = _digest([own.version, *needed(own), *_texts(asked), uv_lock, *WHEEL_OPTIONS])
    text = before.read_text(encoding="utf-8") if before is not None else ""
    if f"{_ASKED}{digest}\n" in text:
        return WorkerLock(text)
    with tempfile.TemporaryDirectory() as folder:
        question = _Question(project, asked, own, Path(folder))
        found, notices = question.answer(_pins_of_uv(uv_lock) or _pins_of(text))
    lines = sorted(filter(None, map(_pin, found)), key=str.lower)
    return WorkerLock("\n".join([_HEAD, f"{_ASKED}{digest}", *lines, ""]), (*notices, *_unsuitable(found)))


def needed(own: Distribution) -> list[str]:
    """Return the requirements of Flue itself in a Worker, with the versions that it was made for."""
    specified = {}
    for requirement in own.requires or ():
        text = requirement.partition(";")[0].strip()
        specified[normalised(re.split(r"[^A-Za-z0-9._-]", text)[0])] = text
    return [*(specified.get(name, name) for name in NEEDED), *ONLY_THERE]


@dataclass(frozen=True, slots=True)
class _Question:
    project: Path
    asked: list[str] | Path
    own: Distribution
    scratch: Path

    def answer(self, constraints: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
        """Return what pip would install; without the constraints, and with a notice, where nothing fits them."""
        # Who depends on Flue gets what Flue is in a Worker: a package with this name and these needs.
        write_name_wheel(self.own, self.scratch, needed(self.own))
        report = self.scratch / "report.json"
        command = [*pip_for_worker(), "install", "--dry-run", "--ignore-installed", "--target", str(self.scratch / "t")]
        command += [*WHEEL_OPTIONS, "--report", str(report), "--find-links", str(self.scratch), NAME]
        file = self.asked if isinstance(self.asked, Path) else self.scratch / "project.in"
        if not isinstance(self.asked, Path):
            write_lines(file, self.asked)
        command += ["--requirement", str(file)]
        notices = []
        done = None
        if constraints:
            kept = write_lines(self.scratch / "kept.txt", constraints)
            done = try_resolver([*command, "--constraint", str(kept)], cwd=self.project)
            if done.returncode:
                notices.append("Not all versions that were locked before fit a Worker: other ones were taken.")
        if done is None or done.returncode:
            done = try_resolver(command, cwd=self.project)
        if done.returncode:
            raise no_wheel(done.stdout + done.stderr, self._has_wheel) or lock_failed(done.stderr or done.stdout)
        found: list[dict[str, Any]] = json.loads(report.read_text(encoding="utf-8"))["install"]
        return found, notices

    def _has_wheel(self, name: str) -> bool:
        command = [*pip_for_worker(), "install", "--dry-run", "--ignore-installed", "--quiet", "--no-deps"]
        command += ["--target", str(self.scratch / "t"), *WHEEL_OPTIONS, "--find-links", str(self.scratch)]
        return try_resolver([*command, name], cwd=self.project).returncode == 0


def install_lock(lock: WorkerLock, folder: Path) -> None:
    """Install what a lock pins into a folder, checked against its hashes. Raises `ConfigError` (`lock_failed`)."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "requirements.txt")
        file.write_text(lock.text, encoding="utf-8")
        command = [*pip_for_worker(), "install", "--quiet", "--target", str(folder), "--no-deps", "--no-compile"]
        run_resolver([*command, "--require-hashes", *WHEEL_OPTIONS, "--requirement", str(file)])


def _pin(item: Mapping[str, Any]) -> str | None:
    metadata, source = item["metadata"], item["download_info"]
    name = str(metadata["name"])
    if normalised(name) == NAME:
        return None
    archive = source.get("archive_info")
    hashes = archive.get("hashes") if isinstance(archive, dict) else None
    if not isinstance(hashes, dict) or "sha256" not in hashes:
        raise ConfigError(
            f"{name!r} cannot be locked: it comes from no package index.",
            code="lock_failed",
            hint="Publish it, or copy its modules into the project.",
        )
    version = f" @ {source['url']}" if item.get("is_direct") else f"=={metadata['version']}"
    return f"{name}{version} \\\n    --hash=sha256:{hashes['sha256']}"


def _unsuitable(items: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    for item in items:
        requires = str(item["metadata"].get("requires_python") or "")
        if re.search(r"<=?\s*3\.(\d|1[0-3])\b|<\s*3\.14\b", requires):
            yield f"{item['metadata']['name']} is not made for the Worker's Python 3.14: it asks for {requires}"


def _pins_of(text: str) -> list[str]:
    """Return the pins of an earlier lock, as constraints."""
    return [f"{name}{version}" for name, version in _PIN.findall(text) if version.startswith("==")]


def _pins_of_uv(text: str) -> list[str]:
    """Return what a uv.lock pins, but for packages that it has in several versions (for several platforms)."""
    packages = tomllib.loads(text).get("package", []) if text else []
    named: dict[str, list[str]] = {}
    for package in packages:
        if "registry" in package.get("source", {}):
            named.setdefault(package["name"], []).append(package["version"])
    return [f"{name}=={versions[0]}" for name, versions in named.items() if len(versions) == 1]


def _texts(asked: list[str] | Path) -> list[str]:
    return [asked.read_text(encoding="utf-8")] if isinstance(asked, Path) else asked


def _digest(texts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:32]

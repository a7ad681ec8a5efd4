"""The packages that a Worker carries: each with its version and the hash of the one wheel that fits there.

pip resolves them for the Worker's platform, from the project's own dependencies and what Flue needs there. That is less
than on a server: a Worker is called by its platform instead of an HTTP server, and calls out through it.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

from flue.build.cloudflare.resolving import WHEEL_OPTIONS, Question, pip_for_worker
from flue.build.dependencies import (
    dependencies_of,
    normalised,
    run_resolver,
)
from flue.build.own_wheel import NAME, installed, write_name_wheel
from flue.errors import ConfigError

# Of what Flue itself depends on (with the extra `server`), what is used in a Worker.
NEEDED = ("bashkit", "cronsim", "pydantic", "starlette")
# Beside those: Cloudflare's own modules `workers` and `asgi`; and of what Starlette depends on, versions that can be
# imported there (anyio 4.15.1 imports the module of sub-interpreters, which Pyodide does not have).
ONLY_THERE = ("anyio<4.15.1", "workers-runtime-sdk>=1.9,<2")
_HEAD = "# Written by flue build: what the Worker carries, for Python 3.14 on WebAssembly."
_ASKED = "# Resolved from: "
_INCLUDED = re.compile(r"^(?:-[rc]|--requirement|--constraint)[ =]*(\S+)", re.MULTILINE)
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
        # Who depends on Flue gets what Flue is in a Worker: a package with this name and these needs.
        write_name_wheel(own, Path(folder), needed(own))
        question = Question([NAME], asked, project, Path(folder))
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


def install_lock(lock: WorkerLock, folder: Path) -> None:
    """Install what a lock pins into a folder, checked against its hashes (BLD-02).

    Raises `ConfigError` (`lock_failed`).
    """
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
    """Return all that is asked for, with the files that a requirements file names."""
    if not isinstance(asked, Path):
        return asked
    text = asked.read_text(encoding="utf-8")
    others = [asked.parent / name for name in _INCLUDED.findall(text)]
    return [text, *(line for other in others if other.is_file() and other != asked for line in _texts(other))]


def _digest(texts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:32]

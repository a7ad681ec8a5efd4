"""The folder `python_modules` of a Worker: its packages and Flue itself, as bytecode where that can be made.

It is made once for each lock, version of Flue and compiler, and kept in the user's cache.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from flue.build.cloudflare.node import Pyodide, node_environment
from flue.build.cloudflare.worker_lock import WorkerLock, install_lock
from flue.build.output import copy_file
from flue.errors import ConfigError

MODULES = "python_modules"
_COMPILER = Path(__file__).with_name("compile.mjs")
_FORMAT = "1"
_COMPILE_SECONDS = 300
_KEPT_SECONDS = 60 * 86_400
# What pip installs and no Worker reads: commands, types, and pip's own notes, which are not true any more.
_DROPPED = ("*.pyi", "py.typed")
_DROPPED_NOTES = ("RECORD", "INSTALLER", "REQUESTED", "WHEEL", "direct_url.json")


@dataclass(frozen=True, slots=True)
class Size:
    """What goes up: files, bytes, and bytes as gzip makes them."""

    files: int
    raw: int
    gzip: int

    def __add__(self, other: Size) -> Size:
        return Size(self.files + other.files, self.raw + other.raw, self.gzip + other.gzip)


@dataclass(frozen=True, slots=True)
class Vendored:
    """A folder to copy as `python_modules`, its size, and whether it was there already."""

    folder: Path
    size: Size
    cached: bool


def cache_folder() -> Path:
    """Return where builds keep what they can use again: `FLUE_CACHE_DIR`, else the user's cache."""
    own, user = os.environ.get("FLUE_CACHE_DIR"), os.environ.get("XDG_CACHE_HOME")
    return Path(own) if own else Path(user or Path.home() / ".cache") / "flue"


def vendor(
    lock: WorkerLock, modules: Mapping[str, Path], pyodide: Pyodide | None, tell: Callable[[str], None]
) -> Vendored:
    """Return the folder for a lock and Flue's own modules; made now, and `tell` told of it, unless the cache has it.

    With `pyodide` it holds bytecode, else sources. Raises `ConfigError`: `lock_failed`, `cannot_compile`,
    `cannot_write`.
    """
    cache = cache_folder() / "worker-modules"
    place = cache / _key(lock, modules, pyodide)
    try:
        if (place / "size.json").is_file():
            os.utime(place)
            return Vendored(place / MODULES, Size(**json.loads((place / "size.json").read_text())), cached=True)
        tell("Installing the Worker's packages; the next build has them")
        cache.mkdir(parents=True, exist_ok=True)
        _forget_old(cache)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".new-") as scratch:
            fresh = Path(scratch, "fresh")
            size = _make(fresh / MODULES, lock, modules, pyodide)
            (fresh / "size.json").write_text(json.dumps(asdict(size)))
            with suppress(OSError):  # another build was first, with the same
                fresh.rename(place)
    except OSError as error:
        raise ConfigError(
            f"{cache} cannot be written: {error.strerror or error}.",
            code="cannot_write",
            hint="Make room, or choose another folder with FLUE_CACHE_DIR.",
        ) from error
    return Vendored(place / MODULES, size, cached=False)


def size_of(folder: Path) -> Size:
    """Return the size of everything below a folder."""
    files = raw = packed = 0
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            files, raw, packed = files + 1, raw + len(data), packed + len(gzip.compress(data, 6))
    return Size(files, raw, packed)


def _make(folder: Path, lock: WorkerLock, modules: Mapping[str, Path], pyodide: Pyodide | None) -> Size:
    folder.mkdir(parents=True)
    install_lock(lock, folder)
    shutil.rmtree(folder / "bin", ignore_errors=True)
    for pattern in (*_DROPPED, *(f"*.dist-info/{name}" for name in _DROPPED_NOTES)):
        for path in [*folder.rglob(pattern)]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name, path in modules.items():
        if path.suffix != ".pyi" and path.name != "py.typed":
            copy_file(path, folder / name)
    if pyodide is not None:
        _compile(folder, pyodide)
    return size_of(folder)


def _compile(folder: Path, pyodide: Pyodide) -> None:
    command = [pyodide.node.program, str(_COMPILER), str(pyodide.folder), str(folder)]
    try:
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, timeout=_COMPILE_SECONDS, check=False, env=node_environment()
        )
        said = done.stderr if done.returncode else ""
    except subprocess.TimeoutExpired:
        said = f"it took longer than {_COMPILE_SECONDS} s"
    if said:
        raise ConfigError(
            f"The Worker's modules cannot be compiled: {' '.join(said.split())[:600]}",
            code="cannot_compile",
            hint="Check Node and the package pyodide; without that package, sources are built instead.",
        )


def _key(lock: WorkerLock, modules: Mapping[str, Path], pyodide: Pyodide | None) -> str:
    digest = hashlib.sha256()
    compiler = "none" if pyodide is None else pyodide.version + _COMPILER.read_text(encoding="utf-8")
    pins = [line for line in lock.text.splitlines() if not line.startswith("#")]
    for part in (_FORMAT, compiler, *pins):
        digest.update(f"{part}\0".encode())
    for name, path in modules.items():
        data = path.read_bytes()
        digest.update(f"{name}\0{len(data)}\0".encode())
        digest.update(data)
    return digest.hexdigest()[:32]


def _forget_old(cache: Path) -> None:
    for entry in cache.iterdir():
        if entry.is_dir() and entry.stat().st_mtime < time.time() - _KEPT_SECONDS:
            shutil.rmtree(entry, ignore_errors=True)

"""Wheels that hold next to nothing, for builds that ask no package index."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

PURE = "py3-none-any"
NEW = "cp314-cp314-pyemscripten_2026_0_wasm32"
OLD = "cp39-abi3-pyemscripten_2025_0_wasm32"
LINUX = "cp311-cp311-manylinux_2_17_x86_64"


def write_wheel(
    folder: Path,
    name: str,
    version: str,
    *,
    tag: str = PURE,
    requires: Iterable[str] = (),
    files: Mapping[str, bytes] | None = None,
    python: str = "",
) -> Path:
    """Write a wheel with these files, by default one module of the package's name."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    metadata += [f"Requires-Dist: {requirement}" for requirement in requires]
    metadata += [f"Requires-Python: {python}"] if python else []
    contents = dict(files) if files is not None else {f"{module}/__init__.py": f"VERSION = '{version}'\n".encode()}
    contents[f"{info}/METADATA"] = "\n".join([*metadata, ""]).encode()
    contents[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n".encode()
    digests = {
        path: base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        for path, data in contents.items()
    }
    record = [f"{path},sha256={digest},{len(contents[path])}" for path, digest in digests.items()]
    contents[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""]).encode()
    wheel = folder / f"{module}-{version}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, data in contents.items():
            archive.writestr(path, data)
    return wheel


def write_index(folder: Path) -> None:
    """Write what a Worker of Flue's needs: the names, tags and dependencies of the real packages."""
    write_wheel(folder, "annotated-types", "0.8.0")
    write_wheel(folder, "anyio", "4.15.0", requires=["idna>=2.8", "trio>=1; extra == 'trio'"])
    write_wheel(folder, "bashkit", "0.20.1", tag=OLD, files={"bashkit/_bashkit.abi3.so": b"\0asm"})
    write_wheel(folder, "cronsim", "2.8")
    write_wheel(folder, "idna", "3.20")
    write_wheel(folder, "pydantic", "2.14.3", requires=["annotated-types", "pydantic-core==2.50.4"])
    write_wheel(folder, "pydantic-core", "2.50.4", tag=NEW, files={"pydantic_core/_pydantic_core.so": b"\0asm"})
    write_wheel(folder, "starlette", "1.0.1", requires=["anyio>=4", "typing-extensions; python_version < '3.13'"])
    sdk = {"workers/__init__.py": b"", "workers/py.typed": b"", "workers/types.pyi": b"", "workers/workflows.js": b"//"}
    write_wheel(folder, "workers-runtime-sdk", "1.9.5", files=sdk)

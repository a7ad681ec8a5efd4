"""Flue itself as a wheel, made of what is installed: for builds on machines whose Flue comes from no package index.

The format is that of packaging.python.org/specifications/binary-distribution-format.
"""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from flue.errors import ConfigError

NAME = "flue-agents"
_FIRST_DATE = (1980, 1, 1, 0, 0, 0)
_WHEEL = "Wheel-Version: 1.0\nGenerator: flue build\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def installed() -> Distribution:
    """Return the installed distribution. Raises `ConfigError` (`not_installed`) when Flue runs from a bare folder."""
    try:
        return distribution(NAME)
    except PackageNotFoundError as error:
        raise ConfigError(
            "Flue is not installed here, only importable; a build has to know its version and what it needs.",
            code="not_installed",
            hint=f"Install {NAME} with pip or uv.",
        ) from error


def is_from_index(own: Distribution) -> bool:
    """Say whether it was installed by name from a package index (packaging.python.org/specifications/direct-url)."""
    return own.read_text("direct_url.json") is None


def write_wheel(own: Distribution, folder: Path) -> Path:
    """Write the wheel; the same installation gives the same bytes."""
    package = Path(__file__).parents[1]
    stem = f"{NAME.replace('-', '_')}-{own.version}"
    contents = {
        path.relative_to(package.parent).as_posix(): path.read_bytes()
        for path in sorted(package.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    for name in ("METADATA", "entry_points.txt"):
        contents[f"{stem}.dist-info/{name}"] = (own.read_text(name) or "").encode()
    return _write(folder, stem, contents)


def write_name_wheel(own: Distribution, folder: Path, requires: Iterable[str]) -> Path:
    """Write a wheel without modules that says it is Flue and needs `requires`: what a resolver is given elsewhere.

    Its version counts as newer than the same one from an index.
    """
    version = f"{own.version}{'.' if '+' in own.version else '+'}build"
    stem = f"{NAME.replace('-', '_')}-{version}"
    lines = ["Metadata-Version: 2.1", f"Name: {NAME}", f"Version: {version}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    return _write(folder, stem, {f"{stem}.dist-info/METADATA": "\n".join([*lines, ""]).encode()})


def _write(folder: Path, stem: str, contents: dict[str, bytes]) -> Path:
    contents[f"{stem}.dist-info/WHEEL"] = _WHEEL.encode()
    record = f"{stem}.dist-info/RECORD"
    lines = [f"{name},sha256={_digest(data)},{len(data)}" for name, data in contents.items()]
    contents[record] = "\n".join([*lines, f"{record},,", ""]).encode()
    wheel = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents.items():
            entry = zipfile.ZipInfo(name, _FIRST_DATE)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return wheel


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
